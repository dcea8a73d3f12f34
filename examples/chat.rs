//! A chat: everybody gets what anybody says.
//!
//!     cargo run --example chat -- server [ADDR]          (default 127.0.0.1:7002)
//!     cargo run --example chat -- join NAME [ADDR]
//!
//! The server keeps a `Sender` for each session and never waits for a slow reader: one whose queue
//! is full is left out. The client reads in one thread and writes in another, over TLS.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use vstp::net::tcp::Sender;
use vstp::net::tls::dev;
use vstp::serve::{HandlerError, Session};
use vstp::{Frame, SessionId, VstpError, VstpTcpClient, VstpTcpServer};

const ADDR: &str = "127.0.0.1:7002";

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["server"] => serve(ADDR),
        ["server", addr] => serve(addr),
        ["join", name] => join(name, ADDR),
        ["join", name, addr] => join(name, addr),
        _ => {
            println!(
                "usage: chat server [ADDR]\n       chat join NAME [ADDR]\n\nThe default address is {ADDR}. A line \"quit\", or the end of input, ends either."
            );
            return ExitCode::SUCCESS;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str) -> Result<(), VstpError> {
    let people: Mutex<HashMap<SessionId, Sender>> = Mutex::default();
    let server = VstpTcpServer::bind(addr, dev::server()?)?;
    println!("listening on {}", server.local_addr());
    let handle = server.spawn(move |session: &Session, frame: Frame| {
        let mut people = people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = people.entry(session.id()) {
            let sender = session
                .sender()
                .map_err(|e| HandlerError::from(e.to_string()))?;
            place.insert(sender);
        }
        people.retain(|_, sender| !sender.is_closed());
        for (id, sender) in people.iter() {
            if *id != session.id() {
                // Full: this one misses a line, the others do not wait for it.
                let _ = sender.try_send(frame.clone());
            }
        }
        Ok::<(), HandlerError>(())
    })?;
    until_quit(|_| Ok(()))?;
    handle.shutdown(Duration::from_secs(5));
    Ok(())
}

fn join(name: &str, addr: &str) -> Result<(), VstpError> {
    let client = VstpTcpClient::connect(addr, &dev::client()?)?;
    let (mut reader, mut writer) = client.split();
    writer.send(&Frame::data(format!("{name} is here")))?;
    println!("joined");
    let reading = thread::Builder::new().spawn(move || {
        while let Ok(Some(frame)) = reader.recv() {
            println!("{}", String::from_utf8_lossy(&frame.payload));
        }
    })?;
    until_quit(|line| writer.send(&Frame::data(format!("{name}: {line}"))))?;
    writer.close()?;
    // The reader ends with the server's goodbye.
    let _ = reading.join();
    Ok(())
}

fn until_quit(mut on_line: impl FnMut(&str) -> Result<(), VstpError>) -> Result<(), VstpError> {
    for line in stdin().lines() {
        match line?.as_str() {
            "quit" => break,
            line => on_line(line)?,
        }
    }
    Ok(())
}
