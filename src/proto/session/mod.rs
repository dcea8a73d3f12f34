//! A session on a stream: who may send what, and when (spec 3).
//!
//! Driven by the reading half of a connection: [`Session::check_head`] as soon as the fixed header
//! of a frame is there, [`Session::handle_frame`] when all of it is, then [`Session::poll_output`]
//! until it is empty. Keep-alive and deadlines are the shell's, which knows when it read.
//!
//! ```text
//!   client                          server
//!   Waiting ──WELCOME──> Open       Start ──HELLO──────────────> Open
//!      └──ERR──> (refused)            └──DATA PING custom──────> Open, without HELLO
//!                                                                (plaintext, if allowed)
//!   Open ──BYE received──> Over     sending BYE changes nothing here: until the peer's BYE
//!                                   everything that may come in Open may come
//! ```

mod frames;
mod parts;

pub use frames::{bye_frame, error_frame};
pub use parts::{Closed, Established, Event, Role, Security, SessionConfig, StreamEnd};

use super::budget::Budget;
use super::code::ErrorCode;
use super::error::Violation;
use super::keys::{self, Features};
use crate::wire::{FixedHeader, Flags, Frame, FrameRef, FrameType};
use std::collections::VecDeque;
use std::time::Instant;

/// Largest HELLO, all parts (bytes).
const MAX_HELLO_LEN: usize = 4 * 1024;
/// Largest token, as the payload of HELLO (bytes).
const MAX_TOKEN_LEN: usize = 3 * 1024;
/// Smallest limit that a peer may announce (bytes).
const MIN_FRAME_LEN: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Client: HELLO goes out, WELCOME is awaited.
    Waiting,
    /// Server: nothing was received.
    Start,
    Open,
    /// BYE was received.
    Over,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for WELCOME",
            Self::Start => "waiting for HELLO",
            Self::Open => "open",
            Self::Over => "over",
        }
    }
}

/// What the table says about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Hello,
    Welcome,
    Message,
    Ping,
    Pong,
    Ack,
    Bye,
    Err,
    HelloRequired,
    Refuse,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    role: Role,
    security: Security,
    config: SessionConfig,
    state: State,
    session_id: u128,
    established: Option<Established>,
    said_bye: bool,
    /// Client: HELLO was said in an open session, and WELCOME is due.
    late_hello: bool,
    control: Budget,
    /// Frames that this side has sent, and frames received that may answer one. An answer costs no
    /// budget as long as there is a frame that it can be for.
    frames_sent: u64,
    answers: u64,
    acks: VecDeque<Frame>,
    other: VecDeque<Frame>,
    /// Only the latest PONG: whoever floods with PING gets one answer for all.
    pong: Option<Frame>,
}

impl Session {
    /// A client's session; its HELLO is in the output.
    #[must_use]
    pub fn client(config: SessionConfig, security: Security) -> Self {
        let says_hello = config.hello || security == Security::Tls;
        let mut session = Self::new(Role::Client, config, security, 0);
        if says_hello {
            session.state = State::Waiting;
            session.other.push_back(session.hello_frame());
        } else {
            session.state = State::Open;
            session.established = Some(Established::default());
        }
        session
    }

    /// A server's session, to which it gives this number.
    #[must_use]
    pub fn server(config: SessionConfig, security: Security, session_id: u128) -> Self {
        Self::new(Role::Server, config, security, session_id)
    }

    fn new(role: Role, config: SessionConfig, security: Security, session_id: u128) -> Self {
        Self {
            role,
            security,
            config,
            state: State::Start,
            session_id,
            established: None,
            said_bye: false,
            late_hello: false,
            control: Budget::default(),
            frames_sent: 0,
            answers: 0,
            acks: VecDeque::new(),
            other: VecDeque::new(),
            pong: None,
        }
    }

    /// What HELLO and WELCOME settled, once the session is open.
    #[must_use]
    pub const fn established(&self) -> Option<&Established> {
        self.established.as_ref()
    }

    /// Whether this is the side that was connected to.
    #[must_use]
    pub const fn is_server(&self) -> bool {
        matches!(self.role, Role::Server)
    }

