//! A NAT that changes its mind: the client's address is another one, from one datagram to the next.
//!
//! In plaintext a session belongs to the address that proved itself; whoever has read its `sid` must
//! not be able to carry it away.

use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World, addr};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn du12_a_session_stays_at_its_address() {
    seeds(10, |seed| {
        let mut world = World::new(seed);
        world.model.addresses_change = true;
        let outside = [addr([198, 51, 100, 1], 1), addr([198, 51, 100, 1], 2)];
        world.add(SERVER, crate::world::server_config(|_| ()));
        world.add(CLIENT, crate::world::client_config(|_| ()));
        for outside in outside {
            world.network.both(outside, SERVER, &Rules::delay(20));
        }
        world.network.rebind(CLIENT, outside[0]);
        world.establish(CLIENT, SERVER);
        world.promise(CLIENT, SERVER, 300_000);
        let pause = Duration::from_millis(world.rng.between(30, 200));
        world.run_for(pause);
        // In the middle of the transfer and of the reassembly the client is somebody else.
        world.network.rebind(CLIENT, outside[1]);
        world.network.record = true;
        world.run_for(Duration::from_secs(3));
        let to_new = |world: &World| {
            let to_new = world
                .network
                .sent
                .iter()
                .filter(|(_, d)| d.to == outside[1]);
            to_new.count()
        };
        assert_eq!(to_new(&world), 0, "the server answers the new address");
        assert!(world.host(SERVER).session(outside[1]).is_none());
        if seed % 2 == 0 {
            // The old address comes back in time: nothing has happened.
            world.network.rebind(CLIENT, outside[0]);
            world.settle(2 * MINUTE);
            world.model.assert_all_delivered();
        } else {
            // It does not: the transfer ends, and a session of the new address begins like any other.
            world.run_for(2 * MINUTE);
            assert_eq!(world.model.failed_count(), 1);
            assert!(
                world.host(CLIENT).closed(SERVER).is_some(),
                "its PINGs are not answered"
            );
            assert_eq!(to_new(&world), 0);
            world.establish(CLIENT, SERVER);
            world.promise(CLIENT, SERVER, 30_000);
            world.settle(MINUTE);
            assert_eq!(world.model.delivered_count(), 1);
        }
        world.network.record = false;
        world.assert_quiet();
    });
}
