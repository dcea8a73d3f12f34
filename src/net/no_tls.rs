//! Stands in for `tls` when the feature is off: types that cannot have a value, so that the code
//! around them needs no conditions and the compiler removes what they would do.

use crate::error::VstpError;
use crate::proto::datagram::SealedKeys;
use std::io::IoSlice;

/// Settings of a TLS server: there are none without the feature `tls`.
#[derive(Debug, Clone)]
pub enum TlsServerConfig {}

/// What TLS knows about the peer: nothing without the feature `tls`.
#[derive(Debug, Clone)]
pub enum PeerInfo {}

impl PeerInfo {
    pub(crate) fn exporter(&self) -> &[u8; 32] {
        match *self {}
    }
}

/// The TLS state of a connection: there is none without the feature `tls`.
#[derive(Debug)]
pub(crate) enum TlsSession {}

impl TlsSession {
    pub(crate) fn server(config: &TlsServerConfig) -> Result<Self, VstpError> {
        match *config {}
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(crate) fn feed(&mut self, _: &[u8]) -> Result<usize, VstpError> {
        match *self {}
    }

    pub(crate) fn take_plaintext(&mut self, _: &mut Vec<u8>, _: usize) -> usize {
        match *self {}
    }

    pub(crate) fn encrypt(
        &mut self,
        _: &[IoSlice<'_>],
        _: &mut Vec<u8>,
    ) -> Result<usize, VstpError> {
        match *self {}
    }

    pub(crate) fn drain(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn send_close_notify(&mut self) {
        match *self {}
    }

    pub(crate) fn peer_has_closed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn can_seal(&self) -> bool {
        match *self {}
    }

    pub(crate) fn sealed_keys(&self, _: u128) -> Result<Option<SealedKeys>, VstpError> {
        match *self {}
    }

    pub(crate) fn peer_info(&self) -> Result<PeerInfo, VstpError> {
        match *self {}
    }
}