    /// The table of spec 3.3: what this frame is, here and now.
    fn rule(&self, typ: FrameType) -> Rule {
        use FrameType::{Ack, Bye, Custom, Data, Err, Hello, Ping, Pong, Welcome};
        let must_hello = self.security == Security::Tls || self.config.require_hello;
        let hello_missing = self.established.as_ref().is_none_or(|e| !e.hello);
        let late_hello = hello_missing && self.security == Security::Plaintext;
        match (self.role, self.state, typ) {
            (_, State::Over, _) => Rule::Refuse,
            (_, _, Err) => Rule::Err,
            (Role::Client, State::Waiting, Welcome) => Rule::Welcome,
            (Role::Client, State::Open, Welcome) if self.late_hello => Rule::Welcome,
            (Role::Server, State::Start, Hello) => Rule::Hello,
            (Role::Server, State::Open, Hello) if late_hello => Rule::Hello,
            (Role::Server, State::Start, _) if must_hello => Rule::HelloRequired,
            (Role::Server, State::Start, Data | Custom(_)) => Rule::Message,
            (Role::Server, State::Start, Ping) => Rule::Ping,
            (_, State::Open, Data | Custom(_)) => Rule::Message,
            (_, State::Open, Ping) => Rule::Ping,
            (_, State::Open, Pong) => Rule::Pong,
            (_, State::Open, Ack) => Rule::Ack,
            (_, State::Open, Bye) => Rule::Bye,
            (_, State::Waiting | State::Start | State::Open, _) => Rule::Refuse,
        }
    }

    /// Whether a frame with this head is a message that needs no more than to be handed over: what
    /// nearly all frames are. [`Self::handle_frame`] would say the same, and no more.
    #[inline]
    #[must_use]
    pub fn delivers(&self, head: &FixedHeader) -> bool {
        self.state == State::Open
            && head.typ == FrameType::Data
            && !head.flags.intersects(UNUSUAL)
            && head.header_len == 0
    }

    /// Judges a frame by its fixed header, before any of its body is read.
    ///
    /// # Errors
    /// `Unexpected`, `HelloRequired`, `ControlPayload` or `FlagNotAllowed`.
    #[inline]
    pub fn check_head(&self, head: &FixedHeader) -> Result<(), Violation> {
        let typ = head.typ;
        // Most frames are these: nothing below can concern them.
        if self.state == State::Open && typ == FrameType::Data && !head.flags.intersects(UNUSUAL) {
            return Ok(());
        }
        match self.rule(typ) {
            Rule::Refuse => {
                return Err(Violation::Unexpected {
                    typ,
                    state: self.state.name(),
                });
            }
            Rule::HelloRequired => return Err(Violation::HelloRequired { typ }),
            _ => {}
        }
        if head.flags.contains(Flags::FRAG) {
            return Err(Violation::FlagNotAllowed { typ, flag: "FRAG" });
        }
        let may_compress = typ.is_message()
            && self
                .established
                .as_ref()
                .is_some_and(|e| e.features.contains(keys::GZIP));
        if head.flags.contains(Flags::COMP) && !may_compress {
            return Err(Violation::FlagNotAllowed { typ, flag: "COMP" });
        }
        let limit = match typ {
            FrameType::Ping | FrameType::Pong => 64,
            FrameType::Bye => 256,
            FrameType::Err => 1024,
            FrameType::Ack => 1200,
            FrameType::Welcome => 0,
            FrameType::Hello => MAX_TOKEN_LEN,
            FrameType::Data | FrameType::Custom(_) => usize::MAX,
        };
        let (len, limit) = if typ == FrameType::Hello && head.frame_len > MAX_HELLO_LEN {
            (head.frame_len, MAX_HELLO_LEN)
        } else {
            (head.payload_len, limit)
        };
        if len > limit {
            return Err(Violation::ControlPayload { typ, len, limit });
        }
        Ok(())
    }

