//! The command `vstp`: a server, clients, measurements and an inspector, on the public API of the crate.
//!
//! Each command is a module with its arguments and a `run`; beside them stand the modules that they share: where to
//! connect to (`url`, `connect`, `from_env`, `link`), what to print (`output`, `message`, `dump`, `progress`, `events`), how to end
//! (`exit`, `signals`). Rules for all of them: data on stdout, everything else on stderr; one line says what went wrong and what to
//! do; secrets come from files.

mod again;
mod bench;
mod call;
mod cert;
mod connect;
mod demo;
mod dump;
mod events;
mod exit;
mod file;
mod from_env;
mod health;
mod inspect;
mod link;
mod listen;
mod lock;
mod manual;
mod message;
mod output;
mod ping;
mod plot;
mod progress;
mod send;
mod server;
mod signals;
mod token;
mod units;
mod url;
mod x509;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use exit::Failure;
use output::{Color, Talk, paint};
use std::io::Write;
use std::process::ExitCode;

const ABOUT: &str = "\
VSTP: messages over TCP with TLS 1.3, or over UDP.

Try it:
  vstp demo                                   what it looks like, in one process
  vstp server --dev                           a server that echoes, in one terminal
  vstp call vstp://localhost -d hello         a client, in another

Servers are named by URLs: vstp://host[:6969] is TLS 1.3, vstp+udp:// is UDP (plaintext), vstp+auto:// is TLS 1.3 with \
sealed datagrams beside it, vstp+tcp:// is TCP without TLS and needs --plaintext. On a loopback address the certificates for development are trusted, elsewhere the public \
authorities; --cacert and --pin say otherwise.";

/// VSTP from the command line
#[derive(Debug, Parser)]
#[command(name = "vstp", version, long_about = ABOUT, after_long_help = exit::TABLE, disable_help_subcommand = true)]
struct Cli {
    /// Colours: auto (on a terminal, and without NO_COLOR), always or never
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", hide_possible_values = true, help_heading = "Output")]
    color: Color,
    /// Say more on stderr; twice for everything (RUST_LOG decides in detail)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,
    /// Say nothing on stderr but errors and warnings
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Output"
    )]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Server(Box<server::ServerArgs>),
    Send(Box<send::SendArgs>),
    Listen(Box<listen::ListenArgs>),
    Call(Box<call::CallArgs>),
    Ping(Box<ping::PingArgs>),
    Bench(Box<bench::BenchArgs>),
    Plot(plot::PlotArgs),
    File(Box<file::FileArgs>),
    Inspect(inspect::InspectArgs),
    Cert(cert::CertArgs),
    Health(Box<health::HealthArgs>),
    Demo(demo::DemoArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let talk = Talk {
        color: cli.color,
        quiet: cli.quiet,
    };
    log_to_stderr(cli.verbose, talk);
    let result = run(cli.command, talk);
    events::finish(talk);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code: 0, .. }) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let (on, off) = paint(talk.color.on_stderr(), "1;31");
            // The exit code says it, if nobody can be told.
            let _ = writeln!(std::io::stderr(), "vstp: {on}error{off}: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(command: Command, talk: Talk) -> Result<(), Failure> {
    match command {
        Command::Server(args) => server::run(*args, talk),
        Command::Send(args) => send::run(*args, talk),
        Command::Listen(args) => listen::run(*args, talk),
        Command::Call(args) => call::run(*args, talk),
        Command::Ping(args) => ping::run(*args, talk),
        Command::Bench(args) => bench::run(*args, talk),
        Command::Plot(args) => plot::run(&args, talk),
        Command::File(args) => file::run(*args, talk),
        Command::Inspect(args) => inspect::run(args, talk),
        Command::Cert(args) => cert::run(args, talk),
        Command::Health(args) => health::run(*args, talk),
        Command::Demo(args) => demo::run(args, talk),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    }
}

/// `RUST_LOG` decides if it is set; else errors of the library, and with `-v` more.
fn log_to_stderr(verbose: u8, talk: Talk) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        _ => "trace",
    };
    let style = if talk.color.on_stderr() {
        env_logger::WriteStyle::Always
    } else {
        env_logger::WriteStyle::Never
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .write_style(style)
        .init();
}
