//! Authorities, certificates, pins: made with `vstp cert`, used by servers and clients.

use crate::util::{Folder, Server, vstp};

/// An authority, a server's certificate and a client's.
fn authority(folder: &Folder) -> [String; 3] {
    let [ca, server, client] = ["ca", "server", "client"].map(|name| folder.path(name));
    vstp(&["cert", "ca", "--out", &ca]).ok();
    vstp(&[
        "cert",
        "leaf",
        "localhost",
        "127.0.0.1",
        "--ca",
        &ca,
        "--out",
        &server,
    ])
    .ok();
    vstp(&[
        "cert", "leaf", "alice", "--client", "--ca", &ca, "--out", &client,
    ])
    .ok();
    [ca, server, client]
}

fn pair(base: &str) -> (String, String) {
    (format!("{base}.pem"), format!("{base}.key"))
}

#[test]
fn an_own_authority_is_trusted_when_it_is_named() {
    let folder = Folder::new();
    let [ca, server, _] = authority(&folder);
    let (cert, key) = pair(&server);
    let server = Server::start(&["--cert", &cert, "--key", &key]);
    let ca = format!("{ca}.pem");
    assert_eq!(
        vstp(&["call", &server.url, "-d", "x", "--cacert", &ca])
            .ok()
            .text(),
        "x\n"
    );
    vstp(&[
        "call",
        &server.url,
        "-d",
        "x",
        "--cacert",
        &ca,
        "--server-name",
        "other.example",
    ])
    .failed(5, &["another name", "--server-name"]);

    let other = Folder::new();
    vstp(&["cert", "ca", "--out", &other.path("ca")]).ok();
    vstp(&[
        "call",
        &server.url,
        "-d",
        "x",
        "--cacert",
        &other.path("ca.pem"),
    ])
    .failed(5, &["unknown issuer", "--cacert"]);
    let ended = vstp(&["call", &server.url, "-d", "x", "--insecure"]).ok();
    assert!(
        ended.err.contains("warning") && ended.err.contains("--insecure"),
        "{ended:?}"
    );
    let quiet = vstp(&["-q", "call", &server.url, "-d", "x", "--insecure"]).ok();
    assert!(
        quiet.err.contains("--insecure"),
        "warned every time: {quiet:?}"
    );
}

#[test]
fn secrets_for_wireshark_are_written_when_asked() {
    let folder = Folder::new();
    let [ca, server, _] = authority(&folder);
    let (cert, key) = pair(&server);
    let (ours, theirs) = (folder.path("client.log"), folder.path("server.log"));
    let server = Server::start(&["--cert", &cert, "--key", &key, "--keylog", &theirs]);
    let ca = format!("{ca}.pem");
    let call = |more: &[&str]| vstp(&[&["call", &server.url, "-d", "x"], more].concat());
    call(&["--cacert", &ca, "--keylog", &ours]).ok();
    for file in [ours, theirs] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("CLIENT_TRAFFIC_SECRET_0 "), "{text}");
    }
    call(&["--keylog", "x"]).failed(2, &["--cacert"]);
}

#[test]
fn a_pin_is_a_key_and_not_an_authority() {
    let folder = Folder::new();
    let [ca, server, _] = authority(&folder);
    let (cert, key) = pair(&server);
    let server = Server::start(&["--cert", &cert, "--key", &key]);
    let pin = vstp(&["cert", "pin", &cert]).ok().text();
    assert!(pin.starts_with("sha256/"), "{pin}");
    assert_eq!(
        vstp(&["call", &server.url, "-d", "x", "--pin", pin.trim()])
            .ok()
            .text(),
        "x\n"
    );
    let other = vstp(&["cert", "pin", &format!("{ca}.pem")]).ok().text();
    vstp(&["call", &server.url, "-d", "x", "--pin", other.trim()])
        .failed(5, &["not the pinned one"]);
}

