//! The dissector `wireshark/vstp.lua` beside the decoder: tshark reads captures that are made here, and
//! must say of each frame what the library says. Skipped, and said so, where there is no tshark.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{TlsClientConfig, TlsServerConfig, dev};
use vstp::net::udp::UdpConfig;
use vstp::serve::{DualPeer, HandlerError};
use vstp::wire::{self, Flags, Frame, FrameType, Limits, Trailer};
use vstp::{VstpDualServer, VstpTcpClient, VstpTcpServer, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";
const WAIT: Duration = Duration::from_secs(20);
const PORT: u16 = 6969;

// What is captured.

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A capture file of IPv4 packets between 192.0.2.1 (client) and 192.0.2.2 (server).
struct Capture {
    bytes: Vec<u8>,
    count: u32,
    sent: [u32; 2],
    port: u16,
}

impl Capture {
    fn new(port: u16) -> Self {
        let mut bytes = Vec::new();
        // pcap 2.4, snapshot length, link type 101: raw IP.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x0004_0000, 101_u32] {
            bytes.extend(word.to_le_bytes());
        }
        Self {
            bytes,
            count: 0,
            sent: [1, 1],
            port,
        }
    }

    /// A segment or datagram from the client (0) or the server (1).
    fn add(&mut self, protocol: Protocol, from: usize, payload: &[u8]) {
        let ports = [40_000, self.port];
        let (source, target) = (ports[from], ports[1 - from]);
        let mut packet = Vec::new();
        let (number, header_len) = match protocol {
            Protocol::Tcp => (6_u8, 20),
            Protocol::Udp => (17, 8),
        };
        let len = 20 + header_len + payload.len();
        packet.extend([0x45, 0]);
        packet.extend(u16::try_from(len).unwrap().to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, number, 0, 0]);
        packet.extend([192, 0, 2, 1 + from as u8, 192, 0, 2, 2 - from as u8]);
        packet.extend(source.to_be_bytes());
        packet.extend(target.to_be_bytes());
        match protocol {
            Protocol::Tcp => {
                packet.extend(self.sent[from].to_be_bytes());
                packet.extend(self.sent[1 - from].to_be_bytes());
                packet.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
                self.sent[from] += payload.len() as u32;
            }
            Protocol::Udp => {
                packet.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
                packet.extend([0, 0]);
            }
        }
        packet.extend_from_slice(payload);
        self.count += 1;
        for word in [1_700_000_000, self.count, len as u32, len as u32] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.bytes.extend(packet);
    }

    /// A stream in segments of changing sizes, so that frames begin and end anywhere.
    fn add_stream(&mut self, from: usize, mut stream: &[u8]) {
        let mut step = 1;
        while !stream.is_empty() {
            step = step * 7 % 1399 + 1;
            let (segment, rest) = stream.split_at(step.min(stream.len()));
            self.add(Protocol::Tcp, from, segment);
            stream = rest;
        }
    }

    /// What tshark says of these fields: a line for each packet.
    fn fields(&self, name: &str, fields: &[&str]) -> Vec<Vec<String>> {
        self.fields_with(name, fields, &[])
    }

    fn fields_with(&self, name: &str, fields: &[&str], options: &[&str]) -> Vec<Vec<String>> {
        let path = std::env::temp_dir().join(format!("vstp-{}-{name}.pcap", std::process::id()));
        fs::write(&path, &self.bytes).unwrap();
        let mut tshark = Command::new("tshark");
        tshark.args(["-r"]).arg(&path).arg("-X");
        tshark.arg(format!("lua_script:{}", script().display()));
        tshark.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]);
        for field in fields {
            tshark.args(["-e", field]);
        }
        tshark.args(options);
        let output = tshark.output().unwrap();
        fs::remove_file(&path).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert!(!errors.contains("Lua"), "{errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text.lines().map(|line| line.split('|'));
        rows.map(|row| row.map(str::to_owned).collect()).collect()
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wireshark/vstp.lua")
}

/// Whether there is a tshark with Lua; says when there is not.
fn has_tshark() -> bool {
    let version = Command::new("tshark").arg("--version").output();
    let has = version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("Lua"));
    if !has {
        println!("skipped: no tshark with Lua; install it with: apt-get install tshark");
    }
    has
}

