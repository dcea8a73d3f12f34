//! What a handler of typed messages sees of the client: who it is, how the message came, its headers.

use crate::dual::auto;
use crate::util::{LONG, certs, config};
use serde::{Deserialize, Serialize};
use vstp::easy::{Request, ServerHandle, VstpClient, VstpServer};
use vstp::net::identity::{Identity, SharedToken};
use vstp::net::tcp::TcpConfig;
use vstp::net::udp::UdpConfig;
use vstp::proto::auto::{Transport, Via};
use vstp::proto::keys;
use vstp::serve::{DualConfig, ServerConfig};
use vstp::{Frame, VstpError, VstpTcpClient};

const LOCAL: &str = "127.0.0.1:0";

/// What the handler saw, as the answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    message: String,
    name: Option<String>,
    by_udp: bool,
    is_encrypted: bool,
    port: u16,
    session: Option<u128>,
    content_type: String,
}

fn tell(request: &Request<'_>, message: String) -> Result<Seen, String> {
    let via_peer = match request.transport() {
        Transport::Tcp => request.peer().tcp().map(|session| session.peer_addr()),
        Transport::Udp => request.peer().udp().map(|peer| peer.peer_addr()),
    };
    if via_peer != Some(request.peer_addr()) || !request.peer_addr().ip().is_loopback() {
        return Err(format!("{via_peer:?} is not {}", request.peer_addr()));
    }
    Ok(Seen {
        message,
        name: request.identity().map(|who| who.name().to_owned()),
        by_udp: request.transport() == Transport::Udp,
        is_encrypted: request.is_encrypted(),
        port: request.peer_addr().port(),
        session: request.session_id(),
        content_type: request
            .header_str(keys::CONTENT_TYPE)
            .unwrap_or("")
            .to_owned(),
    })
}

fn token() -> SharedToken {
    SharedToken::new("ann", "correct horse").unwrap()
}

fn known() -> ServerConfig {
    ServerConfig::default().authenticator(token())
}

fn with_token() -> TcpConfig {
    config().auth_token(Some("correct horse".into()))
}

/// What the handler must see of a client that is known.
fn seen(by_udp: bool, is_encrypted: bool, port: u16, session: u128) -> Seen {
    Seen {
        message: "hello".to_owned(),
        name: Some("ann".to_owned()),
        by_udp,
        is_encrypted,
        port,
        session: Some(session),
        content_type: "application/json".to_owned(),
    }
}

fn ask(client: &mut VstpClient, via: Via) -> Seen {
    client.call_via("hello", via).unwrap()
}

fn spawn(server: VstpServer) -> ServerHandle {
    server.spawn_requests(tell).unwrap()
}

#[test]
fn over_tcp_and_tls_a_typed_handler_sees_who_asks_and_whether_it_is_encrypted() {
    let plain = VstpServer::bind_tcp_plain(LOCAL, known()).unwrap();
    let tls = VstpServer::bind_tcp_with(LOCAL, certs().server().unwrap(), known()).unwrap();
    for (server, is_encrypted) in [(plain, false), (tls, true)] {
        let server = spawn(server);
        let addr = server.local_addr();
        let trust = certs().client().unwrap();
        let mut client = if is_encrypted {
            VstpClient::connect_tcp_with(addr, &trust, with_token())
        } else {
            VstpClient::connect_tcp_plain(addr, with_token())
        }
        .unwrap();
        let tcp = client.tcp().unwrap();
        let (port, session) = (tcp.local_addr().port(), tcp.session_id());
        let expected = seen(false, is_encrypted, port, session);
        assert_eq!(ask(&mut client, Via::Auto), expected);
        client.close().unwrap();
        server.shutdown(LONG);
    }
}

#[test]
fn over_udp_a_typed_handler_sees_who_asks() {
    let config = UdpConfig::default().authenticator(token());
    let server = spawn(VstpServer::bind_udp_with(LOCAL, config).unwrap());
    let config = UdpConfig::default().auth_token(Some("correct horse".into()));
    let mut client = VstpClient::connect_udp_with(server.local_addr(), config).unwrap();
    client.set_timeout(Some(LONG));
    let (socket, session) = client.udp().unwrap();
    let expected = seen(true, false, socket.local_addr().port(), session.id());
    assert_eq!(ask(&mut client, Via::Auto), expected);
    client.close().unwrap();
    server.shutdown(LONG);
}

#[test]
fn over_both_a_typed_handler_sees_one_client_whichever_way_it_asks() {
    let config = DualConfig::default().server(known());
    let server = VstpServer::bind_auto_with(LOCAL, certs().server().unwrap(), config).unwrap();
    let server = spawn(server);
    let trust = certs().client().unwrap();
    let config = auto().tcp(with_token());
    let mut client = VstpClient::connect_auto_with(server.local_addr(), &trust, config).unwrap();
    let by_tcp = ask(&mut client, Via::Tcp);
    let by_udp = ask(&mut client, Via::Udp);
    let session = by_tcp.session.unwrap();
    assert_eq!(by_tcp, seen(false, true, by_tcp.port, session));
    assert_eq!(by_udp, seen(true, true, by_udp.port, session));
    client.close().unwrap();
    server.shutdown(LONG);
}

#[test]
fn without_an_authenticator_there_is_no_identity_and_plaintext_is_called_that() {
    let server = spawn(VstpServer::bind_auto_plain(LOCAL, DualConfig::default()).unwrap());
    let mut client = VstpClient::connect_auto_plain(server.local_addr(), auto()).unwrap();
    for via in [Via::Tcp, Via::Udp] {
        let seen = ask(&mut client, via);
        assert_eq!((seen.name, seen.is_encrypted), (None, false));
        assert_eq!(seen.by_udp, via == Via::Udp);
        assert!(seen.session.is_some());
    }
    client.close().unwrap();
    server.shutdown(LONG);
}

#[test]
fn a_typed_handler_reads_the_headers_of_a_message() {
    let server = VstpServer::bind_tcp_plain(LOCAL, ServerConfig::default()).unwrap();
    let server = server
        .spawn_requests(|request: &Request<'_>, n: u32| {
            let tenant = request.header_str("tenant").ok_or("no tenant")?;
            let raw = request.header("raw").unwrap_or_default();
            let count = request.headers().iter().count();
            let identity = request.identity().map(Identity::name);
            Ok::<_, String>(format!("{n} {tenant} {raw:?} {count} {identity:?}"))
        })
        .unwrap();
    let mut client = VstpTcpClient::connect_plain_with(server.local_addr(), config()).unwrap();
    let request = Frame::data("7")
        .with_header("correlation-id", "1")
        .with_header("tenant", "north")
        .with_header("raw", [0xff, 0]);
    client.send(&request).unwrap();
    let answer = client.recv().unwrap().unwrap();
    assert_eq!(answer.payload, br#""7 north [255, 0] 3 None""#);
    // Its errors are answered like those of any handler.
    let request = Frame::data("7").with_header("correlation-id", "2");
    client.send(&request).unwrap();
    match client.recv() {
        Err(VstpError::ServerError(error)) => assert_eq!(error.message, "no tenant"),
        other => panic!("{other:?}"),
    }
    client.close().unwrap();
    server.shutdown(LONG);
}
