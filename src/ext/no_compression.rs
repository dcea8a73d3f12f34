//! Compression without the feature `compression`: there are no settings to give, and no session
//! agrees to it.

use crate::error::VstpError;
use crate::proto::error::InflateError;

/// The settings of compression; without the feature `compression` none can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionConfig {}

impl CompressionConfig {
    pub(crate) fn validate(&self) -> Result<(), VstpError> {
        match *self {}
    }

    pub(super) fn wants(&self, _is_marked: bool, _len: usize) -> bool {
        match *self {}
    }

    pub(super) fn compress(&self, _payload: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    /// What holds for a message that asks for compression where no settings were given: none.
    pub(super) const fn for_marked() -> Option<Self> {
        None
    }
}

/// Whether this build can inflate.
pub(crate) const IS_BUILT_IN: bool = false;

/// Never called with something to inflate: no session agrees to it.
pub(crate) fn announced_len(_payload: &[u8], _cap: usize) -> usize {
    0
}

/// Never called with something to inflate: no session agrees to it.
pub(crate) fn inflate(_payload: &[u8], _cap: usize) -> Result<Vec<u8>, InflateError> {
    Err(InflateError::Corrupt)
}
