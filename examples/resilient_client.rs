//! Clients for servers that come and go: one connection for many threads, one that is made again, and
//! several servers behind one client. All in one process; a server is killed and started again meanwhile.
//!
//!     cargo run --example resilient_client [-- CALLS]      (default 300 calls)
//!
//! Ends with exit code 0 when no answer was wrong and no call was lost that might be made again.

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, thread};
use vstp::easy::{
    Balancer, BalancerConfig, CallOptions, ConnectionState, Connector, ReconnectConfig,
    ReconnectingClient, ServerHandle, SharedClient, VstpServer,
};
use vstp::net::Sent;
use vstp::net::clock;
use vstp::net::tcp::TcpConfig;
use vstp::serve::ServerConfig;

const THREADS: u32 = 4;
const GRACE: Duration = Duration::from_secs(2);
/// What must have happened by then, or it is a failure.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    env_logger::init();
    let calls = match env::args().nth(1) {
        None => Some(300),
        Some(text) => text.parse().ok().filter(|n| *n > 0),
    };
    let Some(calls) = calls else {
        println!(
            "usage: resilient_client [CALLS]\n\nSo many calls (default 300) by {THREADS} threads to three servers in the same process,\none of which is killed and started again."
        );
        return ExitCode::SUCCESS;
    };
    let done = share()
        .and_then(|()| reconnect())
        .and_then(|()| balance(calls));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resilient_client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A server that squares numbers, up to 16 at once of each connection; plaintext, to stay short.
fn square(addr: &str) -> Result<(ServerHandle, Connector), vstp::VstpError> {
    let config = ServerConfig::default().concurrency(16);
    let server = VstpServer::bind_tcp_plain(addr, config)?;
    let connector = Connector::plain(server.local_addr(), TcpConfig::default())?;
    let handle = server.spawn(|n: u64| {
        if n == 0 {
            thread::park_timeout(Duration::from_millis(100)); // a slow one
        }
        Ok::<_, String>(n * n)
    })?;
    Ok((handle, connector))
}

/// Several threads over one connection: the fast calls do not wait for the slow one.
fn share() -> Result<(), Box<dyn Error>> {
    let (server, connector) = square("127.0.0.1:0")?;
    let client = SharedClient::connect(&connector)?;
    let began = clock::now();
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            client.call::<u64>(&0)?;
            Ok::<_, vstp::VstpError>(began.elapsed())
        });
        let fast: Vec<_> = (1..=u64::from(THREADS))
            .map(|n| {
                let client = client.clone();
                scope.spawn(move || Ok::<_, vstp::VstpError>((client.call::<u64>(&n)?, n)))
            })
            .collect();
        for thread in fast {
            let (answer, n) = thread.join().map_err(|_| "a caller panicked")??;
            println!("{n} squared is {answer}, after {:?}", began.elapsed());
        }
        let slow = slow.join().map_err(|_| "a caller panicked")??;
        println!("the slow call took {slow:?}");
        Ok::<_, Box<dyn Error>>(())
    })?;
    client.close()?;
    server.shutdown(GRACE);
    Ok(())
}

/// A client that connects again, and says what it does.
fn reconnect() -> Result<(), Box<dyn Error>> {
    let (server, connector) = square("127.0.0.1:0")?;
    let addr = server.local_addr();
    let config = ReconnectConfig::default()
        .backoff(Duration::from_millis(10), Duration::from_secs(1))
        .on_state(|state| match state {
            ConnectionState::Connected => println!("connected"),
            ConnectionState::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        });
    let client = ReconnectingClient::with(connector, config)?;
    println!("7 squared is {}", client.call::<u64>(&7)?);
    server.shutdown(GRACE);
    let (server, _) = square(&addr.to_string())?;
    // Squaring twice does no harm, so this may be asked again when the connection is lost under it.
    let options = CallOptions::new().idempotent();
    println!("8 squared is {}", client.call_with::<u64>(&8, options)?);
    drop(client);
    server.shutdown(GRACE);
    Ok(())
}

/// Three servers, one of which is killed and started again under load.
fn balance(calls: u32) -> Result<(), Box<dyn Error>> {
    let mut servers = Vec::new();
    let mut connectors = Vec::new();
    for _ in 0..3 {
        let (server, connector) = square("127.0.0.1:0")?;
        servers.push(server);
        connectors.push(connector);
    }
    let config =
        BalancerConfig::default().backoff(Duration::from_millis(10), Duration::from_secs(1));
    let balancer = Balancer::with(connectors, config)?;
    let (made, wrong, lost, ended) = <(AtomicU32, AtomicU32, AtomicU32, AtomicU32)>::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let n = made.fetch_add(1, Ordering::Relaxed);
                    if n >= calls {
                        break;
                    }
                    let is_idempotent = n % 2 == 0;
                    let mut options = CallOptions::new().timeout(LIMIT);
                    if is_idempotent {
                        options = options.idempotent();
                    }
                    let n = u64::from(n) + 1;
                    match balancer.call_with::<u64>(&n, options) {
                        Ok(answer) if answer == n * n => {}
                        Ok(_) => drop(wrong.fetch_add(1, Ordering::Relaxed)),
                        // It was sent and may have been handled; to know, one would have to ask.
                        Err(failed) if !is_idempotent && failed.sent != Sent::No => {
                            ended.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => drop(lost.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
        // In the middle of it.
        wait_for(|| made.load(Ordering::Relaxed) >= calls / 2)?;
        let addr = servers[0].local_addr();
        servers.remove(0).shutdown(Duration::ZERO);
        servers.push(square(&addr.to_string())?.0);
        Ok::<_, Box<dyn Error>>(())
    })?;
    // It is found again by a probe.
    wait_for(|| balancer.stats().iter().all(|backend| backend.is_up))?;
    for backend in balancer.stats() {
        println!("{} answered {} calls", backend.address, backend.answered);
    }
    let (wrong, lost) = (wrong.into_inner(), lost.into_inner());
    println!(
        "{calls} calls: {wrong} wrong answers, {lost} lost, {} ended with their server",
        ended.into_inner()
    );
    drop(balancer);
    for server in servers {
        server.shutdown(GRACE);
    }
    if wrong + lost > 0 {
        return Err("answers were wrong, or calls lost that could have been made again".into());
    }
    Ok(())
}

fn wait_for(done: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
    let began = clock::now();
    while !done() {
        if began.elapsed() > LIMIT {
            return Err("it takes too long".into());
        }
        thread::yield_now();
    }
    Ok(())
}
