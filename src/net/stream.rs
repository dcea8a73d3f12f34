//! A byte stream in two halves that block independently, in plaintext or over TLS.
//!
//! The reader reads the socket without any lock, then locks the TLS state to decrypt what it read.
//! The writer locks it to encrypt into its own buffer, unlocks, then writes the socket. So a reader
//! that waits for a quiet peer never stops a writer, and both sides may send at once without end.
//! `rustls::StreamOwned` cannot do this: whoever reads it owns it, and it writes before it reads.
//!
//! Order on the wire: only the owner of the [`WriteHalf`] encrypts application data, and it writes
//! all it has before it encrypts more. Records that decrypting brings about (key updates, alerts)
//! wait inside the TLS state until the writer fetches them together with its next records.

use super::clock;
use super::socket::{Meanwhile, ReadSocket, Transport, WriteSocket};
use super::tls::{PeerInfo, TlsSession};
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::proto::datagram::SealedKeys;
use crate::proto::session::StreamEnd;
use crate::wire::Buffer;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Smallest and largest room for one read of ciphertext (bytes); it doubles when a read fills it.
const MIN_READ_LEN: usize = 1024;
const MAX_READ_LEN: usize = 256 * 1024;
/// Room for one read of the handshake (bytes): the largest usual flight, a certificate chain, in one or two.
const HANDSHAKE_READ_LEN: usize = 4 * 1024;
/// How long, and for how many bytes, a peer is heard out whose handshake has failed.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_LEN: usize = 64 * 1024;
/// Plaintext encrypted before the ciphertext is written (bytes): four records, which together fit the largest
/// segment that segmentation offload takes (65,483 bytes on loopback).
const ENCRYPT_LEN: usize = 64 * 1024 - 256;

/// The TLS state of a stream. The lock protects memory and is held for cryptography only, never
/// over a system call; no other lock is taken inside it.
type SharedTls = Arc<Mutex<TlsSession>>;

fn lock(tls: &SharedTls) -> MutexGuard<'_, TlsSession> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// So many bytes were appended.
    Bytes(usize),
    /// So many bytes of TLS arrived, and nothing to append has come of them yet.
    Sealed(usize),
    /// The stream is over.
    End(StreamEnd),
    /// Nothing arrived in time.
    TimedOut,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    socket: ReadSocket,
    tls: Option<(SharedTls, Ciphertext)>,
}

/// Received and not yet decrypted.
#[derive(Debug)]
struct Ciphertext {
    buffer: Buffer,
    read_len: usize,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    socket: WriteSocket,
    tls: Option<SharedTls>,
    /// Bytes for the socket that were not taken yet. Empty between calls, but for control frames
    /// that were sent without waiting.
    pending: Buffer,
}

/// Makes the halves of a plaintext stream.
pub(crate) fn plain(transport: Arc<dyn Transport>, spin: Duration) -> (ReadHalf, WriteHalf) {
    let read = ReadHalf {
        socket: ReadSocket::new(Arc::clone(&transport), spin),
        tls: None,
    };
    (
        read,
        WriteHalf {
            socket: WriteSocket::new(transport),
            tls: None,
            pending: Buffer::new(),
        },
    )
}

/// Carries out the TLS handshake and makes the halves of the stream.
///
/// The deadline is absolute: a peer that sends a byte a second reaches it as well. A failure is
/// told to the peer with an alert where there is one, as far as the system takes it at once.
pub(crate) fn tls(
    transport: Arc<dyn Transport>,
    mut session: TlsSession,
    spin: Duration,
    until: Option<Instant>,
) -> Result<(ReadHalf, WriteHalf), VstpError> {
    let timeout = || VstpError::Timeout(TimeoutKind::Handshake);
    let mut reader = ReadSocket::new(Arc::clone(&transport), Duration::ZERO);
    let mut writer = WriteSocket::new(Arc::clone(&transport));
    let mut received = Buffer::new();
    let mut flight = Vec::new();
    loop {
        // All that is there is processed before the next read, so a turn of this loop either
        // reads bytes, or ends.
        let result = feed_all(&mut session, &mut received);
        session.drain(&mut flight);
        if result.is_err() {
            // The error is what counts; the alert is a courtesy.
            let _ = writer.try_write(&flight);
            let _ = writer.shutdown();
            linger(&mut reader);
        }
        result?;
        if !flight.is_empty() {
            let mut parts = [IoSlice::new(&flight)];
            if !writer.write_all(&mut parts, until).map_err(closed_or_io)? {
                return Err(timeout());
            }
            flight.clear();
        }
        if !session.is_handshaking() {
            break;
        }
        // Whoever closes before the handshake is over will not finish it.
        if session.peer_has_closed() {
            return Err(VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye));
        }
        match reader
            .read(received.tail(HANDSHAKE_READ_LEN), until)
            .map_err(closed_or_io)?
        {
            None => return Err(timeout()),
            Some(0) => return Err(VstpError::ConnectionClosed(ClosedBy::Truncated)),
            Some(_) => {}
        }
    }
    // Most connections are idle: what the handshake needed shall not stay.
    received.release();
    let tls = Arc::new(Mutex::new(session));
    let ciphertext = Ciphertext {
        buffer: received,
        read_len: MIN_READ_LEN,
    };
    let read = ReadHalf {
        socket: ReadSocket::new(Arc::clone(&transport), spin),
        tls: Some((Arc::clone(&tls), ciphertext)),
    };
    let write = WriteHalf {
        socket: WriteSocket::new(transport),
        tls: Some(tls),
        pending: Buffer::new(),
    };
    Ok((read, write))
}