    /// Takes a frame whose head was [checked](Self::check_head).
    ///
    /// # Errors
    /// The rule that it breaks; the connection ends with it.
    pub fn handle_frame(&mut self, now: Instant, frame: FrameRef<'_>) -> Result<Event, Violation> {
        let typ = frame.typ;
        match self.rule(typ) {
            Rule::Hello => self.handle_hello(frame),
            Rule::Welcome => self.handle_welcome(frame),
            Rule::Message => {
                self.open_without_hello();
                keys::correlation_id(frame)?;
                if frame.flags.contains(Flags::REQ_ACK) {
                    if let Some(msg_id) = keys::number::<u64>(frame.headers, keys::MSG_ID)? {
                        let ack = Frame::new(FrameType::Ack);
                        self.acks
                            .push_back(ack.with_header(keys::MSG_ID, msg_id.to_string()));
                    }
                }
                Ok(Event::Deliver)
            }
            Rule::Ping => {
                self.open_without_hello();
                self.spend(now)?;
                let pong = Frame::new(FrameType::Pong).with_payload(frame.payload);
                self.pong = Some(pong);
                Ok(Event::Consumed)
            }
            Rule::Pong => {
                self.note_answer(now)?;
                Ok(Event::Pong)
            }
            Rule::Ack => {
                let msg_id = keys::number(frame.headers, keys::MSG_ID)?;
                let msg_id = msg_id.ok_or(Violation::ReservedHeader { key: keys::MSG_ID })?;
                self.note_answer(now)?;
                Ok(Event::Acked { msg_id })
            }
            Rule::Bye => {
                let code = keys::unique(frame.headers, keys::CODE)?.map(ErrorCode::from_wire);
                self.state = State::Over;
                if !self.said_bye
                    && self
                        .established
                        .as_ref()
                        .is_some_and(Established::has_hello)
                {
                    self.said_bye = true;
                    self.other.push_back(bye_frame(None));
                }
                Ok(Event::PeerBye { code })
            }
            Rule::Err => {
                let code = keys::unique(frame.headers, keys::CODE)?
                    .map_or(ErrorCode::Unknown, ErrorCode::from_wire);
                let correlation_id = keys::correlation_id(frame)?.map(<[u8]>::to_vec);
                if correlation_id.is_some() {
                    self.note_answer(now)?;
                }
                Ok(Event::RemoteError {
                    code,
                    message: frame.payload.to_vec(),
                    correlation_id,
                })
            }
            Rule::HelloRequired => Err(Violation::HelloRequired { typ }),
            Rule::Refuse => Err(Violation::Unexpected {
                typ,
                state: self.state.name(),
            }),
        }
    }

    /// PONG, ACK or ERR: free as long as a frame of ours may have asked for it.
    fn note_answer(&mut self, now: Instant) -> Result<(), Violation> {
        if self.answers < self.frames_sent {
            self.answers += 1;
            return Ok(());
        }
        self.spend(now)
    }

    fn spend(&mut self, now: Instant) -> Result<(), Violation> {
        self.control.take(now).map_err(Violation::Overrun)
    }

    /// A server's session that begins with something else than HELLO (spec 3.2).
    fn open_without_hello(&mut self) {
        if self.state == State::Start {
            self.state = State::Open;
            let session_id = self.session_id;
            self.established = Some(Established {
                session_id,
                ..Established::default()
            });
        }
    }

    fn handle_hello(&mut self, frame: FrameRef<'_>) -> Result<Event, Violation> {
        let theirs = Features::from_header(frame.headers)?;
        let peer_max_frame_len = peer_limit(frame)?;
        let auth_token = match (
            keys::unique(frame.headers, keys::AUTH_TOKEN)?,
            frame.payload,
        ) {
            (None, []) => None,
            (Some(token), []) | (None, token) => Some(token.into()),
            (Some(_), _) => {
                return Err(Violation::ReservedHeader {
                    key: keys::AUTH_TOKEN,
                });
            }
        };
        let features = self.config.features.intersection(&theirs);
        let mut welcome = Frame::new(FrameType::Welcome)
            .with_header(keys::SESSION_ID, self.session_id.to_string())
            .with_header(keys::MAX_FRAME_SIZE, self.config.max_frame_len.to_string());
        if !features.is_empty() {
            welcome = welcome.with_header(keys::FEATURES, features.to_string());
        }
        self.other.push_back(welcome);
        self.state = State::Open;
        let session_id = self.session_id;
        self.established = Some(Established {
            session_id,
            features,
            peer_max_frame_len,
            auth_token,
            hello: true,
        });
        Ok(Event::Established)
    }