#[test]
fn clients_without_the_right_certificate_are_refused() {
    let folder = Folder::new();
    let [ca, server, client] = authority(&folder);
    let ((cert, key), (client_cert, client_key)) = (pair(&server), pair(&client));
    let ca = format!("{ca}.pem");
    let server = Server::start(&["--cert", &cert, "--key", &key, "--client-ca", &ca]);
    let call =
        |more: &[&str]| vstp(&[&["call", &server.url, "-d", "x", "--cacert", &ca], more].concat());
    assert_eq!(
        call(&["--cert", &client_cert, "--key", &client_key])
            .ok()
            .text(),
        "x\n"
    );
    call(&[]).failed(5, &["--cert and --key"]);
    // The server's own certificate is not for clients.
    call(&["--cert", &cert, "--key", &key]).failed(5, &["TLS"]);
    call(&["--cert", &client_cert, "--key", &key]).failed(5, &[]);
}

#[test]
fn no_command_talks_to_a_server_that_is_not_trusted() {
    let (folder, other) = (Folder::new(), Folder::new());
    let [_, server, _] = authority(&folder);
    let (cert, key) = pair(&server);
    let server = Server::start(&["--auto", "--cert", &cert, "--key", &key]);
    vstp(&["cert", "ca", "--out", &other.path("ca")]).ok();
    let (ca, file) = (other.path("ca.pem"), other.file("f", "x"));
    for url in [&server.url, &format!("vstp://{}", server.address())] {
        for args in [
            &["call", url, "-d", "x"][..],
            &["send", url, "-m", "x"],
            &["listen", url],
            &["ping", url],
            &["bench", url, "-t", "100ms"],
            &["file", "send", &file, url],
            &["file", "recv", "f", url, "-o", &other.path("g")],
        ] {
            vstp(&[args, &["--cacert", &ca]].concat()).failed(5, &["unknown issuer", "--cacert"]);
        }
        vstp(&["health", url, "--cacert", &ca]).failed(9, &["unknown issuer"]);
    }
}

#[test]
fn show_says_what_a_certificate_says() {
    let folder = Folder::new();
    let [ca, server, _] = authority(&folder);
    let text = vstp(&["cert", "show", &format!("{server}.pem")])
        .ok()
        .text();
    for words in [
        "certificate CN=localhost",
        "localhost, 127.0.0.1",
        "CN=VSTP authority",
        " days)",
        "sha256/",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let shown = &vstp(&["cert", "show", &format!("{ca}.pem"), "--json"])
        .ok()
        .json()[0];
    assert_eq!(shown["authority"], true);
    assert!(
        [3649, 3650].contains(&shown["days_left"].as_i64().unwrap()),
        "{shown}"
    );
    let nothing = folder.file("nothing", "hello");
    vstp(&["cert", "show", &nothing]).failed(5, &["no certificate", &nothing]);
    vstp(&["cert", "pin", &format!("{ca}.key")]).failed(5, &["no certificate"]);
}

#[test]
fn nothing_is_overwritten_and_keys_are_private() {
    let folder = Folder::new();
    let [ca, ..] = authority(&folder);
    vstp(&["cert", "ca", "--out", &ca]).failed(8, &["exists already", "--out"]);
    vstp(&["cert", "leaf", "a", "--ca", &folder.path("none")]).failed(8, &["vstp cert ca"]);
    vstp(&["cert", "leaf", "ä", "--ca", &ca]).failed(2, &["ASCII"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(format!("{ca}.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_server_says_what_certificate_it_wants() {
    vstp(&["server", "127.0.0.1:0"]).failed(2, &["--cert", "--dev", "--plaintext"]);
    vstp(&["server", "0.0.0.0:0", "--dev"]).failed(2, &["loopback", "vstp cert leaf"]);
    vstp(&["server", "127.0.0.1:0", "--dev", "--plaintext"]).failed(2, &["--plaintext"]);
    vstp(&["server", "127.0.0.1:0", "--dev", "--udp"]).failed(2, &["--udp"]);
    let folder = Folder::new();
    let [_, server, client] = authority(&folder);
    let ((cert, _), (_, other_key)) = (pair(&server), pair(&client));
    vstp(&[
        "server",
        "127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &other_key,
    ])
    .failed(5, &[]);
}
