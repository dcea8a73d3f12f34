//! [`ExtensionHandler`]: code that sees messages on their way, and what it is told about them.

use crate::error::HandlerError;
use crate::wire::Frame;
use std::net::SocketAddr;

/// An extension: sees the messages that it asks for, and passes them on, changed or not, keeps them, or
/// answers them.
///
/// Messages are DATA and the types of the application (`FrameType::Custom`, 10 to FF). Frames of the
/// protocol itself never come here. Both methods are called on the thread that receives or sends, for
/// many connections at once; while they block, that connection waits, and no other.
///
/// # Example
/// ```
/// use vstp::error::HandlerError;
/// use vstp::ext::{ExtensionContext, ExtensionHandler, Outcome};
/// use vstp::{Frame, FrameType};
///
/// /// Answers frames of type 42 with the time of day that it was told.
/// struct Clock(&'static str);
///
/// impl ExtensionHandler for Clock {
///     fn should_handle(&self, frame: &Frame) -> bool {
///         frame.typ == FrameType::Custom(0x42)
///     }
///
///     fn handle_frame(&self, _: Frame, _: &ExtensionContext) -> Result<Outcome, HandlerError> {
///         Ok(Outcome::Answer(vec![Frame::data(self.0)]))
///     }
/// }
/// ```
pub trait ExtensionHandler: Send + Sync {
    /// Whether [`handle_frame`](Self::handle_frame) is called with this message.
    fn should_handle(&self, frame: &Frame) -> bool;

    /// Takes a message.
    ///
    /// # Errors
    /// What makes the message useless. Of one that was received, a server answers it with ERR, as it does an error of
    /// its handler; of one that is sent, sending fails with
    /// [`VstpError::Extension`](crate::error::VstpError::Extension). A panic counts as an error with the
    /// code `handler`.
    fn handle_frame(
        &self,
        frame: Frame,
        context: &ExtensionContext,
    ) -> Result<Outcome, HandlerError>;
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on, maybe changed: to the next extension, then to the application or to the network.
    Pass(Frame),
    /// It ends here: neither received nor sent, and that is no error.
    Consume,
    /// It ends here, and these go back to its sender, with the `correlation-id` of the message. They pass
    /// the extensions that are nearer to the network. They are sent before the receiving call goes on, so over TCP
    /// that waits for a peer that does not read, as `send` does. A message that is being sent cannot be
    /// answered; sending fails then.
    Answer(Vec<Frame>),
}

/// Whether a message comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    Inbound,
    /// It is being sent.
    Outbound,
}

/// What carries a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// TCP without TLS.
    PlainTcp,
    /// TLS 1.3 over TCP.
    Tls,
    /// Datagrams.
    Udp,
}

/// Where a message comes from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtensionContext {
    /// Whether it comes or goes.
    pub direction: Direction,
    /// What carries it.
    pub transport: TransportKind,
    /// The other side. Over UDP without a session anybody can have forged it.
    pub peer_addr: SocketAddr,
    /// The number of the session; `None` without one.
    pub session_id: Option<u128>,
}

impl ExtensionContext {
    /// A context without a session.
    #[must_use]
    pub const fn new(
        direction: Direction,
        transport: TransportKind,
        peer_addr: SocketAddr,
    ) -> Self {
        Self {
            direction,
            transport,
            peer_addr,
            session_id: None,
        }
    }

    /// The same in this session.
    #[must_use]
    pub const fn with_session(mut self, id: Option<u128>) -> Self {
        self.session_id = id;
        self
    }

    pub(super) const fn outbound(mut self) -> Self {
        self.direction = Direction::Outbound;
        self
    }
}