/// All values of a field, in the order of the capture.
fn column(rows: &[Vec<String>], index: usize) -> Vec<String> {
    let cells = rows.iter().filter_map(|row| row.get(index));
    let cells = cells.filter(|cell| !cell.is_empty());
    cells
        .flat_map(|cell| cell.split(';'))
        .map(str::to_owned)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const FIELDS: [&str; 9] = [
    "vstp.type",
    "vstp.flags",
    "vstp.headers_length",
    "vstp.payload_length",
    "vstp.length",
    "vstp.crc",
    "vstp.header.key",
    "vstp.header.value",
    "vstp.payload",
];

/// What the decoder says of bytes that are whole frames, in the form of [`FIELDS`].
fn expected(mut bytes: &[u8], columns: &mut [Vec<String>; 9]) {
    let limits = Limits {
        max_frame_len: 128 << 20,
        ..Limits::default()
    };
    while !bytes.is_empty() {
        let decoded = wire::decode(bytes, Trailer::Always, &limits).unwrap();
        let wire::Decoded::Frame(frame, len) = decoded else {
            panic!("a frame is cut");
        };
        let headers: usize = frame
            .headers
            .iter()
            .map(|h| 2 + h.key.len() + h.value.len())
            .sum();
        columns[0].push(format!("0x{:02x}", frame.typ.as_u8()));
        columns[1].push(format!("0x{:02x}", frame.flags.bits()));
        columns[2].push(headers.to_string());
        columns[3].push(frame.payload.len().to_string());
        columns[4].push(len.to_string());
        columns[5].push(format!("0x{}", hex(&bytes[len - 4..len])));
        for header in frame.headers.iter() {
            for (column, part) in [(6, header.key), (7, header.value)] {
                if !part.is_empty() {
                    columns[column].push(hex(part));
                }
            }
        }
        if !frame.payload.is_empty() {
            columns[8].push(hex(frame.payload));
        }
        bytes = &bytes[len..];
    }
}

/// Fragments that were seen, by who sent them and their set.
#[derive(Default)]
struct Sets {
    chunks: BTreeMap<(usize, String), BTreeMap<u64, Vec<u8>>>,
    whole_count: usize,
}

impl Sets {
    /// What the decoder says of a datagram: of its frames, and behind a fragment that completes its set, of the
    /// frame inside.
    fn expected(&mut self, from: usize, mut bytes: &[u8], columns: &mut [Vec<String>; 9]) {
        while !bytes.is_empty() {
            let decoded = wire::decode(bytes, Trailer::Always, &Limits::default()).unwrap();
            let wire::Decoded::Frame(frame, len) = decoded else {
                panic!("a frame is cut");
            };
            expected(&bytes[..len], columns);
            bytes = &bytes[len..];
            if !frame.flags.contains(Flags::FRAG) || frame.typ != FrameType::Data {
                continue;
            }
            let text = |key| String::from_utf8(frame.header(key).unwrap().to_vec()).unwrap();
            let number = |key| text(key).parse::<u64>().unwrap();
            let chunks = self.chunks.entry((from, text("frag-id"))).or_default();
            let before = chunks.insert(number("frag-index"), frame.payload.to_vec());
            if before.is_none() && chunks.len() as u64 == number("frag-total") {
                let inner: Vec<u8> = chunks.values().flatten().copied().collect();
                expected(&inner, columns);
                self.whole_count += 1;
            }
        }
    }
}

fn assert_same(rows: &[Vec<String>], expected: &[Vec<String>; 9]) {
    for (index, name) in FIELDS.iter().enumerate() {
        let got = column(rows, index);
        assert_eq!(got.len(), expected[index].len(), "{name}");
        for (n, (got, expected)) in got.iter().zip(&expected[index]).enumerate() {
            assert_eq!(got, expected, "{name}, value {n}");
        }
    }
}

/// Frames of all kinds, sizes and headers.
fn frames() -> Vec<Frame> {
    let mut frames = vec![
        Frame::data(""),
        Frame::data("hello").with_header("content-type", "text/plain"),
        Frame::new(FrameType::Custom(0x77)).with_payload([0, 255, b'|', b';', b'\n']),
        Frame::data(vec![7; 40_000]).with_flag(Flags::CRC),
        Frame::data("x").with_header([0_u8, 255], [1_u8; 255]),
    ];
    for count in 1..20 {
        let mut frame = Frame::data(vec![count; usize::from(count) * 97]);
        for n in 0..count {
            frame = frame.with_header(format!("key-{n}"), [n, count]);
        }
        frames.push(frame);
    }
    frames
}

/// One connection to `to` through the address that is given to `run`; the bytes of each direction.
fn record_tcp(to: SocketAddr, run: impl FnOnce(SocketAddr)) -> [Vec<u8>; 2] {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let between = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let (inside, _) = listener.accept().unwrap();
            let outside = TcpStream::connect(to).unwrap();
            let copy = |mut from: &TcpStream, mut to: &TcpStream| {
                let (mut seen, mut buffer) = (Vec::new(), vec![0; 65_536]);
                while let Ok(len @ 1..) = from.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..len]);
                    if to.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
                seen
            };
            std::thread::scope(|scope| {
                let back = scope.spawn(|| copy(&outside, &inside));
                let there = copy(&inside, &outside);
                [there, back.join().unwrap()]
            })
        });
        run(between);
        recorder.join().unwrap()
    })
}

