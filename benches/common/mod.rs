//! Timing for benchmarks: contestants take turns in short rounds (A B C A B C ...), so that noise
//! of the machine hits all of them, and medians are compared. No statistics beyond that.

#![allow(dead_code, reason = "each benchmark uses what it needs")]

use std::time::{Duration, Instant};

/// One contestant: a name, and work that is done once a call.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() + 'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of every contestant; the median is taken over them.
    pub(crate) round_count: usize,
    /// Aimed time of one round of one contestant.
    pub(crate) round_time: Duration,
}

impl Effort {
    /// Full effort, or a smoke run when `--quick` is among the arguments.
    pub(crate) fn from_args() -> Self {
        let quick = std::env::args().any(|arg| arg == "--quick");
        Self {
            round_count: if quick { 3 } else { 201 },
            round_time: Duration::from_micros(if quick { 100 } else { 1000 }),
        }
    }
}

/// The median time of a call of each contestant, in nanoseconds.
///
/// Calls in a round are the same number for all contestants, so that none gets longer rounds.
pub(crate) fn race(effort: Effort, contestants: &mut [Contestant<'_>]) -> Vec<f64> {
    let calls = calls_in(effort.round_time, contestants);
    let mut times = vec![Vec::with_capacity(effort.round_count); contestants.len()];
    for round in 0..effort.round_count {
        for turn in 0..contestants.len() {
            // Each starts as often as the others, so that none always runs in the same wake.
            let index = (round + turn) % contestants.len();
            times[index].push(time(calls, &mut contestants[index]) / f64::from(calls));
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

fn calls_in(aim: Duration, contestants: &mut [Contestant<'_>]) -> u32 {
    let slowest = |calls, contestants: &mut [Contestant<'_>]| {
        let times = contestants.iter_mut().map(|c| time(calls, c));
        times.fold(0.0, f64::max)
    };
    let mut calls = 1;
    while slowest(calls, contestants) < aim.as_nanos() as f64 && calls < 1 << 24 {
        calls *= 2;
    }
    calls
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn time(calls: u32, contestant: &mut Contestant<'_>) -> f64 {
    let begin = Instant::now();
    for _ in 0..calls {
        (contestant.run)();
    }
    begin.elapsed().as_nanos() as f64
}

/// The middle value; the slice is sorted on the way.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line: the first contestant is the baseline of the ratios.
pub(crate) fn print_ratios(label: &str, contestants: &[Contestant<'_>], medians: &[f64]) {
    let base = medians[0];
    print!("{label:<22}");
    for (contestant, median) in contestants.iter().zip(medians) {
        print!("  {} {median:>9.1} ns", contestant.name);
        if median.to_bits() != base.to_bits() {
            print!(" ({:.2} x)", median / base);
        }
    }
    println!();
}
