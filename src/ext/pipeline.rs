//! [`Pipeline`]: compression and extensions of one connection or socket, as its configuration says.

use super::compression::{self, CompressionConfig};
use super::extension::{ExtensionContext, Outcome};
use super::registry::ExtensionRegistry;
use crate::error::{ExtensionError, VstpError};
use crate::proto::error::InflateError;
use crate::proto::keys::{self, Features};
use crate::wire::{Flags, Frame, FrameRef, Limits, Trailer, encoded_len};
use std::sync::Arc;

/// Stack that compressing needs beside everything else (bytes of address space): the compressor is made
/// there before it is put on the heap. Measured at 128 KiB optimised, at 384 KiB not.
const COMPRESSING_STACK_LEN: usize = 512 * 1024;

/// See the module. Everything is off by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    pub(crate) compression: Option<CompressionConfig>,
    pub(crate) extensions: Option<Arc<ExtensionRegistry>>,
}

/// What must be known about the way that a message takes before it is compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Whether both sides have the feature `gzip`.
    pub(crate) gzip: bool,
    /// What the other side takes, before and after compression.
    pub(crate) limits: Limits,
    pub(crate) trailer: Trailer,
}

/// What becomes of a message that is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// It is sent as it is, with these flags.
    Same(Flags),
    /// This is sent instead.
    Changed(Frame),
    /// An extension has kept it.
    Consumed,
}

impl Outgoing {
    /// What to send; `None` when it is nothing.
    pub(crate) fn of<'a>(&'a self, frame: FrameRef<'a>) -> Option<FrameRef<'a>> {
        match self {
            Self::Same(flags) => Some(FrameRef {
                flags: *flags,
                ..frame
            }),
            Self::Changed(changed) => Some(changed.as_ref()),
            Self::Consumed => None,
        }
    }

    /// The same of a frame that is owned.
    pub(crate) fn of_owned(self, mut frame: Frame) -> Option<Frame> {
        match self {
            Self::Same(flags) => {
                frame.flags = flags;
                Some(frame)
            }
            Self::Changed(changed) => Some(changed),
            Self::Consumed => None,
        }
    }
}

/// What becomes of a message that was received.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// The application gets it.
    Deliver(Frame),
    /// An extension has kept it.
    Consumed,
    /// An extension has answered it; the answers have passed the extensions that they must pass.
    Answered(Vec<Frame>),
    /// An extension has failed.
    Failed(ExtensionError),
}

impl Pipeline {
    /// Checks the settings, and those that were offered by name.
    pub(crate) fn validate(&self, features: &Features) -> Result<(), VstpError> {
        if features.contains(keys::GZIP) && !compression::IS_BUILT_IN {
            return Err(VstpError::config(
                "features",
                "`gzip` needs the crate feature `compression`",
            ));
        }
        self.compression
            .as_ref()
            .map_or(Ok(()), CompressionConfig::validate)
    }

    /// What a side with these settings offers.
    pub(crate) fn offer(&self, features: &Features) -> Features {
        let features = features.clone();
        if self.compression.is_some() {
            features.with(keys::GZIP)
        } else {
            features
        }
    }

    /// What the stack of a thread that sends messages needs in addition (bytes).
    pub(crate) fn stack_len(&self, features: &Features) -> usize {
        let may_compress = self.offer(features).contains(keys::GZIP);
        usize::from(may_compress) * COMPRESSING_STACK_LEN
    }

    /// Whether [`Self::outbound`] could do anything with this frame: nearly always not.
    #[inline]
    pub(crate) fn concerns(&self, frame: FrameRef<'_>) -> bool {
        let is_any = self.compression.is_some() || self.extensions.is_some();
        (is_any || frame.flags.contains(Flags::COMP)) && frame.typ.is_message()
    }

    /// Extensions, then compression.
    ///
    /// # Errors
    /// `Extension`, and as [`Self::compress`].
    pub(crate) fn outbound(
        &self,
        frame: FrameRef<'_>,
        link: &Link,
        context: impl FnOnce() -> ExtensionContext,
    ) -> Result<Outgoing, VstpError> {
        let Some(extensions) = self.extensions.as_ref().filter(|all| !all.is_empty()) else {
            return self.compress(frame, link);
        };
        let processed = extensions.process_frame(frame.to_owned(), &context());
        match processed.map_err(|error| VstpError::Extension(Box::new(error)))? {
            Outcome::Pass(frame) => {
                let compressed = self.compress(frame.as_ref(), link)?;
                Ok(compressed
                    .of_owned(frame)
                    .map_or(Outgoing::Consumed, Outgoing::Changed))
            }
            Outcome::Consume | Outcome::Answer(_) => Ok(Outgoing::Consumed),
        }
    }

    /// Compression alone: for what has passed the extensions.
    ///
    /// Where it is not possible, or does not help, the message is sent as it is, and COMP, with which an
    /// application asks for it, is taken off.
    ///
    /// # Errors
    /// `FrameTooLarge`, `Encode`: the receiver would not take the message inflated. So whether a message
    /// can be sent does not depend on its content.
    pub(crate) fn compress(&self, frame: FrameRef<'_>, link: &Link) -> Result<Outgoing, VstpError> {
        let plain = frame.flags.difference(Flags::COMP);
        let is_marked = frame.flags.contains(Flags::COMP);
        let settings = self.compression.or_else(CompressionConfig::for_marked);
        let is_wanted = link.gzip && frame.typ.is_message();
        let wanted = |s: &CompressionConfig| is_wanted && s.wants(is_marked, frame.payload.len());
        let Some(settings) = settings.filter(wanted) else {
            return Ok(Outgoing::Same(plain));
        };
        encoded_len(frame, link.trailer, &link.limits)?;
        Ok(match settings.compress(frame.payload) {
            None => Outgoing::Same(plain),
            Some(payload) => Outgoing::Changed(Frame {
                typ: frame.typ,
                flags: frame.flags | Flags::COMP,
                headers: frame.headers.to_owned(),
                payload,
            }),
        })
    }

    /// Extensions, for a message that was inflated.
    pub(crate) fn inbound(
        &self,
        frame: Frame,
        context: impl FnOnce() -> ExtensionContext,
    ) -> Inbound {
        let extensions = self.extensions.as_ref().filter(|all| !all.is_empty());
        let Some(extensions) = extensions.filter(|_| frame.typ.is_message()) else {
            return Inbound::Deliver(frame);
        };
        match extensions.process_frame(frame, &context()) {
            Ok(Outcome::Pass(frame)) => Inbound::Deliver(frame),
            Ok(Outcome::Consume) => Inbound::Consumed,
            Ok(Outcome::Answer(answers)) => Inbound::Answered(answers),
            Err(error) => Inbound::Failed(error),
        }
    }

    /// Whether [`Self::inbound`] does anything.
    #[inline]
    pub(crate) fn has_extensions(&self) -> bool {
        self.extensions.as_ref().is_some_and(|all| !all.is_empty())
    }
}

/// What a message with COMP holds, as a message without it.
pub(crate) fn inflate(frame: FrameRef<'_>, cap: usize) -> Result<Frame, InflateError> {
    Ok(Frame {
        typ: frame.typ,
        flags: frame.flags.difference(Flags::COMP),
        headers: frame.headers.to_owned(),
        payload: compression::inflate(frame.payload, cap)?,
    })
}

/// Bytes that [`inflate`] reserves.
pub(crate) fn inflated_len(frame: FrameRef<'_>, cap: usize) -> usize {
    compression::announced_len(frame.payload, cap)
}