/// Sends frames and takes them back from a server that echoes.
fn exchange(mut client: VstpTcpClient, frames: &[Frame]) {
    for frame in frames {
        client.send(frame).unwrap();
        let echo = client.recv().unwrap().unwrap();
        assert_eq!(echo.payload, frame.payload);
    }
    client.close().unwrap();
}

type Datagrams = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

/// Passes datagrams on between one client and `to`, and writes them down.
fn record_udp(to: SocketAddr) -> (SocketAddr, Datagrams, impl FnOnce()) {
    let [front, back] = [(); 2].map(|()| UdpSocket::bind(LOCAL).unwrap());
    let addr = front.local_addr().unwrap();
    for socket in [&front, &back] {
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
    }
    let seen: Datagrams = Arc::default();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (written, stopped) = (seen.clone(), stop.clone());
    let thread = std::thread::Builder::new()
        .spawn(move || {
            let (mut buffer, mut client) = (vec![0; 65_536], None);
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((len, from)) = front.recv_from(&mut buffer) {
                    client = Some(from);
                    written.lock().unwrap().push((0, buffer[..len].to_vec()));
                    back.send_to(&buffer[..len], to).unwrap();
                }
                back.set_nonblocking(true).unwrap();
                while let Ok(len) = back.recv(&mut buffer) {
                    written.lock().unwrap().push((1, buffer[..len].to_vec()));
                    front.send_to(&buffer[..len], client.unwrap()).unwrap();
                }
            }
        })
        .unwrap();
    let end = move || {
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().unwrap();
    };
    (addr, seen, end)
}

// What tshark must say.

#[test]
fn frames_of_a_stream_are_those_of_the_decoder() {
    if !has_tshark() {
        return;
    }
    let server = VstpTcpServer::bind_plain(LOCAL).unwrap();
    let to = server.local_addr();
    let handle = server
        .spawn(|_, frame| Ok::<_, HandlerError>(frame))
        .unwrap();
    let frames = frames();
    let recorded = record_tcp(to, |addr| {
        exchange(VstpTcpClient::connect_plain(addr).unwrap(), &frames);
    });
    handle.shutdown(WAIT);
    // At the known port, and at one where only the first bytes give the protocol away.
    for port in [PORT, 50_123] {
        let mut capture = Capture::new(port);
        let mut columns = <[Vec<String>; 9]>::default();
        for (from, stream) in recorded.iter().enumerate() {
            capture.add_stream(from, stream);
            expected(stream, &mut columns);
        }
        // With HELLO and WELCOME, and BYE both ways.
        assert_eq!(columns[0].len(), 2 * frames.len() + 4);
        let rows = capture.fields(&format!("tcp-{port}"), &FIELDS);
        assert_same(&rows, &columns);
        let rows = capture.fields("tcp-expert", &["_ws.expert.message"]);
        assert_eq!(column(&rows, 0), [""; 0], "nothing is wrong with it");
    }
}

