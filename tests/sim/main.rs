//! A seeded network on a virtual clock: endpoints of the datagram protocol against loss, disorder,
//! damage and malice. One file for each kind of misbehaviour; no sockets, no waiting.
//!
//! A failing plan says its seed; `VSTP_SEED=7 cargo test --test sim NAME` runs it again, and
//! `VSTP_SIM_SEEDS=10000` runs every plan with so many seeds (`scripts/check sim`).

mod craft;
mod keys;
mod model;
mod network;
mod plan;
mod rng;
mod world;

mod amplification;
mod clock;
mod corruption;
mod delay;
mod determinism;
mod disorder;
mod expiry;
mod flood;
mod forgery;
mod limits;
mod loops;
mod loss;
mod rebinding;
mod replay;
mod sealed;
mod silence;
mod sizes;
mod storm;
mod switching;
