//! `vstp server --exec`: a program for each request, the payload on its input, its output as the answer.
//!
//! The program runs in a process group of its own and is killed, with everything it started, when it takes
//! too long. Its errors go to the server's stderr. Three short-lived threads for each request: one feeds the input
//! (`vstp-exec-in`), one reads the output (`vstp-exec-out`), and the worker waits for them.

use super::bind::{Handler, Peer};
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use vstp::Frame;
use vstp::proto::ErrorCode;
use vstp::serve::{HandlerError, IntoReply, Reply};

/// The handler that runs `command` in a shell for each message.
pub(crate) fn handler(command: &str, timeout: Duration, max_len: usize) -> Handler {
    let command = command.to_owned();
    Arc::new(
        move |peer, frame| match answer(&command, timeout, max_len, peer, frame) {
            Ok(output) => Frame::data(output).into_reply(),
            Err(error) => Reply::Error(error),
        },
    )
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.arg("/C").arg(command);
    shell
}

fn answer(
    command: &str,
    timeout: Duration,
    max_len: usize,
    peer: &Peer<'_>,
    frame: Frame,
) -> Result<Vec<u8>, HandlerError> {
    let failed = |what: &str, error: std::io::Error| {
        log::warn!("--exec: {what}: {error}");
        HandlerError::new(ErrorCode::Handler, "the program cannot be run")
    };
    let mut child = shell(command)
        .env("VSTP_PEER_ADDR", peer.addr().to_string())
        .env("VSTP_SESSION_ID", peer.session_id().to_string())
        .env("VSTP_IDENTITY", peer.name().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed("spawn", e))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(HandlerError::new(
            ErrorCode::Handler,
            "the program has no pipes",
        ));
    };
    let named = |name: &str| {
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(128 * 1024)
    };
    let feed = move || {
        // A program that does not want all of its input is no error.
        let _ = input.write_all(&frame.payload);
    };
    let feeder = named("vstp-exec-in").spawn(feed);
    let (sender, receiver) = bounded(1);
    let read = move || {
        let mut bytes = Vec::new();
        let read = output.take(max_len as u64 + 1).read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    };
    let reader = named("vstp-exec-out").spawn(read);
    let (feeder, reader) = match (feeder, reader) {
        (Ok(feeder), Ok(reader)) => (feeder, reader),
        (Err(error), _) | (_, Err(error)) => {
            kill(&mut child);
            return Err(failed("thread", error));
        }
    };
    let received = receiver.recv_timeout(timeout);
    let result = match received {
        Ok(Ok(bytes)) if bytes.len() > max_len => Err(HandlerError::new(
            ErrorCode::TooLarge,
            format!("the program wrote more than {max_len} bytes"),
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(failed("output", error)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(HandlerError::new(
            ErrorCode::Timeout,
            format!("the program took longer than {timeout:?}"),
        )),
    };
    if result.is_err() {
        kill(&mut child);
    }
    let status = child.wait();
    // What it started in the background must not keep its input open, or the feeder would wait for it.
    kill_group(&child);
    let _ = (feeder.join(), reader.join());
    let bytes = result?;
    match status {
        Ok(status) if status.success() => Ok(bytes),
        Ok(status) => Err(HandlerError::new(
            ErrorCode::Handler,
            format!("the program failed: {status}"),
        )),
        Err(error) => Err(failed("wait", error)),
    }
}

fn kill(child: &mut Child) {
    kill_group(child);
    let _ = child.kill();
}

#[cfg(unix)]
fn kill_group(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: &Child) {}
