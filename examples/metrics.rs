//! A server, a client and their numbers: prints what Prometheus would read after a short exchange.
//!
//!     cargo run --example metrics [-- serve [ADDR]]     (default 127.0.0.1:9464)
//!
//! With `serve` the numbers stay at `http://ADDR/metrics` until standard input ends.

use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::time::Duration;
use vstp::metrics::Exposition;
use vstp::net::Meter;
use vstp::serve::{MetricsServer, Session};
use vstp::{Frame, VstpError, VstpTcpClient, VstpTcpServer};

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        None => run(None),
        Some("serve") => run(Some(args.get(1).map_or("127.0.0.1:9464", String::as_str))),
        Some(_) => {
            println!(
                "usage: metrics [serve [ADDR]]\n\nPrints the numbers of a short exchange, or serves them over HTTP."
            );
            return ExitCode::SUCCESS;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metrics: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve_at: Option<&str>) -> Result<(), VstpError> {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
    let addr = server.local_addr();
    let server = server.spawn(|_: &Session, frame: Frame| frame)?;
    let mut client = VstpTcpClient::connect_plain(addr)?;
    for n in 1..=10 {
        client.send(&Frame::data(format!("message {n}")))?;
        client.recv()?;
    }
    client.ping()?;

    let meters = (server.meter().clone(), client.meter().clone());
    match serve_at {
        None => print!("{}", text(&meters)),
        Some(addr) => {
            let metrics = MetricsServer::bind(addr, move || text(&meters))?;
            println!("listening on http://{}/metrics", metrics.local_addr());
            // Until its end; what is typed does not matter.
            while stdin()
                .read_line(&mut String::new())
                .is_ok_and(|len| len > 0)
            {}
            metrics.shutdown();
        }
    }
    client.close()?;
    server.shutdown(Duration::from_secs(5));
    Ok(())
}

/// Both in one text, told apart by a label.
fn text((server, client): &(Meter, Meter)) -> String {
    // `role` is a label's name, and none that is used.
    let mut all = Exposition::new("role").expect("a valid label");
    all.add("server", &server.snapshot());
    all.add("client", &client.snapshot());
    all.render()
}
