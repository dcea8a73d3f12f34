//! [`ExtensionRegistry`]: extensions in their order.
//!
//! Built first, then shared without a lock: a connection that exists keeps the extensions that it began with.

use super::extension::{Direction, ExtensionContext, ExtensionHandler, Outcome};
use crate::error::{ExtensionError, HandlerError};
use crate::proto::{ErrorCode, keys};
use crate::wire::Frame;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Extensions under their names, in the order in which they were registered.
///
/// A message that is received passes them in this order, one that is sent in the reverse: the first is
/// nearest to the network. So with the same registry at both ends, each extension sees what it made.
///
/// # Example
/// ```
/// use vstp::error::HandlerError;
/// use vstp::ext::{ExtensionContext, ExtensionHandler, ExtensionRegistry, Outcome};
/// use vstp::net::tcp::TcpConfig;
/// use vstp::Frame;
///
/// struct Log;
///
/// impl ExtensionHandler for Log {
///     fn should_handle(&self, _: &Frame) -> bool {
///         true
///     }
///
///     fn handle_frame(&self, frame: Frame, context: &ExtensionContext) -> Result<Outcome, HandlerError> {
///         println!("{:?} {}: {frame:?}", context.direction, context.peer_addr);
///         Ok(Outcome::Pass(frame))
///     }
/// }
///
/// let mut extensions = ExtensionRegistry::new();
/// extensions.register("log", Log);
/// let config = TcpConfig::default().extensions(extensions);
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct ExtensionRegistry {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    name: String,
    /// `None`: both.
    only: Option<Direction>,
    handler: Arc<dyn ExtensionHandler>,
}

impl ExtensionRegistry {
    /// No extensions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds an extension for messages of both directions, behind those that are there. One of the same
    /// name is replaced at its place and returned.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        handler: impl ExtensionHandler + 'static,
    ) -> Option<Arc<dyn ExtensionHandler>> {
        self.add(name.into(), None, Arc::new(handler))
    }

    /// [`register`](Self::register) for messages of one direction only.
    pub fn register_only(
        &mut self,
        direction: Direction,
        name: impl Into<String>,
        handler: impl ExtensionHandler + 'static,
    ) -> Option<Arc<dyn ExtensionHandler>> {
        self.add(name.into(), Some(direction), Arc::new(handler))
    }

    fn add(
        &mut self,
        name: String,
        only: Option<Direction>,
        handler: Arc<dyn ExtensionHandler>,
    ) -> Option<Arc<dyn ExtensionHandler>> {
        let entry = Entry {
            name,
            only,
            handler,
        };
        match self.entries.iter_mut().find(|e| e.name == entry.name) {
            Some(before) => Some(std::mem::replace(before, entry).handler),
            None => {
                self.entries.push(entry);
                None
            }
        }
    }

    /// Removes an extension and returns it; the others keep their order.
    pub fn unregister(&mut self, name: &str) -> Option<Arc<dyn ExtensionHandler>> {
        let place = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(place).handler)
    }

    /// The names in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Whether there is no extension.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Passes a message through the extensions of its direction, as far as they let it. Connections call
    /// it; a test of extensions can, too.
    ///
    /// # Errors
    /// [`ExtensionError`]: the extension that failed, and how. A panic is one of the ways.
    pub fn process_frame(
        &self,
        frame: Frame,
        context: &ExtensionContext,
    ) -> Result<Outcome, ExtensionError> {
        if context.direction == Direction::Outbound {
            return outbound(&self.entries, frame, context);
        }
        // Kept before an extension takes the message.
        let id = frame.header(keys::CORRELATION_ID).map(<[u8]>::to_vec);
        let mut frame = frame;
        for (place, entry) in self.entries.iter().enumerate() {
            match entry.call(frame, context)? {
                Outcome::Pass(next) => frame = next,
                Outcome::Consume => return Ok(Outcome::Consume),
                Outcome::Answer(answers) => {
                    let nearer = &self.entries[..place];
                    let answers = answers
                        .into_iter()
                        .map(|answer| correlate(answer, id.as_deref()));
                    return send_back(nearer, answers, &context.outbound()).map(Outcome::Answer);
                }
            }
        }
        Ok(Outcome::Pass(frame))
    }
}

/// Answers of an extension pass those that are nearer to the network.
fn send_back(
    nearer: &[Entry],
    answers: impl Iterator<Item = Frame>,
    context: &ExtensionContext,
) -> Result<Vec<Frame>, ExtensionError> {
    let mut out = Vec::new();
    for answer in answers {
        if !answer.typ.is_message() {
            out.push(answer);
        } else if let Outcome::Pass(answer) = outbound(nearer, answer, context)? {
            out.push(answer);
        }
    }
    Ok(out)
}

fn outbound(
    entries: &[Entry],
    mut frame: Frame,
    context: &ExtensionContext,
) -> Result<Outcome, ExtensionError> {
    for entry in entries.iter().rev() {
        match entry.call(frame, context)? {
            Outcome::Pass(next) if next.typ.is_message() => frame = next,
            Outcome::Pass(_) => {
                return Err(entry.misused("made a frame of the protocol of a message"));
            }
            Outcome::Consume => return Ok(Outcome::Consume),
            Outcome::Answer(_) => {
                return Err(entry.misused("answered a message that is being sent"));
            }
        }
    }
    Ok(Outcome::Pass(frame))
}

/// An answer carries the `correlation-id` of what it answers.
fn correlate(answer: Frame, id: Option<&[u8]>) -> Frame {
    match id {
        Some(id) if answer.header(keys::CORRELATION_ID).is_none() => {
            answer.with_header(keys::CORRELATION_ID, id)
        }
        _ => answer,
    }
}

impl Entry {
    fn call(&self, frame: Frame, context: &ExtensionContext) -> Result<Outcome, ExtensionError> {
        if self.only.is_some_and(|only| only != context.direction) {
            return Ok(Outcome::Pass(frame));
        }
        // The message is gone with the panic, and what is the extension's own is its business.
        let called = catch_unwind(AssertUnwindSafe(|| {
            if self.handler.should_handle(&frame) {
                self.handler.handle_frame(frame, context)
            } else {
                Ok(Outcome::Pass(frame))
            }
        }));
        match called {
            Ok(result) => result.map_err(|error| self.failed(error, false)),
            Err(_) => {
                let error = HandlerError::new(ErrorCode::Handler, "an extension panicked");
                Err(self.failed(error, true))
            }
        }
    }

    fn failed(&self, error: HandlerError, panicked: bool) -> ExtensionError {
        ExtensionError {
            extension: self.name.clone(),
            error,
            panicked,
        }
    }

    fn misused(&self, what: &str) -> ExtensionError {
        let text = format!("an extension {what}");
        self.failed(HandlerError::new(ErrorCode::Handler, text), false)
    }
}

/// Names, since handlers need not be `Debug`.
impl fmt::Debug for ExtensionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests;
