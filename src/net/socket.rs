//! System calls on a connected stream socket, with absolute deadlines.
//!
//! [`Transport`] is what a connection needs of the system; TCP implements it here, tests implement
//! it with scripts. [`ReadSocket`] and [`WriteSocket`] are the two directions: each belongs to one
//! owner at a time, so each may cache the timeout that it armed in the kernel. No lock is involved.

use super::clock;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connected byte stream, as the system offers it. Shared by both directions.
pub(crate) trait Transport: Send + Sync + fmt::Debug {
    /// Appends to the unused capacity of `into` what has arrived; 0 is the end of the stream. With
    /// `wait`, blocks until something has arrived or the receive timeout is over.
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize>;
    /// Takes bytes from the front of `parts`. With `wait`, blocks until at least one was taken or
    /// the send timeout is over.
    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize>;
    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends one or both directions; blocked calls of that direction return.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

#[cfg(unix)]
impl Transport for TcpStream {
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        use rustix::net::RecvFlags;
        let flags = if wait {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        let (_, len) = rustix::net::recv(self, rustix::buffer::spare_capacity(into), flags)?;
        Ok(len)
    }

    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
        use rustix::net::{SendAncillaryBuffer, SendFlags};
        // A peer that went away must be an error, not a signal that kills a host written in C.
        #[cfg(not(target_vendor = "apple"))]
        let mut flags = SendFlags::NOSIGNAL;
        // There std sets the option on the socket instead.
        #[cfg(target_vendor = "apple")]
        let mut flags = SendFlags::empty();
        if !wait {
            flags |= SendFlags::DONTWAIT;
        }
        let sent = match parts {
            [part] => rustix::net::send(self, part, flags)?,
            _ => rustix::net::sendmsg(self, parts, &mut SendAncillaryBuffer::default(), flags)?,
        };
        Ok(sent)
    }

    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }

    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}

/// Without flags on single calls, "do not wait" is a timeout of a millisecond.
#[cfg(not(unix))]
impl Transport for TcpStream {
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        use std::io::Read;
        let timeout = self.read_timeout()?;
        if !wait {
            self.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        let start = into.len();
        into.resize(into.capacity(), 0);
        let result = (&mut &*self).read(&mut into[start..]);
        into.truncate(start + *result.as_ref().unwrap_or(&0));
        if !wait {
            self.set_read_timeout(timeout)?;
        }
        result
    }

    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
        use std::io::Write;
        if wait {
            return (&mut &*self).write_vectored(parts);
        }
        let timeout = self.write_timeout()?;
        self.set_write_timeout(Some(Duration::from_millis(1)))?;
        let result = (&mut &*self).write_vectored(parts);
        self.set_write_timeout(timeout)?;
        result
    }

    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }

    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}

/// The timeout armed in the kernel for one direction; armed anew only when it no longer serves.
#[derive(Debug)]
struct Armed(Option<Option<Duration>>);

