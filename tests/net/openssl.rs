//! Against another implementation of TLS, the command `openssl`. Without it (version 3), these tests
//! say so and prove nothing; scripts/setup-ci installs it.

use crate::tls_peer::{Authority, Leaf, authority, eventually, expired, leaf};
use crate::util::{LONG, config, echo_frame};
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use vstp::error::TlsErrorKind;
use vstp::net::clock;
use vstp::net::tls::TlsClientConfig;
use vstp::serve::ServerHandle;
use vstp::wire::{self, Limits, Trailer};
use vstp::{Frame, FrameType, VstpError, VstpTcpClient, VstpTcpServer};

/// Whether the command is there.
fn is_missing() -> bool {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let output = Command::new("openssl").arg("version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let found = version.as_deref().unwrap_or("none");
    let missing = !found.starts_with("OpenSSL 3");
    if missing {
        eprintln!("skipped: needs the command `openssl`, version 3; found: {found}");
    }
    missing
}

/// A running `openssl`; ends with the value.
struct OpenSsl {
    child: Child,
    output: Receiver<Vec<u8>>,
    /// All that it has said, on both of its outputs.
    text: String,
}

impl OpenSsl {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, output) = sync_channel(1000);
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self {
            child,
            output,
            text: String::new(),
        }
    }

    fn client(addr: SocketAddr, args: &[&str]) -> Self {
        let addr = addr.to_string();
        let ca = Files::new(&[("ca.pem", &authority().pem)]);
        let ca = ca.path("ca.pem");
        let mut all = vec!["s_client", "-connect", &addr, "-CAfile", &ca];
        all.extend(["-verify_return_error", "-verify_ip", "127.0.0.1"]);
        all.extend(args);
        let mut client = Self::start(&all);
        // It has read the file then.
        client.wait_for("CONNECTED");
        client
    }

    /// A server and its address.
    fn server(certificate: &Leaf, args: &[&str]) -> (Self, SocketAddr) {
        let (cert, key) = (&certificate.pem[..], &certificate.key_pem[..]);
        let files = Files::new(&[("cert.pem", cert), ("key.pem", key)]);
        let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
        let mut all = vec!["s_server", "-accept", "127.0.0.1:0"];
        all.extend(["-cert", &cert, "-key", &key]);
        all.extend(args);
        let mut server = Self::start(&all);
        server.wait_for("ACCEPT 127.0.0.1:");
        server.wait_for("\n");
        let line = server.text.lines().find_map(|l| l.strip_prefix("ACCEPT "));
        let addr = line.unwrap().parse().unwrap();
        (server, addr)
    }

    /// Waits for this text in its output.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let until = clock::now() + LONG;
        while !self.text.contains(text) {
            let left = until.saturating_duration_since(clock::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.text += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("no {text:?} ({error}) in:\n{}", self.text),
            }
        }
    }

    /// Waits until it has ended, and gives all that it said.
    #[track_caller]
    fn wait_for_end(mut self) -> String {
        // It waits for more to send otherwise.
        drop(self.child.stdin.take());
        let until = clock::now() + LONG;
        loop {
            let left = until.saturating_duration_since(clock::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.text += &String::from_utf8_lossy(&bytes),
                Err(_) if !left.is_zero() => return std::mem::take(&mut self.text),
                Err(_) => panic!("it does not end:\n{}", self.text),
            }
        }
    }

    /// Sends this frame.
    fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        let limits = Limits::default();
        wire::encode(frame.as_ref(), Trailer::WhenFlagged, &limits, &mut bytes).unwrap();
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(&bytes).unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what comes, until it ends.
fn forward(mut from: impl Read + Send + 'static, to: SyncSender<Vec<u8>>) {
    let run = move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            if to.send(chunk[..len].to_vec()).is_err() {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("openssl".to_owned());
    thread.spawn(run).unwrap();
}

/// Files for a command, gone with the value.
struct Files(PathBuf);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("vstp-openssl-{}-{n}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn echo() -> ServerHandle {
    let server = VstpTcpServer::bind("127.0.0.1:0", leaf().server()).unwrap();
    server.spawn(echo_frame).unwrap()
}

fn tls_failures(server: &ServerHandle, count: u64) {
    eventually("the count of failures", || {
        server.stats().handshake_tls_failures == count
    });
}

fn connect(addr: SocketAddr) -> Result<VstpTcpClient, VstpError> {
    let client: TlsClientConfig = authority().client().build().unwrap();
    VstpTcpClient::connect_with(addr, &client, config())
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T, VstpError>) -> TlsErrorKind {
    match result {
        Err(VstpError::Tls(error)) => error.kind,
        other => panic!("no error of TLS: {other:?}"),
    }
}

#[test]
fn a_client_with_tls_1_3_and_our_protocol_is_served() {
    if is_missing() {
        return;
    }
    let server = echo();
    let mut client = OpenSsl::client(server.local_addr(), &["-tls1_3", "-alpn", "vstp/1"]);
    client.wait_for("ALPN protocol: vstp/1");
    client.wait_for("Verify return code: 0 (ok)");
    assert!(client.text.contains("TLSv1.3"), "{}", client.text);
    client.send(&Frame::new(FrameType::Hello));
    client.wait_for("session-id");
    client.send(&Frame::data("an echo of this"));
    client.wait_for("an echo of this");
    client.send(&Frame::new(FrameType::Bye));
    client.wait_for_end();
    let stats = server.stats();
    assert_eq!((stats.handshake_tls_failures, stats.frames_in), (0, 1));
    server.shutdown(LONG);
}

#[test]
fn c06_a_client_with_tls_1_2_is_refused() {
    if is_missing() {
        return;
    }
    let server = echo();
    for (n, version) in (1..).zip(["-tls1_2", "-no_tls1_3"]) {
        let client = OpenSsl::client(server.local_addr(), &[version, "-alpn", "vstp/1"]);
        let text = client.wait_for_end();
        assert!(text.contains("alert protocol version"), "{text}");
        tls_failures(&server, n);
    }
    server.shutdown(LONG);
}

#[test]
fn c12_a_client_without_our_protocol_is_refused() {
    if is_missing() {
        return;
    }
    let server = echo();
    let client = OpenSsl::client(server.local_addr(), &["-tls1_3", "-alpn", "h2,http/1.1"]);
    let text = client.wait_for_end();
    assert!(text.contains("alert no application protocol"), "{text}");
    tls_failures(&server, 1);

    let mut client = OpenSsl::client(server.local_addr(), &["-tls1_3"]);
    client.wait_for("No ALPN negotiated");
    client.wait_for_end();
    tls_failures(&server, 2);
    assert_eq!(server.stats().frames_in, 0);
    server.shutdown(LONG);
}

#[test]
fn c14_a_client_gets_nothing_to_resume_with() {
    if is_missing() {
        return;
    }
    let server = echo();
    let mut client = OpenSsl::client(server.local_addr(), &["-tls1_3", "-alpn", "vstp/1"]);
    client.wait_for("Verify return code: 0 (ok)");
    assert!(client.text.contains("Early data was not sent"));
    client.send(&Frame::new(FrameType::Hello));
    client.wait_for("session-id");
    assert!(
        !client.text.contains("New Session Ticket"),
        "{}",
        client.text
    );
    drop(client);
    server.shutdown(LONG);
}

#[test]
fn our_client_is_served_by_it() {
    if is_missing() {
        return;
    }
    let (mut server, addr) = OpenSsl::server(leaf(), &["-tls1_3", "-alpn", "vstp/1"]);
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(addr));
        server.wait_for("VT\x01\x01");
        server.send(&Frame::new(FrameType::Welcome).with_header("session-id", "77"));
        let mut client = connecting.join().unwrap().unwrap();
        assert_eq!(client.session_id(), 77);
        client.send(&Frame::data("this is for openssl")).unwrap();
        server.wait_for("this is for openssl");
        server.send(&Frame::data("and this is from it"));
        let answer = client.recv().unwrap().unwrap();
        assert_eq!(answer.payload, b"and this is from it");
    });
}

