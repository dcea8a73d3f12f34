//! Serde types as frames and back: JSON, with a `content-type` that says so.

use crate::error::VstpError;
use crate::proto::keys;
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The `content-type` of typed messages.
const JSON: &str = "application/json";

pub(super) fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Frame, VstpError> {
    let payload = serde_json::to_vec(message).map_err(|e| VstpError::Serialization(Box::new(e)))?;
    Ok(Frame::data(payload).with_header(keys::CONTENT_TYPE, JSON))
}

pub(super) fn decode<T: DeserializeOwned>(frame: &Frame) -> Result<T, VstpError> {
    serde_json::from_slice(&frame.payload).map_err(|e| VstpError::Deserialization(Box::new(e)))
}
