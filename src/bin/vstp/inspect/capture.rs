//! Captures: pcap and pcapng, down to the payload of UDP datagrams and of TCP streams.
//!
//! Not a general dissector: of the layers below, what finds the payload and nothing else is looked at. IP fragments are
//! left out. Every length is checked against what is there; a packet that lies is skipped.

use super::flow::Flow;
use crate::exit::{self, Failure};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Bytes of all streams together; a capture of more is a mistake.
const MAX_STREAMS_LEN: usize = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }

    fn len(self, bytes: &[u8], at: usize) -> Option<usize> {
        usize::try_from(self.u32(bytes, at)?).ok()
    }
}

const SECTION: u32 = 0x0a0d_0d0a;

/// The byte order of a pcap file: with microseconds or nanoseconds.
fn pcap_order(bytes: &[u8]) -> Option<Order> {
    let is_magic = |magic| matches!(magic, Some(0xa1b2_c3d4 | 0xa1b2_3c4d));
    [Order::Little, Order::Big]
        .into_iter()
        .find(|order| is_magic(order.u32(bytes, 0)))
}

pub(super) fn is_capture(bytes: &[u8]) -> bool {
    pcap_order(bytes).is_some() || Order::Little.u32(bytes, 0) == Some(SECTION)
}

/// The flows of a capture: each datagram, and each direction of each connection.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Flow>, Failure> {
    let mut flows = Flows::default();
    let complete = match pcap_order(bytes) {
        Some(order) => pcap(bytes, order, &mut flows),
        None if is_capture(bytes) => pcapng(bytes, &mut flows),
        None => {
            let text = "this is neither pcap nor pcapng";
            return Err(Failure::new(exit::PROTOCOL, text));
        }
    };
    if complete.is_none() && flows.datagrams.is_empty() && flows.streams.is_empty() {
        return Err(Failure::new(
            exit::PROTOCOL,
            "the capture is cut or damaged",
        ));
    }
    Ok(flows.finish())
}

fn pcap(bytes: &[u8], order: Order, flows: &mut Flows) -> Option<()> {
    let link = order.u32(bytes, 20)? & 0xffff;
    let mut at = 24;
    while at < bytes.len() {
        let len = order.len(bytes, at + 8)?;
        let packet = bytes.get(at + 16..)?.get(..len)?;
        flows.packet(link, packet);
        at += 16 + len;
    }
    Some(())
}

