//! The network: datagrams on a virtual clock, and what each direction of each path does to them.
//!
//! Nothing here knows VSTP. Rules belong to a pair (from, to), as the endpoints see the addresses;
//! paths without rules deliver everything at once. One seed gives one run: the trace says so.

use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::wire::crc::crc32;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Losses that come in groups (Gilbert and Elliott): a path is good or bad, and changes its mind
/// with each datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Chance to turn bad, and to turn good again.
    pub(crate) enter: f64,
    pub(crate) leave: f64,
    /// Loss while bad.
    pub(crate) loss: f64,
}

/// A link that sends so many bytes a second and queues so many; what finds the queue full is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) bytes_per_second: u64,
    pub(crate) queue_len: u64,
}

/// What one direction of a path does. Shares are of datagrams, from 0 to 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) delay: Duration,
    /// Up to so much more; enough of it is reordering.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) burst: Option<Burst>,
    /// This share waits longer, by up to `reorder_by`.
    pub(crate) reorder: f64,
    pub(crate) reorder_by: Duration,
    /// This share arrives 1 to `copies` more times, by up to `duplicate_by` later.
    pub(crate) duplicate: f64,
    pub(crate) copies: u64,
    pub(crate) duplicate_by: Duration,
    /// This share has 1 to 3 flipped bits, is cut short, or has the datagram before it in front.
    pub(crate) flip: f64,
    pub(crate) truncate: f64,
    pub(crate) concatenate: f64,
    /// Larger datagrams are lost (bytes).
    pub(crate) mtu: Option<usize>,
    pub(crate) rate: Option<Rate>,
    /// From and to (since the start of the run) when nothing passes.
    pub(crate) blackholes: Vec<(Duration, Duration)>,
}

impl Rules {
    pub(crate) fn delay(millis: u64) -> Self {
        Self {
            delay: Duration::from_millis(millis),
            ..Self::default()
        }
    }

    /// Nothing passes.
    pub(crate) fn dead() -> Self {
        Self {
            loss: 1.0,
            ..Self::default()
        }
    }
}

/// One direction of a path.
#[derive(Default)]
struct Link {
    rules: Rules,
    bad: bool,
    /// When the link has sent what it has queued.
    free_at: Option<Instant>,
    /// What went through last, for concatenation.
    last: Vec<u8>,
}

/// What a test decides about a datagram before the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Drop,
}

type Filter = Box<dyn FnMut(Duration, &Datagram) -> Fate>;

