//! Which seeds a plan runs with, and how a failing one is said.
//!
//! `VSTP_SEED=7` runs every plan with that seed alone, `VSTP_SIM_SEEDS=10000` with so many; without
//! either there are few, so that the whole binary takes seconds.

use std::env;
use std::str::FromStr;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let value = text.parse().ok();
    assert!(value.is_some(), "{name}={text} is not a number");
    value
}

/// Says the seed when the plan panics; by a destructor, so that the panic keeps its place and text.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with VSTP_SEED={}", self.0);
        }
    }
}

/// Runs `plan` with each of the seeds: `few` by default.
pub(crate) fn seeds(few: u64, plan: impl FnMut(u64)) {
    seeds_of(few, 1, plan);
}

/// The same for plans that move so much that `VSTP_SIM_SEEDS` is divided by `cost`.
pub(crate) fn seeds_of(few: u64, cost: u64, mut plan: impl FnMut(u64)) {
    let seeds = match (setting("VSTP_SEED"), setting::<u64>("VSTP_SIM_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(count)) => 1..=count.div_ceil(cost),
        (None, None) => 1..=few,
    };
    for seed in seeds {
        let running = Running(seed);
        plan(seed);
        drop(running);
    }
}
