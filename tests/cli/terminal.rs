//! On a pseudo-terminal: colour and progress appear there, and nowhere else.

use crate::util::{Folder, LONG, Server, command, noise, vstp};
use crossbeam_channel::bounded;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::thread;

/// Runs the command with stdout and stderr on a terminal of this width; its exit code, and what appeared.
fn on_terminal(mut command: Command, width: u16) -> (i32, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    tcsetwinsize(&terminal, size).unwrap();
    command
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal);
    let mut child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
    // Its copies of the terminal, so that reading ends with the child.
    drop(command);
    let mut controller = File::from(controller);
    let (sender, receiver) = bounded(1);
    let read = move || {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        // The end of a terminal is an error (EIO).
        while let Ok(count) = controller.read(&mut buffer) {
            if count == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..count]);
        }
        let _ = sender.send(all);
    };
    thread::Builder::new().spawn(read).unwrap();
    let Ok(all) = receiver.recv_timeout(LONG) else {
        child.kill().unwrap();
        panic!("it did not end");
    };
    let code = child.wait().unwrap().code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn colour_on_a_terminal_and_nowhere_else() {
    let (code, text) = on_terminal(command(&["demo"]), 100);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\x1b[1;31m"), "{text}");

    let mut plain = command(&["demo"]);
    plain.env("NO_COLOR", "1");
    let (_, text) = on_terminal(plain, 100);
    assert!(!text.contains('\x1b'), "{text}");
    let (_, text) = on_terminal(command(&["--color", "never", "demo"]), 100);
    assert!(!text.contains('\x1b'), "{text}");

    assert!(!vstp(&["demo"]).ok().text().contains('\x1b'));
    assert!(
        vstp(&["--color", "always", "demo"])
            .ok()
            .text()
            .contains('\x1b')
    );

    let (code, text) = on_terminal(command(&["inspect", "/no/such/file"]), 100);
    assert_eq!(code, 8);
    assert!(
        text.contains("\x1b[1;31merror\x1b[0m: /no/such/file"),
        "{text}"
    );
}

#[test]
fn progress_on_a_terminal_and_nowhere_else() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = here.file("some-file", noise(5_000_000, 1));
    let server = Server::start(&["--dev", "--dir", &there.path("")]);
    let (code, text) = on_terminal(command(&["file", "send", &file, &server.url]), 100);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("100%") && text.contains("4.8 MiB of 4.8 MiB"),
        "{text}"
    );
    assert!(text.contains("some-file [####"), "{text}");

    let (code, text) = on_terminal(
        command(&[
            "file",
            "recv",
            "some-file",
            &server.url,
            "-o",
            &here.path("back"),
        ]),
        50,
    );
    assert_eq!(code, 0, "{text}");
    let longest = text
        .split(['\r', '\n'])
        .filter(|line| line.contains('%'))
        .map(|line| line.trim_end_matches("\x1b[K").len());
    assert!(longest.max().unwrap() <= 50, "{text}");

    let send = |more: &[&str]| {
        let name = ["--name", "another"];
        let _ = std::fs::remove_file(there.path("another"));
        vstp(&[&["file", "send", &file, &server.url], &name[..], more].concat()).ok()
    };
    assert!(!send(&[]).err.contains('%'));
    assert!(send(&["--progress", "always"]).err.contains("100%"));
    let (_, text) = on_terminal(
        command(&["file", "send", &file, &server.url, "--progress", "never"]),
        100,
    );
    assert!(!text.contains('%'), "{text}");
}

#[test]
fn every_command_runs_on_a_terminal_and_colours_what_matters() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name);
    let frame = folder.file("frame", "5654010300000000000000d2879319");
    let log = folder.file(
        "log",
        "{\"time\":0.1,\"name\":\"vstp:frame_sent\",\"data\":{\"length\":9}}\n",
    );
    folder.file("g", "x");
    let server = Server::start(&["--dev", "--dir", &path("")]);
    let url = server.url.as_str();
    let echo = Server::start(&["--dev"]);
    for args in [
        &["send", &echo.url, "-m", "x"][..],
        &["call", &echo.url, "-d", "hello"],
        &["listen", url, "-n", "0"],
        &["ping", url, "-n", "1"],
        &["bench", &echo.url, "-t", "50ms"],
        &["plot", &log],
        &["file", "send", &frame, url, "--name", "h"],
        &["file", "recv", "g", url, "-o", &path("i")],
        &["inspect", &frame],
        &["cert", "ca", "--out", &path("ca")],
        &["cert", "show", &path("ca.pem")],
        &["health", url],
        &["completions", "bash"],
        &["man"],
        &["--help"],
    ] {
        let (code, text) = on_terminal(command(args), 80);
        assert_eq!(code, 0, "{args:?}: {text}");
        if ["ping", "inspect"].contains(&args[0]) {
            assert!(text.contains("\x1b["), "{args:?}: {text}");
            let mut plain = command(args);
            plain.env("NO_COLOR", "1");
            let (_, text) = on_terminal(plain, 80);
            assert!(!text.contains('\x1b'), "{args:?}: {text}");
        }
    }
    // A server, which is waited for.
    let address = echo.address().to_owned();
    let url = echo.url.clone();
    drop(echo);
    let (code, text) = thread::scope(|scope| {
        let call = ["call", &url, "-d", "x", "--reconnect"];
        let client = scope.spawn(move || vstp(&call));
        let ended = on_terminal(command(&["server", &address, "--dev", "--once"]), 80);
        assert_eq!(client.join().unwrap().ok().text(), "x\n");
        ended
    });
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("listening on vstp://"), "{text}");
}