#[test]
fn frames_on_tls_are_read_with_the_key_log() {
    if !has_tshark() {
        return;
    }
    let log = std::env::temp_dir().join(format!("vstp-{}.keys", std::process::id()));
    let certs = dev::generate().unwrap();
    let builder = TlsServerConfig::builder();
    let tls = builder.pem(certs.cert_pem.as_bytes(), certs.key_pem.as_bytes());
    let server = VstpTcpServer::bind(LOCAL, tls.build().unwrap()).unwrap();
    let to = server.local_addr();
    let handle = server
        .spawn(|_, frame| Ok::<_, HandlerError>(frame))
        .unwrap();
    let trust = TlsClientConfig::builder()
        .ca_pem(certs.ca_pem.as_bytes())
        .unwrap();
    let trust = trust.danger_key_log(&log).build().unwrap();
    let frames = frames();
    let recorded = record_tcp(to, |addr| {
        exchange(VstpTcpClient::connect(addr, &trust).unwrap(), &frames);
    });
    handle.shutdown(WAIT);
    let mut capture = Capture::new(PORT);
    // As much of each side as the other needs to go on: the hello, the server's flight, the rest.
    let [there, back] = &recorded;
    let hello = 5 + usize::from(u16::from_be_bytes([there[3], there[4]]));
    capture.add_stream(0, &there[..hello]);
    capture.add_stream(1, back);
    capture.add_stream(0, &there[hello..]);
    let keys = format!("tls.keylog_file:{}", log.display());
    let rows = capture.fields_with("tls", &FIELDS, &["-o", &keys]);
    let payloads = column(&rows, 8);
    let sent = frames.iter().filter(|frame| !frame.payload.is_empty());
    let sent: Vec<String> = sent.map(|frame| hex(&frame.payload)).collect();
    assert_eq!(
        payloads,
        [sent.clone(), sent].concat(),
        "what went there, and came back"
    );
    assert_eq!(column(&rows, 0).len(), 2 * frames.len() + 4);
    assert_eq!(
        column(&rows, 5).len(),
        2,
        "a checksum only where it was asked for"
    );
    let rows = capture.fields("tls-sealed", &FIELDS);
    assert_eq!(
        column(&rows, 0),
        [""; 0],
        "without the keys nothing can be read"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    fs::remove_file(&log).unwrap();
}

#[test]
fn datagrams_bundles_and_fragments_are_those_of_the_decoder() {
    if !has_tshark() {
        return;
    }
    let server = VstpUdpServer::bind(LOCAL).unwrap();
    let (addr, seen, end) = record_udp(server.local_addr());
    let handle = server
        .spawn(|_, frame| Ok::<_, HandlerError>(frame))
        .unwrap();
    let client = VstpUdpClient::bind_with_config(LOCAL, UdpConfig::default()).unwrap();
    client.connect(addr).unwrap();
    let frames = frames();
    for frame in &frames {
        client.send_with_ack(frame.clone(), addr).unwrap();
        assert_eq!(client.recv_timeout(WAIT).unwrap().0.payload, frame.payload);
    }
    client.close();
    handle.shutdown(WAIT);
    end();
    let mut capture = Capture::new(PORT);
    let (mut columns, mut sets) = (<[Vec<String>; 9]>::default(), Sets::default());
    for (from, datagram) in seen.lock().unwrap().iter() {
        capture.add(Protocol::Udp, *from, datagram);
        sets.expected(*from, datagram, &mut columns);
    }
    assert!(sets.whole_count >= 2, "messages in fragments, both ways");
    let rows = capture.fields("udp-flat", &["vstp.reassembled", "_ws.expert.message"]);
    assert_eq!(column(&rows, 0).len(), sets.whole_count);
    assert_eq!(column(&rows, 1), [""; 0], "nothing is wrong with it");
    assert_same(&capture.fields("udp", &FIELDS), &columns);
}

#[test]
fn sealed_datagrams_are_recognised_and_not_read() {
    if !has_tshark() {
        return;
    }
    let server = VstpDualServer::bind_auto(LOCAL, dev::server().unwrap()).unwrap();
    let to = server.local_addr();
    let (addr, seen, end) = record_udp(to);
    let handle = server
        .spawn(|_: &DualPeer<'_>, frame: Frame| frame)
        .unwrap();
    let config = TcpConfig::default().sealed_datagrams(true);
    let tls = VstpTcpClient::connect_with(to, &dev::client().unwrap(), config).unwrap();
    let (client, session) = VstpUdpClient::connect_sealed(&tls, addr).unwrap();
    for frame in frames() {
        client.send_with_ack(frame, session.peer_addr()).unwrap();
        client.recv_timeout(WAIT).unwrap();
    }
    client.close();
    handle.shutdown(WAIT);
    end();
    // At the known port, and at one where only the first bytes give the protocol away.
    for port in [PORT, 50_123] {
        let mut capture = Capture::new(port);
        let mut expected = <[Vec<String>; 6]>::default();
        for (from, bytes) in seen.lock().unwrap().iter() {
            capture.add(Protocol::Udp, *from, bytes);
            // spec 4.13: magic, version, id, number, ciphertext, tag.
            let (head, rest) = bytes.split_at(19);
            let (text, tag) = rest.split_at(rest.len() - 16);
            assert_eq!(head[..3], *b"VS\x01");
            let number = u64::from_be_bytes(head[11..].try_into().unwrap());
            for (column, value) in expected.iter_mut().zip([
                hex(bytes),
                "1".to_owned(),
                hex(&head[3..11]),
                number.to_string(),
                hex(text),
                hex(tag),
            ]) {
                column.push(value);
            }
        }
        assert!(expected[0].len() > frames().len());
        let rows = capture.fields(
            "sealed",
            &[
                "vstp.sealed",
                "vstp.sealed.version",
                "vstp.sealed.id",
                "vstp.sealed.number",
                "vstp.sealed.ciphertext",
                "vstp.sealed.tag",
                "_ws.expert.message",
                "vstp.type",
            ],
        );
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(&column(&rows, index), expected, "port {port}");
        }
        assert_eq!(column(&rows, 6), [""; 0]);
        assert_eq!(column(&rows, 7), [""; 0], "nothing of the frames inside");
    }
    let mut capture = Capture::new(PORT);
    for bytes in [
        &b"VS\x02_______________________________________"[..],
        b"VS\x01short",
        b"VS",
    ] {
        capture.add(Protocol::Udp, 0, bytes);
    }
    let rows = capture.fields("not-sealed", &["_ws.expert.message"]);
    let said = column(&rows, 0);
    assert_eq!(said.len(), 3);
    assert!(
        said.iter()
            .all(|said| said.contains("Not a sealed datagram")),
        "{said:?}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    if !has_tshark() {
        return;
    }
    let mut good = Vec::new();
    let frame = Frame::data("content").with_header("key", "value");
    wire::encode(
        frame.as_ref(),
        Trailer::Always,
        &Limits::default(),
        &mut good,
    )
    .unwrap();
    let damage = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let fragment = |index: &str, total: &str| {
        let frame = Frame::data("x")
            .with_flag(Flags::FRAG)
            .with_header("frag-id", "5")
            .with_header("frag-index", index)
            .with_header("frag-total", total)
            .with_header("frag-len", "40");
        let mut bytes = Vec::new();
        wire::encode(
            frame.as_ref(),
            Trailer::Always,
            &Limits::default(),
            &mut bytes,
        )
        .unwrap();
        bytes
    };
    let cases = [
        (damage(1, b'X'), "magic is wrong"),
        (damage(2, 9), "Unknown version"),
        (damage(3, 9), "Reserved frame type"),
        (damage(4, 0x80), "Reserved flags"),
        (damage(7, 0xff), "length is impossible"),
        (damage(10, 0xff), "length is impossible"),
        (damage(14, b'K'), "checksum is wrong"),
        (damage(11, 200), "runs past its section"),
        (good[..good.len() - 1].to_vec(), "length is impossible"),
        (fragment("7", "7"), "contradicts"),
        (fragment("01", "7"), "contradicts"),
        (good.clone(), ""),
        (fragment("1", "7"), ""),
    ];
    let mut capture = Capture::new(PORT);
    for (bytes, _) in &cases {
        capture.add(Protocol::Udp, 0, bytes);
    }
    let rows = capture.fields("damaged", &["_ws.expert.message"]);
    assert_eq!(rows.len(), cases.len());
    for (row, (bytes, said)) in rows.iter().zip(&cases) {
        let row = row.first().map_or("", String::as_str);
        if said.is_empty() {
            assert_eq!(row, "", "{}", hex(bytes));
        } else {
            assert!(
                row.contains(said),
                "{row:?} does not say {said:?}: {}",
                hex(bytes)
            );
        }
    }
    // The same faults in a stream end it there, and nothing behind is taken for a frame.
    let mut capture = Capture::new(PORT);
    capture.add(
        Protocol::Tcp,
        0,
        &[good.clone(), damage(2, 9), good.clone()].concat(),
    );
    let rows = capture.fields("broken-stream", &["vstp.type", "_ws.expert.message"]);
    assert_eq!(column(&rows, 0), ["0x03"]);
    assert!(column(&rows, 1)[0].contains("Unknown version"));
}