/// Reads and forgets what the peer is still sending, within bounds: closing a socket with unread
/// bytes resets it, and a reset can destroy the alert on its way.
fn linger(reader: &mut ReadSocket) {
    let until = clock::after(LINGER);
    let mut sink = Vec::with_capacity(HANDSHAKE_READ_LEN);
    let mut total = 0;
    while total < LINGER_LEN {
        sink.clear();
        match reader.read(&mut sink, until) {
            Ok(Some(len @ 1..)) => total += len,
            _ => return,
        }
    }
}

/// Hands received bytes to the TLS state, as many as it takes; whether it took any.
fn feed_all(session: &mut TlsSession, received: &mut Buffer) -> Result<bool, VstpError> {
    let mut progress = false;
    while !received.is_empty() {
        let used = session.feed(received)?;
        received.consume(used);
        progress |= used > 0;
        if used == 0 {
            break;
        }
    }
    Ok(progress)
}

/// An error of the socket, told apart where it means the end of the connection.
pub(crate) fn closed_or_io(error: io::Error) -> VstpError {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::WriteZero
        // Not a timeout of ours, those are no errors: nobody has acknowledged what was sent.
        | Kind::TimedOut => VstpError::ConnectionClosed(ClosedBy::Reset),
        _ => VstpError::Io(error),
    }
}

impl ReadHalf {
    /// Appends what arrives to the unused capacity of `into`.
    pub(crate) fn read(
        &mut self,
        into: &mut Vec<u8>,
        until: Option<Instant>,
    ) -> Result<ReadOutcome, VstpError> {
        let Some((tls, ciphertext)) = &mut self.tls else {
            return Ok(match self.socket.read(into, until) {
                Ok(None) => ReadOutcome::TimedOut,
                Ok(Some(0)) => ReadOutcome::End(StreamEnd::Fin),
                Ok(Some(len)) => ReadOutcome::Bytes(len),
                Err(error) => return reset_or(error),
            });
        };
        let mut sealed = 0;
        loop {
            let (len, ended) = decrypt(&mut lock(tls), &mut ciphertext.buffer, into)?;
            if len > 0 {
                return Ok(ReadOutcome::Bytes(len));
            }
            if ended {
                return Ok(ReadOutcome::End(StreamEnd::CloseNotify));
            }
            // Back to the caller each time: it counts them, and looks at its deadlines, which records
            // without content could else hold off for ever.
            if sealed > 0 {
                return Ok(ReadOutcome::Sealed(sealed));
            }
            let room = ciphertext.buffer.tail(ciphertext.read_len);
            match self.socket.read(room, until) {
                Ok(None) => return Ok(ReadOutcome::TimedOut),
                Ok(Some(0)) => return Ok(ReadOutcome::End(StreamEnd::Fin)),
                Ok(Some(len)) => {
                    sealed = len;
                    if len >= ciphertext.read_len {
                        ciphertext.read_len = (ciphertext.read_len * 2).min(MAX_READ_LEN);
                    }
                }
                Err(error) => return reset_or(error),
            }
        }
    }

    /// What TLS knows about the peer; `None` in plaintext.
    ///
    /// # Errors
    /// `Tls` when the peer did not agree to `vstp/1`.
    pub(crate) fn peer_info(&self) -> Result<Option<PeerInfo>, VstpError> {
        self.tls
            .as_ref()
            .map(|(tls, _)| lock(tls).peer_info())
            .transpose()
    }

    /// The keys of sealed datagrams for the session with this number, over TLS.
    ///
    /// # Errors
    /// `Tls` before the handshake is done.
    pub(crate) fn sealed_keys(&self, session: u128) -> Result<Option<SealedKeys>, VstpError> {
        let keys = self
            .tls
            .as_ref()
            .map(|(tls, _)| lock(tls).sealed_keys(session));
        keys.transpose().map(Option::flatten)
    }

    /// Gives back memory that nothing waits in.
    pub(crate) fn release(&mut self) {
        if let Some((_, ciphertext)) = &mut self.tls {
            ciphertext.buffer.release();
            ciphertext.read_len = MIN_READ_LEN;
        }
    }
}

