//! A game on datagrams: positions 20 times a second, each sent once and numbered, so that one that comes
//! late is ignored; and an event that everybody must see, which is acknowledged.
//!
//!     cargo run --example game_state [-- SECONDS [PLAYERS]]      (default 2 seconds, 3 players)
//!
//! Server and players are in one process. Ends with exit code 0 when every player saw the event.

#![expect(clippy::disallowed_methods, reason = "a game has a clock of its own")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};
use vstp::{Frame, FrameType, VstpError, VstpUdpClient, VstpUdpServer};

const TICK: Duration = Duration::from_millis(50);
/// A frame type of this application; positions are DATA.
const EVENT: FrameType = FrameType::Custom(0x20);

/// What one player has seen.
struct Seen {
    name: usize,
    sent: u32,
    states: u32,
    stale: u32,
    events: Vec<String>,
}

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let seconds = args.first().map_or(Ok(2.0), |text| text.parse::<f64>());
    let players = args.get(1).map_or(Ok(3), |text| text.parse::<usize>());
    let (Ok(seconds @ 0.1..=3600.0), Ok(players @ 1..=50)) = (seconds, players) else {
        println!(
            "usage: game_state [SECONDS [PLAYERS]]\n\nSo many players (default 3) move for so many seconds (default 2) on a server in the\nsame process."
        );
        return ExitCode::SUCCESS;
    };
    match run(Duration::from_secs_f64(seconds), players) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("game_state: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(length: Duration, players: usize) -> Result<(), Box<dyn Error>> {
    let server = VstpUdpServer::bind("127.0.0.1:0")?;
    let addr = server.local_addr();
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&server, &is_over));
        let playing: Vec<_> = (0..players)
            .map(|name| scope.spawn(move || play(addr, name, length)))
            .collect();
        let seen: Result<Vec<Seen>, String> = playing
            .into_iter()
            .map(|player| match player.join() {
                Ok(seen) => seen.map_err(|e| e.to_string()),
                Err(_) => Err("a player panicked".to_owned()),
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        let served = serving
            .join()
            .map_err(|_| "the server panicked".to_owned())?;
        served.map_err(|e| e.to_string())?;
        seen
    })?;
    for player in &seen {
        println!(
            "player {}: sent {} positions, saw {} states, ignored {} stale ones, events: {}",
            player.name,
            player.sent,
            player.states,
            player.stale,
            player.events.join(", ")
        );
    }
    if seen
        .iter()
        .all(|player| player.events == ["player 0 scored"])
    {
        println!("everybody saw the event once");
        Ok(())
    } else {
        Err("somebody missed the event".into())
    }
}

/// Takes positions, and tells everybody where everybody is in every tick.
fn serve(server: &VstpUdpServer, is_over: &AtomicBool) -> Result<(), VstpError> {
    let mut places: BTreeMap<SocketAddr, (u32, String)> = BTreeMap::new();
    let mut tick = 0_u32;
    let mut next = Instant::now() + TICK;
    while !is_over.load(Ordering::Relaxed) {
        match server.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok((frame, _)) if frame.typ == EVENT => {
                for player in places.keys() {
                    // Nobody waits for it: a player who is gone would hold up the game.
                    drop(server.start_send(frame.clone(), *player)?);
                }
            }
            Ok((frame, from)) => {
                if let Some((number, place)) = numbered(&frame) {
                    let known = places.entry(from).or_default();
                    if number > known.0 {
                        *known = (number, place);
                    }
                }
            }
            Err(VstpError::Timeout(_)) => {
                tick += 1;
                next += TICK;
                let all: Vec<&str> = places.values().map(|(_, place)| place.as_str()).collect();
                let state = Frame::data(format!("{tick} {}", all.join(" ")));
                // A player without a session has left, and may not be sent so much.
                places.retain(|player, _| server.send(&state, *player).is_ok());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves in every tick; the first player scores half-way.
fn play(addr: SocketAddr, name: usize, length: Duration) -> Result<Seen, VstpError> {
    let (client, session) = VstpUdpClient::connect_to(addr)?;
    let server = session.peer_addr();
    let (mut sent, mut states, mut stale, mut last) = (0, 0, 0, 0);
    let (mut events, mut has_scored) = (Vec::new(), name > 0);
    let began = Instant::now();
    let mut next = began;
    while began.elapsed() < length {
        if next <= Instant::now() {
            next += TICK;
            sent += 1;
            client.send(&Frame::data(format!("{sent} {name}:{sent}")), server)?;
        }
        if !has_scored && began.elapsed() > length / 2 {
            has_scored = true;
            let event = Frame::new(EVENT).with_payload(format!("player {name} scored"));
            client.send_with_ack(event, server)?;
        }
        match client.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok((frame, _)) if frame.typ == EVENT => {
                events.push(String::from_utf8_lossy(&frame.payload).into_owned());
            }
            Ok((frame, _)) => match numbered(&frame) {
                Some((tick, _)) if tick > last => {
                    last = tick;
                    states += 1;
                }
                _ => stale += 1,
            },
            Err(VstpError::Timeout(_)) => {}
            Err(error) => return Err(error),
        }
    }
    client.close();
    Ok(Seen {
        name,
        sent,
        states,
        stale,
        events,
    })
}

/// The number of a state, and the rest of it.
fn numbered(frame: &Frame) -> Option<(u32, String)> {
    let text = std::str::from_utf8(&frame.payload).ok()?;
    let (number, rest) = text.split_once(' ')?;
    Some((number.parse().ok()?, rest.to_owned()))
}
