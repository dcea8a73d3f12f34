//! `vstp health`: one probe for a supervisor, which looks at the exit code.

use crate::connect::ConnectArgs;
use crate::exit::{self, Failure};
use crate::output::{self, Talk};
use crate::ping::Probe;
use crate::units::{self, millis};
use crate::url::Url;
use clap::Args;
use serde_json::json;
use std::time::Duration;
use vstp::net::clock;

const EXAMPLES: &str = "\
Examples:
  vstp health vstp://localhost                          0: healthy, 9: not
  vstp health vstp://localhost --within 200ms           a slow server is not healthy
  vstp health vstp://example.org --cert-days 14         nor one whose certificate is about to expire

In a container:
  HEALTHCHECK CMD [\"/vstp\", \"health\", \"vstp://127.0.0.1:6969\", \"--cacert\", \"/ca.pem\"]

The probe connects, with TLS and HELLO, and waits for one PONG. Whatever is wrong with the server gives 9; \
wrong arguments give 2.";

/// Check a server once; the exit code is the answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// Longest time for all of it, connecting included
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    within: Option<Duration>,
    /// So many days the server's certificates must still be valid
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    cert_days: i64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: HealthArgs, talk: Talk) -> Result<(), Failure> {
    let began = clock::now();
    let probed = probe(&args, talk);
    let took = clock::now().saturating_duration_since(began);
    let judged = probed.and_then(|days_left| match args.within {
        Some(limit) if took > limit => {
            let text = format!(
                "it took {:.1} ms, over {:.1} ms",
                millis(took),
                millis(limit)
            );
            Err(Failure::new(exit::UNHEALTHY, text))
        }
        _ => Ok(days_left),
    });
    if let Err(failure) = &judged {
        if failure.code == exit::USAGE {
            return judged.map(drop);
        }
    }
    if args.json {
        output::json(json!({
            "url": args.url.to_string(),
            "healthy": judged.is_ok(),
            "ms": millis(took),
            "cert_days_left": judged.as_ref().ok().copied().flatten(),
            "error": judged.as_ref().err().map(|failure| &failure.message),
        }))?;
    }
    match judged {
        Ok(_) if args.json => Ok(()),
        Ok(_) => output::line(format!("healthy: {} in {:.1} ms", args.url, millis(took))),
        Err(failure) => Err(Failure::new(
            exit::UNHEALTHY,
            format!("unhealthy: {}", failure.message),
        )),
    }
}

/// The days that are left of the first certificate to expire.
fn probe(args: &HealthArgs, talk: Talk) -> Result<Option<i64>, Failure> {
    let mut connect = args.connect.clone();
    if let Some(limit) = args.within {
        connect.connect_timeout = connect.connect_timeout.min(limit);
        connect.timeout = connect.timeout.min(limit);
    }
    let mut probe = Probe::open(&args.url, &connect, talk)?;
    let result = probe.round_trip(1, connect.timeout);
    let chain = probe.chain();
    probe.close();
    result?;
    let soonest = chain?
        .into_iter()
        .min_by_key(|certificate| certificate.days_left);
    match soonest {
        Some(certificate) if certificate.days_left < args.cert_days => {
            let text = format!(
                "the certificate of {} {}",
                certificate.title(),
                certificate.expiry()
            );
            Err(Failure::new(exit::UNHEALTHY, text))
        }
        soonest => Ok(soonest.map(|certificate| certificate.days_left)),
    }
}