    fn handle_welcome(&mut self, frame: FrameRef<'_>) -> Result<Event, Violation> {
        let features = Features::from_header(frame.headers)?;
        let session_id =
            keys::number(frame.headers, keys::SESSION_ID)?.ok_or(Violation::ReservedHeader {
                key: keys::SESSION_ID,
            })?;
        // A feature that was not offered cannot have been agreed to.
        if features.intersection(&self.config.features) != features {
            return Err(Violation::ReservedHeader {
                key: keys::FEATURES,
            });
        }
        self.state = State::Open;
        self.late_hello = false;
        self.established = Some(Established {
            session_id,
            features,
            peer_max_frame_len: peer_limit(frame)?,
            auth_token: None,
            hello: true,
        });
        Ok(Event::Established)
    }

    fn hello_frame(&self) -> Frame {
        let SessionConfig {
            features,
            max_frame_len,
            auth_token,
            ..
        } = &self.config;
        let mut hello = Frame::new(FrameType::Hello)
            .with_header(keys::MAX_FRAME_SIZE, max_frame_len.to_string());
        if !features.is_empty() {
            hello = hello.with_header(keys::FEATURES, features.to_string());
        }
        match auth_token {
            None => hello,
            Some(token) if token.as_bytes().len() <= 255 => {
                hello.with_header(keys::AUTH_TOKEN, token.as_bytes())
            }
            Some(token) => hello.with_payload(token.as_bytes()),
        }
    }

    /// The next frame to send, the most urgent first.
    pub fn poll_output(&mut self) -> Option<Frame> {
        self.acks
            .pop_front()
            .or_else(|| self.pong.take())
            .or_else(|| self.other.pop_front())
    }

    /// Client: HELLO for a session that was opened without it (spec 3.2), to be sent now; `None`
    /// where there was one.
    pub fn say_hello(&mut self) -> Option<Frame> {
        let without = self.established.as_ref().is_some_and(|e| !e.hello);
        if self.role == Role::Server || !without || self.late_hello {
            return None;
        }
        self.late_hello = true;
        Some(self.hello_frame())
    }

    /// Notes how many frames this side has sent so far: so many answers may come.
    pub fn note_frames_sent(&mut self, total: u64) {
        self.frames_sent = total;
    }

    /// Notes that BYE was sent; the peer's is then the last frame, and not answered.
    pub fn note_bye_sent(&mut self) {
        self.said_bye = true;
    }

    /// How the session ended, given how the stream did and whether that was inside a frame.
    #[must_use]
    pub fn handle_eof(&self, end: StreamEnd, mid_frame: bool) -> Closed {
        let has_hello = self.established.as_ref().is_none_or(Established::has_hello);
        match end {
            StreamEnd::Reset => Closed::Reset,
            _ if mid_frame => Closed::Truncated,
            _ if self.state == State::Over => Closed::Clean,
            StreamEnd::Fin if self.security == Security::Tls => Closed::Truncated,
            _ if !has_hello && self.security == Security::Plaintext => Closed::Clean,
            _ => Closed::PeerWithoutBye,
        }
    }

    /// The ERR that reports a violation. None may be sent about a frame that is itself ERR.
    #[must_use]
    pub fn fatal_error_frame(violation: &Violation) -> Frame {
        error_frame(violation.code(), &violation.to_string(), None)
    }
}

/// Flags that no DATA frame of the common kind carries.
const UNUSUAL: Flags = Flags::REQ_ACK.union(Flags::FRAG).union(Flags::COMP);

fn peer_limit(frame: FrameRef<'_>) -> Result<Option<usize>, Violation> {
    match keys::number::<u64>(frame.headers, keys::MAX_FRAME_SIZE)? {
        Some(len) if len < MIN_FRAME_LEN => Err(Violation::ReservedHeader {
            key: keys::MAX_FRAME_SIZE,
        }),
        len => Ok(len.map(|len| usize::try_from(len).unwrap_or(usize::MAX))),
    }
}

#[cfg(test)]
mod tests;
