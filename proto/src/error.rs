//! Why bytes are not what the protocol says.

use crate::acks::AcksError;
use crate::close::CloseCode;
use crate::length::PREFIX_MAX;

/// A frame's length prefix that gives no frame (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameLenError {
    /// More bytes are needed: not a fault.
    #[error("the length prefix has not arrived completely")]
    Incomplete,
    /// The frame is longer than allowed.
    #[error("a frame of {size} bytes was announced: at most {limit} are allowed here")]
    TooLong {
        /// The length that was announced, in bytes.
        size: usize,
        /// The longest that is allowed, in bytes.
        limit: usize,
    },
    /// The prefix does not end where it must.
    #[error(
        "the length prefix does not end within {PREFIX_MAX} bytes: the peer does not frame as it must"
    )]
    Malformed,
}

impl FrameLenError {
    /// The code to close the link with; `None` where more bytes are to be waited for.
    pub const fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::Incomplete => None,
            Self::TooLong { .. } => Some(CloseCode::FRAME_TOO_LARGE),
            Self::Malformed => Some(CloseCode::UNDECODABLE),
        }
    }
}

/// A frame that is not the envelope it should be. The link is closed with
/// [`CloseCode::UNDECODABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("the frame ends inside field {field}")]
    Truncated {
        /// The field's number; 0 where the frame ends inside a field's key.
        field: u32,
    },
    /// A varint does not fit into 64 bits.
    #[error("field {field} holds a varint of more than 64 bits")]
    VarintTooLong {
        /// The field's number; 0 where it is a field's key.
        field: u32,
    },
    /// A field number is 0 or above 2^29 - 1.
    #[error("a field's key is {key}, which holds no field number of protobuf")]
    FieldNumber {
        /// The key as it was read.
        key: u64,
    },
    /// A field has another wire type than the schema gives it, or one that protobuf does not have.
    #[error("field {field} has wire type {wire_type}, which does not fit the schema")]
    WireType {
        /// The field's number.
        field: u32,
        /// Its wire type.
        wire_type: u8,
    },
    /// A field is a group (wire types 3 and 4), which this protocol does not use.
    #[error("field {field} is a group, which this protocol does not use")]
    Group {
        /// The field's number.
        field: u32,
    },
    /// A text is not UTF-8.
    #[error("field {field} is a text and not UTF-8")]
    NotUtf8 {
        /// The field's number.
        field: u32,
    },
    /// An envelope's kind is none that this version knows.
    #[error("the envelope's kind is {0}, which this version does not know")]
    UnknownKind(i32),
    /// An ACKS envelope does not list promises as it must.
    #[error(transparent)]
    Acks(#[from] AcksError),
}

impl DecodeError {
    /// The code to close the link with.
    pub const fn close_code(&self) -> CloseCode {
        CloseCode::UNDECODABLE
    }
}