#[test]
fn c06_a_server_with_tls_1_2_is_refused() {
    if is_missing() {
        return;
    }
    let (_server, addr) = OpenSsl::server(leaf(), &["-tls1_2", "-alpn", "vstp/1"]);
    let error = connect(addr).unwrap_err();
    assert!(error.to_string().contains("TLS 1.3"), "{error}");
    assert_eq!(kind::<()>(Err(error)), TlsErrorKind::Incompatible);
}

#[test]
fn c12_a_server_without_our_protocol_is_refused() {
    if is_missing() {
        return;
    }
    let (_server, addr) = OpenSsl::server(leaf(), &["-tls1_3"]);
    assert_eq!(kind(connect(addr)), TlsErrorKind::NoApplicationProtocol);
    let (_server, addr) = OpenSsl::server(leaf(), &["-tls1_3", "-alpn", "h2"]);
    assert_eq!(kind(connect(addr)), TlsErrorKind::NoApplicationProtocol);
}

#[test]
fn c01_to_c04_a_server_with_a_bad_certificate_is_refused() {
    if is_missing() {
        return;
    }
    let stranger = Authority::new("nobody");
    for (certificate, reason, alert) in [
        (
            stranger.issue("127.0.0.1", |_| {}),
            TlsErrorKind::UnknownIssuer,
            "alert unknown ca",
        ),
        (
            authority().issue("localhost", |_| {}),
            TlsErrorKind::WrongName,
            "alert bad certificate",
        ),
        (
            authority().issue("127.0.0.1", expired),
            TlsErrorKind::CertificateExpired,
            "alert certificate expired",
        ),
    ] {
        let (mut server, addr) = OpenSsl::server(&certificate, &["-tls1_3", "-alpn", "vstp/1"]);
        assert_eq!(kind(connect(addr)), reason);
        server.wait_for(alert);
    }
}

#[test]
fn c07_a_client_certificate_that_it_requires() {
    if is_missing() {
        return;
    }
    let ca = Files::new(&[("ca.pem", &authority().pem)]);
    let ca = ca.path("ca.pem");
    let args = ["-tls1_3", "-alpn", "vstp/1", "-Verify", "1", "-CAfile", &ca];
    let (_server, addr) = OpenSsl::server(leaf(), &args);
    assert_eq!(kind(connect(addr)), TlsErrorKind::Alert(116));
}
