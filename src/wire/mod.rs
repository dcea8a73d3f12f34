//! Bytes to values and back: the frame of spec section 2, and nothing else.
//!
//! Pure functions over memory. No clock, socket, thread, lock or log lives here, and no input makes
//! this code panic. Limits of control frames, reserved keys and what may follow what are the
//! session's business ([`crate::proto`]); this layer takes any well-formed frame.
//!
//! ```text
//!  0      2     3      4       5         7         11                                n
//!  +------+-----+------+-------+---------+---------+---------+---------+-------------+
//!  | 'VT' | 01  | TYPE | FLAGS | HDR_LEN | PAY_LEN | HEADERS | PAYLOAD | CRC-32      |
//!  |      |     |      |       | u16 LE  | u32 BE  |         |         | u32 BE      |
//!  +------+-----+------+-------+---------+---------+---------+---------+-------------+
//! ```

pub mod buffer;
pub mod crc;
pub mod decode;
pub mod encode;
pub mod error;
mod field;
pub mod frame;
pub mod headers;
pub mod limits;
pub mod text;
pub mod varint;
mod writer;

pub use buffer::Buffer;
pub use decode::{Decoded, FixedHeader, decode, decode_exact};
pub use encode::{EncodedHead, encode, encode_head, encoded_len};
pub use error::{DecodeError, EncodeError};
pub use field::{VSTP_MAGIC, VSTP_VERSION};
pub use frame::{Flags, Frame, FrameBuilder, FrameRef, FrameType};
pub use headers::{Header, Headers, HeadersRef};
pub use limits::{DEFAULT_MAX_FRAME_SIZE, Limits, Trailer};
pub use writer::{FrameWriter, digit_count};