pub(crate) struct Network {
    start: Instant,
    rng: Rng,
    links: BTreeMap<(SocketAddr, SocketAddr), Link>,
    in_flight: BinaryHeap<Reverse<(Instant, u64, Datagram)>>,
    sequence: u64,
    /// Address inside to address outside: what a NAT makes of it.
    outside: BTreeMap<SocketAddr, SocketAddr>,
    pub(crate) filter: Option<Filter>,
    /// Every datagram that was handed in, while `record` is set, with its time since the start.
    pub(crate) record: bool,
    pub(crate) sent: Vec<(Duration, Datagram)>,
    pub(crate) sent_count: u64,
    pub(crate) lost_count: u64,
    trace: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, start: Instant) -> Self {
        Self {
            start,
            rng: Rng::new(seed ^ 0x6e65_7477_6f72_6b00),
            links: BTreeMap::new(),
            in_flight: BinaryHeap::new(),
            sequence: 0,
            outside: BTreeMap::new(),
            filter: None,
            record: false,
            sent: Vec::new(),
            sent_count: 0,
            lost_count: 0,
            trace: 0,
        }
    }

    /// Sets what happens on the way from one address to another. What is under way stays so.
    pub(crate) fn rules(&mut self, from: SocketAddr, to: SocketAddr, rules: Rules) {
        self.links.entry((from, to)).or_default().rules = rules;
    }

    /// The same for both directions.
    pub(crate) fn both(&mut self, a: SocketAddr, b: SocketAddr, rules: &Rules) {
        self.rules(a, b, rules.clone());
        self.rules(b, a, rules.clone());
    }

    /// From now on `inside` is seen as `outside`; what comes for its earlier address is lost.
    pub(crate) fn rebind(&mut self, inside: SocketAddr, outside: SocketAddr) {
        self.outside.insert(inside, outside);
    }

    /// A hash of everything that was sent, lost and delivered, with its times.
    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    fn note(&mut self, what: u64, now: Instant, datagram: &Datagram) {
        let mut hash = self.trace;
        let mut mix = |value: u64| {
            hash = (hash ^ value)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        };
        mix(what);
        mix(now.duration_since(self.start).as_nanos() as u64);
        mix(u64::from(datagram.from.port()) << 16 | u64::from(datagram.to.port()));
        mix((datagram.bytes.len() as u64) << 32 | u64::from(crc32(&datagram.bytes)));
        self.trace = hash;
    }

    /// An endpoint sends.
    pub(crate) fn send(&mut self, now: Instant, mut datagram: Datagram) {
        if let Some(outside) = self.outside.get(&datagram.from) {
            datagram.from = *outside;
        }
        self.note(1, now, &datagram);
        self.sent_count += 1;
        let at = now.duration_since(self.start);
        if self.record {
            self.sent.push((at, datagram.clone()));
        }
        if let Some(filter) = &mut self.filter
            && filter(at, &datagram) == Fate::Drop
        {
            self.lose(now, &datagram);
            return;
        }
        self.through_link(now, at, datagram);
    }

    fn lose(&mut self, now: Instant, datagram: &Datagram) {
        self.lost_count += 1;
        self.note(2, now, datagram);
    }

    fn through_link(&mut self, now: Instant, at: Duration, mut datagram: Datagram) {
        let Some(link) = self.links.get_mut(&(datagram.from, datagram.to)) else {
            self.queue(now, datagram);
            return;
        };
        let rng = &mut self.rng;
        let rules = &link.rules;
        let mut lost = rng.chance(rules.loss)
            || rules.mtu.is_some_and(|mtu| datagram.bytes.len() > mtu)
            || rules
                .blackholes
                .iter()
                .any(|hole| (hole.0..hole.1).contains(&at));
        if let Some(burst) = rules.burst {
            let turn = if link.bad { burst.leave } else { burst.enter };
            link.bad ^= rng.chance(turn);
            lost |= rng.chance(if link.bad { burst.loss } else { 0.0 });
        }
        let mut leaves = now;
        if let Some(rate) = rules.rate {
            let takes =
                |len: u64| Duration::from_nanos(len * 1_000_000_000 / rate.bytes_per_second.max(1));
            let starts = link.free_at.map_or(now, |free| free.max(now));
            lost |= starts - now > takes(rate.queue_len);
            if !lost {
                leaves = starts + takes(datagram.bytes.len() as u64);
                link.free_at = Some(leaves);
            }
        }
        if lost {
            self.lose(now, &datagram);
            return;
        }
        let whole = datagram.bytes.clone();
        damage(rng, rules, &link.last, &mut datagram.bytes);
        link.last = whole;
        let mut arrives = leaves + rules.delay + rng.up_to(rules.jitter);
        if rng.chance(rules.reorder) {
            arrives += rng.up_to(rules.reorder_by);
        }
        let copies = if rng.chance(rules.duplicate) {
            rng.between(1, rules.copies.max(1))
        } else {
            0
        };
        let later: Vec<Duration> = (0..copies).map(|_| rng.up_to(rules.duplicate_by)).collect();
        for wait in later {
            self.queue(arrives + wait, datagram.clone());
        }
        self.queue(arrives, datagram);
    }

    /// Puts a datagram on the way without rules, filter and NAT: an attacker's.
    pub(crate) fn inject(&mut self, at: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.queue(at, Datagram { from, to, bytes });
    }

    fn queue(&mut self, at: Instant, datagram: Datagram) {
        self.sequence += 1;
        self.in_flight.push(Reverse((at, self.sequence, datagram)));
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    /// The next datagram that has arrived by `now`, at the address inside.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Datagram> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, mut datagram)) = self.in_flight.pop()?;
        self.note(3, now, &datagram);
        let inside = self.outside.iter().find(|(_, out)| **out == datagram.to);
        if let Some((inside, _)) = inside {
            datagram.to = *inside;
        } else if self.outside.contains_key(&datagram.to) {
            // The address behind the NAT is not reachable from outside, nor is one that it had before.
            datagram.to = SocketAddr::from(([0, 0, 0, 0], 0));
        }
        Some(datagram)
    }
}

