//! A server with a pool of its own: connections are accepted one by one, requests of all of them go
//! through one bounded queue to a few workers, and answers leave in the order they are ready.
//!
//!     cargo run --example thread_pool_server [-- ADDR [WORKERS]]     (default 127.0.0.1:7003 4)
//!
//! A full queue makes the readers wait, and with them their clients: that is the back-pressure.
//! Ends when its standard input does. Talk to it with `tcp_client`.

use crossbeam_channel::{Receiver, Sender as Queue, bounded};
use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use vstp::net::tcp::Sender;
use vstp::{Frame, VstpError, VstpTcpConnection, VstpTcpServer};

/// A request, and where its answer goes.
type Job = (Frame, Sender);

fn main() -> ExitCode {
    env_logger::init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7003".to_owned());
    let workers = args.next().and_then(|n| n.parse().ok()).unwrap_or(4);
    if addr == "--help" {
        println!(
            "usage: thread_pool_server [ADDR [WORKERS]]\n\nAnswers each message with its words in reverse order, computed by WORKERS threads."
        );
        return ExitCode::SUCCESS;
    }
    match run(&addr, workers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thread_pool_server: {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(addr: &str, workers: usize) -> Result<(), VstpError> {
    let server = VstpTcpServer::bind_plain(addr)?;
    println!("listening on {}", server.local_addr());
    let handle = server.handle();
    let (queue, jobs) = bounded::<Job>(2 * workers);
    for n in 0..workers {
        let jobs = jobs.clone();
        thread::Builder::new()
            .name(format!("worker-{n}"))
            .spawn(move || work(&jobs))?;
    }
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            for line in stdin().lines().map_while(Result::ok) {
                if line == "quit" {
                    break;
                }
            }
            handle.shutdown(Duration::from_secs(5));
        })?;
    // Ends with an error when the server is shut down.
    while let Ok(connection) = server.accept() {
        let queue = queue.clone();
        thread::Builder::new().spawn(move || {
            if let Err(error) = read(connection, &queue) {
                eprintln!("{error}");
            }
        })?;
    }
    Ok(())
}

/// Puts the requests of one client into the queue.
fn read(mut connection: VstpTcpConnection, queue: &Queue<Job>) -> Result<(), VstpError> {
    let answers = connection.sender()?;
    while let Some(request) = connection.recv()? {
        if queue.send((request, answers.clone())).is_err() {
            break;
        }
    }
    Ok(())
}

fn work(jobs: &Receiver<Job>) {
    for (request, answers) in jobs {
        let text = String::from_utf8_lossy(&request.payload).into_owned();
        let reversed: Vec<&str> = text.split_whitespace().rev().collect();
        let mut answer = Frame::data(reversed.join(" "));
        if let Some(id) = request.header("correlation-id") {
            answer = answer.with_header("correlation-id", id);
        }
        // The client may be gone by now; then nobody waits for this.
        let _ = answers.send(answer);
    }
}
