//! Sensors and a collector, in one process: readings are sent once and may be lost, alarms are sent until
//! they are acknowledged.
//!
//!     cargo run --example sensor_network [-- SENSORS [READINGS]]      (default 4 sensors, 50 readings each)
//!
//! Ends with exit code 0 when every alarm has arrived.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, thread};
use vstp::serve::{HandlerError, UdpPeer};
use vstp::{Frame, FrameType, VstpError, VstpUdpClient, VstpUdpServer};

/// A frame type of this application; readings are DATA.
const ALARM: FrameType = FrameType::Custom(0x20);
/// Degrees from which a sensor raises an alarm.
const TOO_HOT: f64 = 28.0;

/// What the collector knows of a sensor.
#[derive(Default)]
struct Seen {
    count: u32,
    sum: f64,
    highest: f64,
    alarms: u32,
}

type Table = Arc<Mutex<BTreeMap<String, Seen>>>;

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |place: usize, default: u32| match args.get(place) {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|n| *n > 0),
    };
    let (Some(sensors), Some(readings)) = (number(0, 4), number(1, 50)) else {
        println!(
            "usage: sensor_network [SENSORS [READINGS]]\n\nSo many sensors (default 4) send so many readings (default 50) to a collector in the\nsame process."
        );
        return ExitCode::SUCCESS;
    };
    match run(sensors, readings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sensor_network: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(sensors: u32, readings: u32) -> Result<(), Box<dyn Error>> {
    let table = Table::default();
    let server = VstpUdpServer::bind("127.0.0.1:0")?;
    let addr = server.local_addr();
    let mine = Arc::clone(&table);
    let handle = server.spawn(move |_: &UdpPeer, frame: Frame| collect(&mine, &frame))?;

    let raised = thread::scope(|scope| {
        let sensors: Vec<_> = (0..sensors)
            .map(|number| scope.spawn(move || sense(addr, number, readings)))
            .collect();
        let results = sensors.into_iter().map(|sensor| sensor.join());
        results
            .map(|result| {
                result
                    .map_err(|_| "a sensor panicked".to_owned())?
                    .map_err(|e| e.to_string())
            })
            .sum::<Result<u32, String>>()
    })?;
    handle.shutdown(Duration::from_secs(5));

    println!("sensor       readings    mean  highest  alarms");
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, seen) in &*table {
        println!(
            "{name:<12} {:>3} of {readings:<3} {:>6.2} {:>8.2} {:>7}",
            seen.count,
            seen.sum / f64::from(seen.count.max(1)),
            seen.highest,
            seen.alarms
        );
    }
    let arrived: u32 = table.values().map(|seen| seen.alarms).sum();
    println!("{arrived} of {raised} alarms arrived");
    if arrived == raised {
        Ok(())
    } else {
        Err("an alarm was acknowledged and is not there".into())
    }
}

/// The collector's side of one message.
fn collect(table: &Table, frame: &Frame) -> Result<(), HandlerError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = text(frame.header("sensor").ok_or("no sensor")?);
    let value: f64 = text(&frame.payload).parse().map_err(|_| "no number")?;
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = table.entry(name).or_default();
    if frame.typ == ALARM {
        seen.alarms += 1;
        return Ok(());
    }
    seen.count += 1;
    seen.sum += value;
    seen.highest = seen.highest.max(value);
    Ok(())
}

/// One sensor; how many alarms it has raised.
fn sense(addr: SocketAddr, number: u32, readings: u32) -> Result<u32, VstpError> {
    let (client, session) = VstpUdpClient::connect_to(addr)?;
    let collector = session.peer_addr();
    let name = format!("sensor-{number}");
    let mut alarms = 0;
    for n in 0..readings {
        let value = 20.0 + f64::from(number) + 6.0 * (f64::from(n) / 8.0).sin();
        let frame = Frame::data(format!("{value:.2}")).with_header("sensor", &name);
        client.send(&frame, collector)?;
        if value >= TOO_HOT {
            let alarm = Frame {
                typ: ALARM,
                ..frame
            };
            client.send_with_ack(alarm, collector)?;
            alarms += 1;
        }
    }
    client.close();
    Ok(alarms)
}