fn pcapng(bytes: &[u8], flows: &mut Flows) -> Option<()> {
    let mut order = Order::Little;
    let mut links: Vec<u32> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let block = &bytes[at..];
        let typ = Order::Little.u32(block, 0)?;
        if typ == SECTION {
            order = match Order::Little.u32(block, 8)? {
                0x1a2b_3c4d => Order::Little,
                _ => Order::Big,
            };
            links.clear();
        }
        let len = order.len(block, 4)?;
        let body = block.get(8..len.checked_sub(4)?)?;
        match order.u32(block, 0)? {
            1 => links.push(u32::from(order.u16(body, 0)?)),
            6 => {
                let interface = order.len(body, 0)?;
                let captured = order.len(body, 12)?;
                let packet = body.get(20..)?.get(..captured)?;
                if let Some(link) = links.get(interface) {
                    flows.packet(*link, packet);
                }
            }
            3 => {
                let original = order.len(body, 0)?;
                let packet = body.get(4..)?;
                if let Some(link) = links.first() {
                    flows.packet(*link, &packet[..original.min(packet.len())]);
                }
            }
            _ => {}
        }
        at += len;
    }
    Some(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Direction {
    from: SocketAddr,
    to: SocketAddr,
}

/// One direction of a connection, its segments put in order.
#[derive(Debug, Default)]
struct Stream {
    /// When its first segment came, among everything.
    order: usize,
    next: Option<u32>,
    bytes: Vec<u8>,
    /// Segments that are ahead, by their distance from the first byte.
    ahead: BTreeMap<u32, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Flows {
    count: usize,
    len: usize,
    datagrams: Vec<(usize, Flow)>,
    streams: BTreeMap<Direction, Stream>,
}

impl Flows {
    fn packet(&mut self, link: u32, packet: &[u8]) {
        // What is not IP, or lies about its lengths, is not ours.
        let _ = self.link(link, packet);
    }

    fn link(&mut self, link: u32, packet: &[u8]) -> Option<()> {
        let ip = match link {
            // Ethernet, with VLAN tags.
            1 => {
                let mut at = 12;
                while matches!(Order::Big.u16(packet, at)?, 0x8100 | 0x88a8) {
                    at += 4;
                }
                packet.get(at + 2..)?
            }
            // Loopback of BSD, 4 bytes of address family.
            0 | 108 => packet.get(4..)?,
            // Linux "cooked", both versions.
            113 => packet.get(16..)?,
            276 => packet.get(20..)?,
            // Bare IP.
            12 | 14 | 101 | 228 | 229 => packet,
            _ => return None,
        };
        match ip.first()? >> 4 {
            4 => self.ipv4(ip),
            6 => self.ipv6(ip),
            _ => None,
        }
    }

    fn ipv4(&mut self, ip: &[u8]) -> Option<()> {
        let header_len = usize::from(ip.first()? & 0x0f) * 4;
        let total = usize::from(Order::Big.u16(ip, 2)?);
        // Offloaded segments are captured with the length 0.
        let end = if total == 0 {
            ip.len()
        } else {
            total.min(ip.len())
        };
        let is_fragment = Order::Big.u16(ip, 6)? & 0x3fff != 0;
        let protocol = *ip.get(9)?;
        let address =
            |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let (from, to) = (address(12)?, address(16)?);
        if is_fragment || header_len < 20 {
            return None;
        }
        self.transport(protocol, from, to, ip.get(header_len..end)?)
    }

    fn ipv6(&mut self, ip: &[u8]) -> Option<()> {
        let len = usize::from(Order::Big.u16(ip, 4)?);
        let address = |at: usize| {
            Some(IpAddr::from(
                <[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?,
            ))
        };
        let (from, to) = (address(8)?, address(24)?);
        let end = if len == 0 {
            ip.len()
        } else {
            (40 + len).min(ip.len())
        };
        self.transport(*ip.get(6)?, from, to, ip.get(40..end)?)
    }

    fn transport(&mut self, protocol: u8, from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<()> {
        let direction = Direction {
            from: SocketAddr::new(from, Order::Big.u16(bytes, 0)?),
            to: SocketAddr::new(to, Order::Big.u16(bytes, 2)?),
        };
        match protocol {
            17 => {
                let payload = bytes.get(8..)?;
                let len = usize::from(Order::Big.u16(bytes, 4)?).saturating_sub(8);
                self.datagram(direction, &payload[..len.min(payload.len())]);
            }
            6 => {
                let header_len = usize::from(bytes.get(12)? >> 4) * 4;
                let is_syn = bytes.get(13)? & 0x02 != 0;
                let sequence = Order::Big.u32(bytes, 4)?;
                self.segment(direction, sequence, is_syn, bytes.get(header_len..)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn datagram(&mut self, direction: Direction, payload: &[u8]) {
        self.count += 1;
        if payload.starts_with(b"V") {
            let flow = Flow {
                title: format!("UDP {} > {}", direction.from, direction.to),
                bytes: payload.to_vec(),
                is_datagram: true,
            };
            self.datagrams.push((self.count, flow));
        }
    }

    fn segment(&mut self, direction: Direction, sequence: u32, is_syn: bool, payload: &[u8]) {
        self.count += 1;
        let order = self.count;
        let stream = self.streams.entry(direction).or_insert_with(|| Stream {
            order,
            ..Stream::default()
        });
        if is_syn {
            stream.next = Some(sequence.wrapping_add(1));
        }
        if payload.is_empty() || self.len + payload.len() > MAX_STREAMS_LEN {
            return;
        }
        self.len += payload.len();
        let next = *stream.next.get_or_insert(sequence);
        stream.ahead.insert(sequence, payload.to_vec());
        stream.next = Some(next);
        stream.advance();
    }

    fn finish(self) -> Vec<Flow> {
        let mut all = self.datagrams;
        for (direction, stream) in self.streams {
            // Whether it is ours shows at its beginning; TLS and everything else is left out.
            if stream.bytes.starts_with(b"V") {
                let flow = Flow {
                    title: format!("TCP {} > {}", direction.from, direction.to),
                    bytes: stream.bytes,
                    is_datagram: false,
                };
                all.push((stream.order, flow));
            }
        }
        all.sort_by_key(|(order, _)| *order);
        all.into_iter().map(|(_, flow)| flow).collect()
    }
}

impl Stream {
    /// Takes what continues the bytes; segments that were sent twice are cut.
    fn advance(&mut self) {
        while let Some(next) = self.next {
            // The distance decides what is old, as sequence numbers wrap around.
            let behind = |sequence: u32| next.wrapping_sub(sequence);
            let found = self
                .ahead
                .iter()
                .find(|(sequence, bytes)| behind(**sequence) as usize <= bytes.len())
                .map(|(sequence, _)| *sequence);
            let Some(sequence) = found else { return };
            let Some(bytes) = self.ahead.remove(&sequence) else {
                return;
            };
            let fresh = &bytes[behind(sequence) as usize..];
            self.bytes.extend_from_slice(fresh);
            self.next = Some(next.wrapping_add(fresh.len() as u32));
        }
    }
}