impl Armed {
    /// The timeout to set now so that a call ends by about `left`, or `None` where the armed one
    /// serves: it ends the call early, at most eight times over, and the caller calls again.
    fn update(&mut self, left: Option<Duration>) -> Option<Option<Duration>> {
        let serves = match (self.0, left) {
            (Some(armed), None) => armed.is_none(),
            (Some(Some(armed)), Some(left)) => armed <= left && armed >= left / 8,
            _ => false,
        };
        if serves {
            return None;
        }
        // Zero would mean "never", and the kernel counts in ticks: at least a millisecond.
        // A long one is set short, so that it still serves the next call, whose deadline is as far
        // away but for the moments in between.
        let timeout = left.map(|left| match left {
            long if long >= Duration::from_millis(64) => long - long / 8,
            short => short.max(Duration::from_millis(1)),
        });
        self.0 = Some(timeout);
        Some(timeout)
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(crate) struct ReadSocket {
    transport: Arc<dyn Transport>,
    armed: Armed,
    /// How long to poll before sleeping.
    spin: Duration,
}

impl ReadSocket {
    pub(crate) fn new(transport: Arc<dyn Transport>, spin: Duration) -> Self {
        Self {
            transport,
            armed: Armed(None),
            spin,
        }
    }

    /// Appends what arrives to the unused capacity of `into`.
    ///
    /// `Some(0)` is the end of the stream, `None` means that nothing arrived by `until`.
    pub(crate) fn read(
        &mut self,
        into: &mut Vec<u8>,
        until: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        if !self.spin.is_zero() {
            if let Some(len) = self.poll(into, until)? {
                return Ok(Some(len));
            }
        }
        loop {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            let expired = left.is_some_and(|left| left.is_zero());
            if !expired {
                if let Some(timeout) = self.armed.update(left) {
                    self.transport.set_recv_timeout(timeout)?;
                }
            }
            // What arrived before the deadline counts even if we come late to fetch it.
            match self.transport.recv(into, !expired) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => {
                    if expired {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks again and again without sleeping, for `spin` at most.
    fn poll(&self, into: &mut Vec<u8>, until: Option<Instant>) -> io::Result<Option<usize>> {
        let spin_until = clock::now() + self.spin;
        let until = until.map_or(spin_until, |at| at.min(spin_until));
        loop {
            match self.transport.recv(into, false) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if is_interrupt(&error) || is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            if clock::now() >= until {
                return Ok(None);
            }
            // Not `yield_now`: where both ends share a core, they would hand it to and fro for whole slices
            // of the scheduler, and it would have no reason to part them.
            std::hint::spin_loop();
        }
    }
}

/// The sending direction.
#[derive(Debug)]
pub(crate) struct WriteSocket {
    transport: Arc<dyn Transport>,
    armed: Armed,
    meanwhile: Option<Meanwhile>,
}

/// What is called again and again while a write waits for the peer to read: it may be waiting for this
/// side to read.
pub(crate) struct Meanwhile(pub(crate) Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile(..)")
    }
}

/// How often it is called.
const MEANWHILE_TICK: Duration = Duration::from_millis(20);

impl WriteSocket {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            armed: Armed(None),
            meanwhile: None,
        }
    }

    pub(crate) fn set_meanwhile(&mut self, meanwhile: Meanwhile) {
        self.meanwhile = Some(meanwhile);
    }

    /// Writes all parts. `false` means that they could not be written by `until`; some bytes may
    /// have been, so the stream is then unusable.
    pub(crate) fn write_all(
        &mut self,
        mut parts: &mut [IoSlice<'_>],
        until: Option<Instant>,
    ) -> io::Result<bool> {
        IoSlice::advance_slices(&mut parts, 0);
        // Nearly every write succeeds at once: the clock and the kernel's timer are asked only
        // when one does not.
        let mut wait = false;
        while !parts.is_empty() {
            let mut expired = false;
            if wait {
                let left = until.map(|at| at.saturating_duration_since(clock::now()));
                expired = left.is_some_and(|left| left.is_zero());
                if !expired {
                    let left = match self.meanwhile {
                        Some(_) => Some(left.map_or(MEANWHILE_TICK, |l| l.min(MEANWHILE_TICK))),
                        None => left,
                    };
                    if let Some(timeout) = self.armed.update(left) {
                        self.transport.set_send_timeout(timeout)?;
                    }
                }
            }
            match self.transport.send(parts, wait && !expired) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => IoSlice::advance_slices(&mut parts, len),
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => {
                    if expired {
                        return Ok(false);
                    }
                    if let (true, Some(meanwhile)) = (wait, &self.meanwhile) {
                        (meanwhile.0)();
                    }
                    wait = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what the system takes at once, without waiting; how many bytes that were.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self
                .transport
                .send(&[IoSlice::new(&bytes[written..])], false)
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => written += len,
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.transport.shutdown(Shutdown::Write)
    }
}

fn is_interrupt(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Unix says WouldBlock when a timeout is over, Windows says TimedOut. On Unix that one means that
/// the network gave the connection up, and it is said once: the next read would find an end.
fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || (cfg!(windows) && error.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::error::{ClosedBy, VstpError};
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// What a call of a scripted transport does.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(usize),
        Give(&'static [u8]),
        Fail(io::ErrorKind),
    }

    /// Follows a script, and fails the test when it is asked more often than that.
    #[derive(Debug, Default)]
    struct Script {
        steps: Mutex<VecDeque<Step>>,
        sent: Mutex<Vec<u8>>,
        /// Of each call, whether it was allowed to wait.
        waits: Mutex<Vec<bool>>,
    }

    impl Script {
        fn new(steps: &[Step]) -> Arc<Self> {
            Arc::new(Self {
                steps: Mutex::new(steps.iter().copied().collect()),
                ..Self::default()
            })
        }

        fn next(&self, wait: bool) -> Step {
            self.waits.lock().unwrap().push(wait);
            self.steps
                .lock()
                .unwrap()
                .pop_front()
                .expect("no call beyond the script")
        }
    }

    impl Transport for Script {
        fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
            match self.next(wait) {
                Step::Give(bytes) => {
                    into.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Step::Fail(kind) => Err(kind.into()),
                Step::Take(_) => panic!("a send was expected"),
            }
        }

        fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
            match self.next(wait) {
                Step::Take(len) => {
                    let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
                    self.sent.lock().unwrap().extend_from_slice(&all[..len]);
                    Ok(len)
                }
                Step::Fail(kind) => Err(kind.into()),
                Step::Give(_) => panic!("a recv was expected"),
            }
        }

        fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            assert_ne!(timeout, Some(Duration::ZERO), "zero would mean never");
            Ok(())
        }

        fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            self.set_recv_timeout(timeout)
        }

        fn shutdown(&self, _: Shutdown) -> io::Result<()> {
            Ok(())
        }
    }

    use io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, TimedOut, WouldBlock};

    fn write(steps: &[Step]) -> (io::Result<bool>, Vec<u8>, Vec<bool>) {
        let script = Script::new(steps);
        let mut socket = WriteSocket::new(Arc::<Script>::clone(&script));
        let mut parts = [
            IoSlice::new(b"ab"),
            IoSlice::new(b""),
            IoSlice::new(b"cdef"),
        ];
        let until = clock::after(Duration::from_secs(60));
        let result = socket.write_all(&mut parts, until);
        let sent = script.sent.lock().unwrap().clone();
        (result, sent, script.waits.lock().unwrap().clone())
    }

    #[test]
    fn b13_partial_and_interrupted_writes_go_on_where_they_were() {
        let steps = [
            Step::Take(1),
            Step::Fail(Interrupted),
            Step::Take(2),
            Step::Fail(WouldBlock),
            Step::Take(3),
        ];
        let (result, sent, waits) = write(&steps);
        assert!(result.unwrap());
        assert_eq!(sent, b"abcdef");
        assert_eq!(
            waits,
            [false, false, false, false, true],
            "it waits once it would block"
        );
    }

    #[test]
    fn b13_a_write_of_nothing_is_an_error_and_not_tried_again() {
        let (result, ..) = write(&[Step::Take(2), Step::Take(0)]);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
        for kind in [BrokenPipe, ConnectionReset] {
            let (result, ..) = write(&[Step::Fail(kind)]);
            assert_eq!(result.unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn b13_a_deadline_that_has_passed_allows_one_last_try() {
        let script = Script::new(&[Step::Fail(WouldBlock), Step::Fail(WouldBlock)]);
        let mut socket = WriteSocket::new(Arc::<Script>::clone(&script));
        let done = socket.write_all(&mut [IoSlice::new(b"x")], Some(clock::now()));
        assert!(!done.unwrap());
        assert_eq!(*script.waits.lock().unwrap(), [false, false]);
    }

    #[test]
    fn b11_what_arrived_before_the_deadline_counts() {
        let script = Script::new(&[Step::Give(b"late"), Step::Fail(WouldBlock)]);
        let mut socket = ReadSocket::new(script, Duration::ZERO);
        let mut into = Vec::new();
        assert_eq!(socket.read(&mut into, Some(clock::now())).unwrap(), Some(4));
        assert_eq!(socket.read(&mut into, Some(clock::now())).unwrap(), None);
        assert_eq!(into, b"late");
    }

    #[test]
    fn b13_reads_go_on_after_interruptions_and_early_timeouts() {
        let steps = [
            Step::Fail(Interrupted),
            Step::Fail(WouldBlock),
            Step::Give(b"x"),
            Step::Give(b""),
            Step::Fail(ConnectionReset),
        ];
        let mut socket = ReadSocket::new(Script::new(&steps), Duration::ZERO);
        let until = clock::after(Duration::from_secs(60));
        let mut into = Vec::new();
        assert_eq!(socket.read(&mut into, until).unwrap(), Some(1));
        assert_eq!(socket.read(&mut into, until).unwrap(), Some(0), "the end");
        assert_eq!(
            socket.read(&mut into, until).unwrap_err().kind(),
            ConnectionReset
        );
    }

    #[cfg(unix)]
    #[test]
    fn b03_a_connection_that_the_network_gave_up_is_no_timeout_and_no_end() {
        let script = Script::new(&[Step::Fail(TimedOut), Step::Give(b"")]);
        let mut socket = ReadSocket::new(script, Duration::ZERO);
        let until = clock::after(Duration::from_secs(60));
        let error = socket.read(&mut Vec::new(), until).unwrap_err();
        assert_eq!(error.kind(), TimedOut);
        let error = crate::net::stream::closed_or_io(error);
        assert!(
            matches!(error, VstpError::ConnectionClosed(ClosedBy::Reset)),
            "{error:?}"
        );
        let (result, ..) = write(&[Step::Fail(TimedOut)]);
        assert_eq!(result.unwrap_err().kind(), TimedOut);
    }

    #[test]
    fn f08_a_storm_of_interruptions_does_not_move_the_deadline() {
        let mut steps = vec![Step::Fail(Interrupted); 10_000];
        steps.push(Step::Fail(WouldBlock));
        let mut socket = ReadSocket::new(Script::new(&steps), Duration::ZERO);
        // It has passed before the first call; each interruption is tried again, none waits anew.
        assert_eq!(
            socket.read(&mut Vec::new(), Some(clock::now())).unwrap(),
            None
        );
        let (mut steps, last) = (vec![Step::Fail(Interrupted); 10_000], Step::Take(6));
        steps.push(last);
        let (result, sent, waits) = write(&steps);
        assert!(result.unwrap() && sent == b"abcdef" && waits.len() == 10_001);
    }

    #[test]
    fn the_kernel_is_told_a_timeout_only_when_the_armed_one_does_not_serve() {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let mut armed = Armed(None);
        assert_eq!(
            armed.update(Some(s(32))),
            Some(Some(s(28))),
            "the first time"
        );
        assert_eq!(armed.update(Some(s(32) - ms(1))), None, "the next call");
        assert_eq!(armed.update(Some(s(100))), None, "early wake-ups are cheap");
        assert_eq!(armed.update(Some(s(24))), Some(Some(s(21))), "never late");
        assert_eq!(
            armed.update(Some(s(3200))),
            Some(Some(s(2800))),
            "but not too many"
        );
        assert_eq!(armed.update(None), Some(None));
        assert_eq!(armed.update(None), None);
        assert_eq!(
            armed.update(Some(ms(20))),
            Some(Some(ms(20))),
            "a short one is exact"
        );
        assert_eq!(
            armed.update(Some(Duration::from_nanos(1))),
            Some(Some(ms(1)))
        );
    }
}
