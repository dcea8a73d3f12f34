//! Many connections that say nothing: what they cost, and that they harm nobody.
//!
//! The server is a process of its own, so that its memory is its own. Everyday runs hold 300
//! connections, VSTP_FULL=1 holds 2,000 (it needs some 2,100 descriptors for each process).

use crate::util::{Kind, LONG, bind, certs, echo_frame};
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use vstp::Frame;
use vstp::net::tcp::{TcpConfig, VstpTcpClient};
use vstp::serve::ServerConfig;

const SERVER: &str = "VSTP_IDLE_SERVER";

/// Kills the server process when a test gives up on it.
struct Server {
    child: Child,
    addr: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(kind: Kind, folder: &std::path::Path) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), kind, folder)
    }

    fn start_by(mut command: Command, kind: Kind, folder: &std::path::Path) -> Self {
        let mut child = command
            .args(["--exact", "idle::the_server_process", "--nocapture"])
            .env(SERVER, format!("{kind:?}"))
            .env("VSTP_DEV_CERTS", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let addr = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("listening on ")
                    .map(|(_, addr)| addr.to_owned())
            })
            .unwrap();
        Self { child, addr }
    }

    /// Bytes of memory in use.
    fn resident(&self) -> usize {
        let statm = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(statm).unwrap_or_default();
        statm
            .split(' ')
            .nth(1)
            .and_then(|n| n.parse::<usize>().ok())
            .unwrap_or(0)
            * 4096
    }
}

/// Not a test of its own: the server of the tests below, in its process.
#[test]
fn the_server_process() {
    let Some(kind) = env::var_os(SERVER) else {
        return;
    };
    let config = ServerConfig::default()
        .max_connections(4000)
        .max_per_address(4000);
    let server = if kind == "Tls" {
        let tls = vstp::net::tls::dev::server().unwrap();
        vstp::VstpTcpServer::bind_with("127.0.0.1:0", tls, config).unwrap()
    } else {
        bind(Kind::Plain, config)
    };
    let handle = server.spawn(echo_frame).unwrap();
    println!("listening on {}", handle.local_addr());
    // Until the test closes our input, or kills us.
    let _ = std::io::stdin().lines().count();
}

fn hold(kind: Kind, limit: usize) {
    let count = if env::var_os("VSTP_FULL").is_some() {
        2000
    } else {
        300
    };
    let folder = env::temp_dir().join(format!("vstp-idle-{}-{kind:?}", std::process::id()));
    let server = Server::start(kind, &folder);
    let tls = (kind == Kind::Tls).then(|| {
        let ca = std::fs::read(folder.join("ca.pem")).unwrap();
        let builder = vstp::net::tls::TlsClientConfig::builder();
        builder.ca_pem(&ca).unwrap().build().unwrap()
    });
    let connect = || {
        // The keep-alive of a client is a thread; here it is the server that is measured.
        let config = TcpConfig::default()
            .read_timeout(Some(LONG))
            .handshake_timeout(LONG)
            .keepalive_interval(None);
        match &tls {
            Some(tls) => VstpTcpClient::connect_with(server.addr.as_str(), tls, config).unwrap(),
            None => VstpTcpClient::connect_plain_with(server.addr.as_str(), config).unwrap(),
        }
    };
    let ask = |client: &mut VstpTcpClient| {
        client.send(&Frame::data("?")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(Frame::data("?")));
    };
    // What the first connections need once is not theirs.
    let mut first: Vec<_> = (0..10).map(|_| connect()).collect();
    first.iter_mut().for_each(ask);
    let before = server.resident();
    let mut idle: Vec<_> = (0..count).map(|_| connect()).collect();
    let each = (server.resident() - before) / count;
    println!("{count} idle connections, {kind:?}: {each} bytes each");
    let mut fresh = connect();
    (0..100).for_each(|_| ask(&mut fresh));
    ask(&mut idle[count / 2]);
    // Without optimisation, stacks are about twice as deep.
    let limit = if cfg!(debug_assertions) {
        3 * limit
    } else {
        limit
    };
    assert!(each <= limit, "{each} bytes for each idle connection");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn idle_connections_over_tls_cost_little() {
    hold(Kind::Tls, 64 << 10);
}

#[test]
fn idle_connections_in_plaintext_cost_little() {
    hold(Kind::Plain, 32 << 10);
}

/// A server with 40 descriptors: it runs out of them, serves whom it has, and recovers.
#[test]
#[cfg(unix)]
fn e02_a_server_without_descriptors_recovers_when_some_are_free() {
    let folder = env::temp_dir().join(format!("vstp-idle-{}-e02", std::process::id()));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap());
    let server = Server::start_by(command, Kind::Plain, &folder);
    let config = |ms| {
        TcpConfig::default()
            .read_timeout(Some(LONG))
            .handshake_timeout(std::time::Duration::from_millis(ms))
            .keepalive_interval(None)
    };
    let connect = |ms| VstpTcpClient::connect_plain_with(server.addr.as_str(), config(ms));
    let ask = |client: &mut VstpTcpClient| {
        client.send(&Frame::data("?")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(Frame::data("?")));
    };
    let mut clients = Vec::new();
    while let Ok(client) = connect(500) {
        clients.push(client);
        assert!(
            clients.len() < 40,
            "40 descriptors are not enough for 40 clients"
        );
    }
    clients.iter_mut().for_each(ask);
    clients.clear();
    let mut again = connect(20_000).unwrap();
    ask(&mut again);
}

#[test]
fn certificates_of_this_binary_are_not_those_of_the_server_process() {
    let folder = env::temp_dir().join(format!("vstp-idle-{}-other", std::process::id()));
    let server = Server::start(Kind::Tls, &folder);
    let client = certs().client().unwrap();
    let result = VstpTcpClient::connect(server.addr.as_str(), &client);
    assert!(matches!(result, Err(vstp::VstpError::Tls(_))), "{result:?}");
    let _ = std::fs::remove_dir_all(&folder);
}