fn reset_or(error: io::Error) -> Result<ReadOutcome, VstpError> {
    match closed_or_io(error) {
        VstpError::ConnectionClosed(_) => Ok(ReadOutcome::End(StreamEnd::Reset)),
        other => Err(other),
    }
}

/// Decrypts what is there into the unused capacity of `into`: the bytes it gave, and whether the
/// peer has closed. What came before a bad record is given out first; the error, which stays, is for
/// the next call.
fn decrypt(
    session: &mut TlsSession,
    received: &mut Buffer,
    into: &mut Vec<u8>,
) -> Result<(usize, bool), VstpError> {
    let start = into.len();
    loop {
        let room = into.capacity() - into.len();
        let taken = session.take_plaintext(into, room);
        if into.len() == into.capacity() {
            break;
        }
        let used = if received.is_empty() {
            0
        } else {
            match session.feed(received) {
                Ok(used) => used,
                Err(error) => {
                    let room = into.capacity() - into.len();
                    session.take_plaintext(into, room);
                    if into.len() > start {
                        break;
                    }
                    return Err(error);
                }
            }
        };
        received.consume(used);
        if taken == 0 && used == 0 {
            break;
        }
    }
    Ok((into.len() - start, session.peer_has_closed()))
}

impl WriteHalf {
    /// Writes all parts in order.
    ///
    /// # Errors
    /// `Timeout(Send)` when they could not be written by `until`, `ConnectionClosed(Reset)` when
    /// the peer is gone. Either way the half is unusable afterwards.
    pub(crate) fn write(
        &mut self,
        parts: &mut [IoSlice<'_>],
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        let Some(tls) = &self.tls else {
            self.flush(until)?;
            return written(self.socket.write_all(parts, until));
        };
        let mut parts = parts;
        loop {
            let out = self.pending.tail(0);
            {
                let mut session = lock(tls);
                let mut room = ENCRYPT_LEN;
                while room > 0 && !parts.is_empty() {
                    let taken = session.encrypt(parts, out)?;
                    IoSlice::advance_slices(&mut parts, taken);
                    room = room.saturating_sub(taken);
                }
            }
            let bytes = &mut [IoSlice::new(&self.pending)];
            written(self.socket.write_all(bytes, until))?;
            let len = self.pending.len();
            self.pending.consume(len);
            if parts.is_empty() {
                return Ok(());
            }
        }
    }

    /// Calls this again and again while a write waits.
    pub(crate) fn set_meanwhile(&mut self, meanwhile: Meanwhile) {
        self.socket.set_meanwhile(meanwhile);
    }

    /// Writes what earlier calls left pending.
    pub(crate) fn flush(&mut self, until: Option<Instant>) -> Result<(), VstpError> {
        self.fetch_tls_output();
        if !self.pending.is_empty() {
            written(
                self.socket
                    .write_all(&mut [IoSlice::new(&self.pending)], until),
            )?;
            let len = self.pending.len();
            self.pending.consume(len);
        }
        Ok(())
    }

    /// Adds bytes to what is pending, without a system call.
    pub(crate) fn queue(&mut self, bytes: &[u8]) -> Result<(), VstpError> {
        match &self.tls {
            None => self.pending.extend_from_slice(bytes),
            Some(tls) => {
                let mut session = lock(tls);
                let mut parts = &mut [IoSlice::new(bytes)][..];
                while !parts.is_empty() {
                    let taken = session.encrypt(parts, self.pending.tail(0))?;
                    IoSlice::advance_slices(&mut parts, taken);
                }
            }
        }
        Ok(())
    }

    /// Writes of what is pending as much as the system takes at once; whether that was all.
    pub(crate) fn try_flush(&mut self) -> Result<bool, VstpError> {
        self.fetch_tls_output();
        if !self.pending.is_empty() {
            let len = self.socket.try_write(&self.pending).map_err(closed_or_io)?;
            self.pending.consume(len);
        }
        Ok(self.pending.is_empty())
    }

    /// Adds close_notify to what is pending (TLS only).
    pub(crate) fn queue_close_notify(&mut self) {
        if let Some(tls) = &self.tls {
            lock(tls).send_close_notify();
        }
    }

    /// Ends the sending direction of the socket.
    pub(crate) fn shutdown(&self) {
        // The peer may be gone already; then there is nothing left to end.
        let _ = self.socket.shutdown();
    }

    /// Whether bytes wait for the socket.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn fetch_tls_output(&mut self) {
        if let Some(tls) = &self.tls {
            lock(tls).drain(self.pending.tail(0));
        }
    }
}

fn written(result: io::Result<bool>) -> Result<(), VstpError> {
    match result.map_err(closed_or_io)? {
        true => Ok(()),
        false => Err(VstpError::Timeout(TimeoutKind::Send)),
    }
}

/// Ends both directions at once; every blocked call returns.
pub(crate) fn abort(transport: &dyn Transport) {
    // Already closed is as good as closed.
    let _ = transport.shutdown(Shutdown::Both);
}
