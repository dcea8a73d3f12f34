//! Processes with deadlines, folders that are removed, servers that are killed.

use crossbeam_channel::{Receiver, bounded};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

/// Reached only by a test that fails.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Whether files have their full sizes, which takes minutes: VSTP_FULL=1.
pub(crate) fn is_full() -> bool {
    env::var_os("VSTP_FULL").is_some()
}

/// For what depends on the size of a file.
pub(crate) fn long() -> Duration {
    if is_full() { 20 * LONG } else { LONG }
}

/// A folder of one test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("vstp-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }

    /// Everything in it, hidden files too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command with these arguments, in an environment of its own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vstp"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("VSTP_") || ["RUST_LOG", "NO_COLOR"].contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    let dev = env::temp_dir().join(format!("vstp-cli-{}-dev", std::process::id()));
    command.args(args).env("VSTP_DEV_CERTS", dev);
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// -1: killed by a signal.
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    /// The JSON objects on stdout, each a line with the version of its form.
    pub(crate) fn json(&self) -> Vec<Value> {
        let text = self.text();
        let parse = |line: &str| -> Value {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))
        };
        let all: Vec<_> = text.lines().map(parse).collect();
        assert!(all.iter().all(|value| value["v"] == 1), "{text}");
        all
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Ended with this code, nothing on stdout, and one line on stderr that contains all of these words.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "one line: {self:?}");
        assert!(self.err.starts_with("vstp: error: "), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:?}");
        }
        self
    }

    /// Refused by the parser of the arguments.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:?}");
        }
        self
    }
}

/// Runs the command to its end.
pub(crate) fn vstp(args: &[&str]) -> Ended {
    vstp_with(args, b"")
}

/// Runs the command with this input.
pub(crate) fn vstp_with(args: &[&str], input: &[u8]) -> Ended {
    let mut running = Running::start(command(args));
    let mut stdin = running.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = move || {
        // A command that does not read its input closes it.
        let _ = stdin.write_all(&input);
    };
    thread::Builder::new().spawn(feed).unwrap();
    running.end()
}

/// A command that runs; killed if the test gives up on it.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    out: Receiver<Vec<u8>>,
    err: Receiver<Vec<u8>>,
    kept: (Vec<u8>, Vec<u8>),
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            out: lines(child.stdout.take().unwrap()),
            err: lines(child.stderr.take().unwrap()),
            child,
            kept: Default::default(),
        }
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        let line = self.out.recv_timeout(LONG);
        let line = line.unwrap_or_else(|_| panic!("no more output; {:?}", self.errors()));
        self.kept.0.extend_from_slice(&line);
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The next line of stderr with these words.
    pub(crate) fn error_line(&mut self, words: &str) -> String {
        loop {
            let line = self.err.recv_timeout(LONG);
            let line = line.unwrap_or_else(|_| panic!("no {words:?}; {:?}", self.errors()));
            self.kept.1.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.contains(words) {
                return line;
            }
        }
    }

    fn errors(&self) -> String {
        let rest: Vec<u8> = self.err.try_iter().flatten().collect();
        String::from_utf8_lossy(&[&self.kept.1[..], &rest].concat()).into_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end by itself.
    pub(crate) fn end(mut self) -> Ended {
        let rest = |from: &Receiver<Vec<u8>>| {
            let mut all = Vec::new();
            loop {
                match from.recv_timeout(long()) {
                    Ok(part) => all.extend(part),
                    Err(error) if error.is_disconnected() => return all,
                    Err(_) => panic!("it did not end"),
                }
            }
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        let (mut all_out, mut all_err) = std::mem::take(&mut self.kept);
        all_out.extend(out);
        all_err.extend(err);
        Ended {
            code: self.child.wait().unwrap().code().unwrap_or(-1),
            out: all_out,
            err: String::from_utf8_lossy(&all_err).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = bounded(100_000);
    let read = move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(count) if count > 0 => {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    thread::Builder::new().spawn(read).unwrap();
    receiver
}

/// `vstp server` that listens.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) url: String,
}

impl Server {
    /// With these flags, on a free port.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", flags)
    }

    pub(crate) fn start_at(address: &str, flags: &[&str]) -> Self {
        let args = [&["server", address], flags].concat();
        let mut running = Running::start(command(&args));
        let line = running.line();
        let url = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        let url = url.split(' ').next().unwrap().to_owned();
        Self { running, url }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.url.split("://").nth(1).unwrap()
    }
}

/// Bytes that cannot be compressed or guessed, the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> String {
    let hash = hmac_sha256::Hash::hash(&fs::read(path).unwrap());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
