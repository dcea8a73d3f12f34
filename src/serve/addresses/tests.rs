//! The limits per address: exact counts, rates on a virtual clock, a flat table.

use super::*;
use crate::net::clock;
use std::net::Ipv6Addr;

fn v4(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// Host 1 in the /64 of number `site`.
fn v6(site: u64) -> IpAddr {
    Ipv6Addr::from_bits((u128::from(site) << 64) | 1).into()
}

fn limits(connection_count: u32, rate: Option<(u32, Duration)>) -> AddressLimits {
    AddressLimits {
        connection_count,
        rate,
    }
}

/// Connects and leaves at once.
fn visit(addresses: &Addresses, address: IpAddr, now: Instant) -> Result<(), AddressRefusal> {
    addresses.admit(address, now).map(drop)
}

/// The set of idle addresses is exactly what the table says.
fn check(addresses: &Addresses) {
    let table = addresses.shared.lock();
    let idle: BTreeSet<_> = table
        .entries
        .iter()
        .filter(|(_, entry)| entry.connections == 0)
        .map(|(key, entry)| (entry.full_at.expect("kept for its rate"), *key))
        .collect();
    assert_eq!(idle, table.idle);
    assert!(table.entries.len() <= addresses.shared.capacity);
}

#[test]
fn e01_an_address_has_its_number_of_connections() {
    let addresses = Addresses::new(limits(2, None));
    let now = clock::now();
    let first = addresses.admit(v4(1), now).unwrap();
    let _second = addresses.admit(v4(1), now).unwrap();
    assert_eq!(visit(&addresses, v4(1), now), Err(AddressRefusal::TooMany));
    assert_eq!(
        visit(&addresses, v4(2), now),
        Ok(()),
        "another is not concerned"
    );
    assert_eq!(addresses.connections(v4(1)), 2);
    drop(first);
    assert_eq!(visit(&addresses, v4(1), now), Ok(()));
    check(&addresses);
}

#[test]
fn an_ipv6_site_is_one_address_and_mapped_ipv4_is_ipv4() {
    let addresses = Addresses::new(limits(1, None));
    let now = clock::now();
    let _one = addresses
        .admit("2001:db8:0:1::1".parse().unwrap(), now)
        .unwrap();
    let neighbour = "2001:db8:0:1:ffff::2".parse().unwrap();
    assert_eq!(
        visit(&addresses, neighbour, now),
        Err(AddressRefusal::TooMany)
    );
    assert_eq!(
        visit(&addresses, "2001:db8:0:2::1".parse().unwrap(), now),
        Ok(())
    );

    let _two = addresses
        .admit("::ffff:192.0.2.1".parse().unwrap(), now)
        .unwrap();
    assert_eq!(visit(&addresses, v4(1), now), Err(AddressRefusal::TooMany));
    assert_eq!(
        visit(&addresses, "::ffff:192.0.2.2".parse().unwrap(), now),
        Ok(())
    );
}

#[test]
fn e09_twenty_connections_in_ten_seconds() {
    let addresses = Addresses::new(limits(64, Some((20, Duration::from_secs(10)))));
    let now = clock::now();
    for _ in 0..20 {
        assert_eq!(visit(&addresses, v4(1), now), Ok(()));
    }
    for _ in 0..100 {
        assert_eq!(visit(&addresses, v4(1), now), Err(AddressRefusal::TooFast));
    }
    assert_eq!(visit(&addresses, v4(2), now), Ok(()));
    // One place comes back each half second, refused attempts or not.
    let later = now + Duration::from_millis(500);
    assert_eq!(visit(&addresses, v4(1), later), Ok(()));
    assert_eq!(
        visit(&addresses, v4(1), later),
        Err(AddressRefusal::TooFast)
    );
    let rested = later + Duration::from_secs(10);
    for _ in 0..20 {
        assert_eq!(visit(&addresses, v4(1), rested), Ok(()));
    }
    assert_eq!(
        visit(&addresses, v4(1), rested),
        Err(AddressRefusal::TooFast)
    );
    check(&addresses);
}

#[test]
fn a_rate_of_zero_is_no_rate() {
    let now = clock::now();
    for rate in [(0, Duration::from_secs(1)), (5, Duration::ZERO)] {
        let addresses = Addresses::new(limits(1, Some(rate)));
        for _ in 0..100 {
            assert_eq!(visit(&addresses, v4(1), now), Ok(()));
        }
        assert!(addresses.is_empty());
    }
}

#[test]
fn an_address_is_forgotten_when_nothing_is_left_to_remember() {
    let now = clock::now();
    let plain = Addresses::new(limits(2, None));
    let guards = [plain.admit(v4(1), now), plain.admit(v4(1), now)];
    assert_eq!(plain.len(), 1);
    drop(guards);
    assert!(plain.is_empty());

    let rated = Addresses::new(limits(2, Some((2, Duration::from_secs(2)))));
    let guard = rated.admit(v4(1), now).unwrap();
    rated.forget_old(now + Duration::from_secs(60));
    assert_eq!(rated.len(), 1, "it has a connection");
    drop(guard);
    assert_eq!(rated.len(), 1, "its rate counts");
    rated.forget_old(now + Duration::from_millis(999));
    assert_eq!(rated.len(), 1);
    rated.forget_old(now + Duration::from_secs(1));
    assert!(rated.is_empty());
    check(&rated);
}

#[test]
fn e13_a_million_addresses_in_flat_memory() {
    let addresses = Addresses::new(limits(64, Some((20, Duration::from_secs(10)))));
    let now = clock::now();
    let _stays = addresses.admit(v4(1), now).unwrap();
    for site in 0..1_000_000 {
        assert_eq!(visit(&addresses, v6(site), now), Ok(()));
        if site % 1000 == 0 {
            // The map's own room, twice what it needs at most: it makes space for deleted entries
            // once before it cleans them in place.
            let room = addresses.shared.lock().entries.capacity();
            assert!(room <= 4 * MAX_ADDRESSES, "{room} after {site}");
        }
    }
    assert_eq!(addresses.len(), MAX_ADDRESSES);
    assert_eq!(
        addresses.connections(v4(1)),
        1,
        "a connection is never forgotten"
    );
    let table = addresses.shared.lock();
    assert_eq!(table.idle.len(), MAX_ADDRESSES - 1);
    // Keyed at random: an attacker cannot know which addresses collide.
    let _: &RandomState = table.entries.hasher();
}

#[test]
fn e13_a_full_table_of_connections_refuses_strangers_only() {
    let addresses = Addresses::with_capacity(limits(2, None), 3);
    let now = clock::now();
    let mut guards: Vec<_> = (1..=3)
        .map(|last| addresses.admit(v4(last), now).unwrap())
        .collect();
    assert_eq!(
        visit(&addresses, v4(4), now),
        Err(AddressRefusal::TableFull)
    );
    assert_eq!(visit(&addresses, v4(1), now), Ok(()));
    guards.pop();
    assert_eq!(visit(&addresses, v4(4), now), Ok(()));
}

#[test]
fn e13_whoever_connects_most_is_forgotten_last() {
    let addresses = Addresses::with_capacity(limits(9, Some((10, Duration::from_secs(10)))), 4);
    let now = clock::now();
    for _ in 0..10 {
        assert_eq!(visit(&addresses, v4(1), now), Ok(()));
    }
    for site in 0..100 {
        assert_eq!(visit(&addresses, v6(site), now), Ok(()));
    }
    assert_eq!(visit(&addresses, v4(1), now), Err(AddressRefusal::TooFast));
    check(&addresses);
}

#[test]
fn the_table_agrees_with_itself_after_any_sequence() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let addresses = Addresses::with_capacity(limits(3, Some((4, Duration::from_secs(4)))), 8);
    let mut now = clock::now();
    let mut guards = Vec::new();
    let mut refused = [0; 3];
    for _ in 0..20_000 {
        match random(8) {
            0..4 => match addresses.admit(v4(random(14) as u8), now) {
                Ok(guard) => guards.push(guard),
                Err(AddressRefusal::TooMany) => refused[0] += 1,
                Err(AddressRefusal::TooFast) => refused[1] += 1,
                Err(AddressRefusal::TableFull) => refused[2] += 1,
            },
            4..7 if !guards.is_empty() => {
                let chosen = random(guards.len() as u64) as usize;
                drop(guards.swap_remove(chosen));
            }
            _ => now += Duration::from_millis(random(1500)),
        }
        check(&addresses);
        let counted: u32 = (0..14).map(|last| addresses.connections(v4(last))).sum();
        assert_eq!(counted as usize, guards.len());
    }
    assert!(refused.iter().all(|&count| count > 0), "{refused:?}");
    guards.clear();
    addresses.forget_old(now + Duration::from_secs(60));
    assert!(addresses.is_empty());
}

#[test]
fn h03_a_span_beyond_the_clock_neither_panics_nor_refuses_the_first() {
    for window in [Duration::MAX, Duration::MAX / 2] {
        let addresses = Addresses::new(limits(64, Some((1, window))));
        let now = clock::now();
        assert_eq!(visit(&addresses, v4(1), now), Ok(()));
        let second = visit(&addresses, v4(1), now);
        assert_eq!(second, Err(AddressRefusal::TooFast));
    }
}