/// What a bad line does to the bytes.
fn damage(rng: &mut Rng, rules: &Rules, before: &[u8], bytes: &mut Vec<u8>) {
    if rng.chance(rules.concatenate) {
        bytes.splice(0..0, before.iter().copied());
    }
    if rng.chance(rules.truncate) {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
    if rng.chance(rules.flip) && !bytes.is_empty() {
        for _ in 0..rng.between(1, 3) {
            let bit = rng.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    /// Sends `count` datagrams of 100 bytes, one each millisecond; when each copy arrived and what it was.
    fn through(rules: Rules, count: u64) -> (Vec<(Duration, Vec<u8>)>, u64) {
        let start = vstp::net::clock::now();
        let mut network = Network::new(1, start);
        network.rules(addr(1), addr(2), rules);
        for index in 0..count {
            let mut bytes = vec![0; 100];
            bytes[..8].copy_from_slice(&index.to_be_bytes());
            let (from, to) = (addr(1), addr(2));
            let at = start + Duration::from_millis(index);
            network.send(at, Datagram { from, to, bytes });
        }
        let end = start + Duration::from_secs(3600);
        let mut arrived = Vec::new();
        while let Some(at) = network.next_at() {
            let datagram = network.arrived(end).expect("it is due");
            arrived.push((at - start, datagram.bytes));
        }
        (arrived, network.lost_count)
    }

    fn near(count: usize, expected: usize) {
        assert!(
            count.abs_diff(expected) < expected / 10,
            "{count} is not about {expected}"
        );
    }

    #[test]
    fn a_path_without_rules_delivers_at_once_and_in_order() {
        let (arrived, lost) = through(Rules::default(), 100);
        assert_eq!((arrived.len(), lost), (100, 0));
        for (index, (at, bytes)) in arrived.iter().enumerate() {
            assert_eq!(*at, Duration::from_millis(index as u64));
            assert_eq!(bytes[..8], (index as u64).to_be_bytes());
        }
    }

    #[test]
    fn each_rule_does_what_it_says() {
        let (arrived, lost) = through(
            Rules {
                loss: 0.3,
                ..Rules::default()
            },
            10_000,
        );
        near(arrived.len(), 7000);
        near(lost as usize, 3000);
        let burst = Some(Burst {
            enter: 0.05,
            leave: 0.2,
            loss: 1.0,
        });
        let (arrived, _) = through(
            Rules {
                burst,
                ..Rules::default()
            },
            20_000,
        );
        near(arrived.len(), 16_000);
        let twice = Rules {
            duplicate: 0.5,
            copies: 1,
            ..Rules::default()
        };
        near(through(twice, 10_000).0.len(), 15_000);
        let (arrived, _) = through(
            Rules {
                mtu: Some(99),
                ..Rules::default()
            },
            10,
        );
        assert_eq!(arrived.len(), 0);
        let hole = (Duration::from_millis(10), Duration::from_millis(20));
        let (arrived, lost) = through(
            Rules {
                blackholes: vec![hole],
                ..Rules::default()
            },
            100,
        );
        assert_eq!((arrived.len(), lost), (90, 10));
        let (reordered, _) = through(
            Rules {
                reorder: 0.1,
                reorder_by: Duration::from_millis(50),
                ..Rules::default()
            },
            10_000,
        );
        let moved = reordered
            .windows(2)
            .filter(|two| two[0].1 > two[1].1)
            .count();
        assert!((500..2000).contains(&moved), "{moved}");
        for rules in [
            Rules {
                flip: 0.5,
                ..Rules::default()
            },
            Rules {
                truncate: 0.5,
                ..Rules::default()
            },
            Rules {
                concatenate: 0.5,
                ..Rules::default()
            },
        ] {
            let (arrived, _) = through(rules, 1000);
            let good = |bytes: &[u8]| bytes.len() == 100 && bytes[8..].iter().all(|b| *b == 0);
            let whole = arrived.iter().filter(|(_, bytes)| good(bytes)).count();
            assert!((400..600).contains(&whole), "{whole}");
        }
    }

    #[test]
    fn a_slow_link_spreads_what_it_takes_and_loses_the_rest() {
        // 100 bytes a millisecond are offered to a link of 50: half is lost once the queue is full.
        let rate = Some(Rate {
            bytes_per_second: 50_000,
            queue_len: 1000,
        });
        let (arrived, lost) = through(
            Rules {
                rate,
                ..Rules::default()
            },
            1000,
        );
        near(lost as usize, 490);
        for two in arrived.windows(2) {
            assert!(two[1].0 - two[0].0 >= Duration::from_millis(2));
        }
    }

    #[test]
    fn an_address_behind_a_nat_is_seen_and_reached_by_its_outside() {
        let start = vstp::net::clock::now();
        let mut network = Network::new(1, start);
        let pass = |network: &mut Network, from, to| {
            network.send(
                start,
                Datagram {
                    from: addr(from),
                    to: addr(to),
                    bytes: vec![],
                },
            );
            let datagram = network.arrived(start).expect("it is due");
            (datagram.from.port(), datagram.to.port())
        };
        assert_eq!(pass(&mut network, 1, 2), (1, 2));
        network.rebind(addr(1), addr(11));
        assert_eq!(pass(&mut network, 1, 2), (11, 2));
        assert_eq!(pass(&mut network, 2, 11), (2, 1));
        assert_eq!(pass(&mut network, 2, 1), (2, 0));
        network.rebind(addr(1), addr(12));
        assert_eq!(pass(&mut network, 2, 11), (2, 11), "nobody is there");
    }
}
