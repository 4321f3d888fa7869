//! The length prefix that stands before each frame.

use bytes::BufMut;

use crate::error::FrameLenError;
use crate::varint;

/// The longest length prefix, in bytes. [`crate::FRAME_MAX`] needs three; a fourth is accepted so
/// that a writer may reserve a fixed width before it knows the length.
pub const PREFIX_MAX: usize = 4;

/// A frame's length prefix, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLen {
    /// How many bytes the prefix takes: the frame begins behind it.
    pub prefix: usize,
    /// How many bytes the frame has.
    pub frame: usize,
}

/// Reads the length prefix at the beginning of `input`, for a frame of at most `limit` bytes.
///
/// Any answer but [`FrameLenError::Incomplete`] is final: no further input changes it.
pub fn decode_frame_len(input: &[u8], limit: usize) -> Result<FrameLen, FrameLenError> {
    let mut frame = 0;
    for (at, &byte) in input.iter().take(PREFIX_MAX).enumerate() {
        frame |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            if frame > limit {
                return Err(FrameLenError::TooLong { size: frame, limit });
            }
            return Ok(FrameLen {
                prefix: at + 1,
                frame,
            });
        }
    }
    if input.len() < PREFIX_MAX {
        Err(FrameLenError::Incomplete)
    } else {
        Err(FrameLenError::Malformed)
    }
}

/// Writes the length prefix of a frame of `frame` bytes.
pub fn encode_frame_len(frame: usize, out: &mut impl BufMut) {
    varint::encode(frame as u64, out);
}

/// How many bytes the length prefix of a frame of `frame` bytes takes.
pub const fn frame_len_len(frame: usize) -> usize {
    varint::encoded_len(frame as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAME_MAX, FRAME_MIN};

    #[test]
    fn every_allowed_length_comes_back_and_no_part_of_it_does() {
        for frame in (0..=FRAME_MAX)
            .step_by(61)
            .chain([0, 127, 128, 16_383, 16_384, FRAME_MAX])
        {
            let mut bytes = Vec::new();
            encode_frame_len(frame, &mut bytes);
            let prefix = bytes.len();
            assert_eq!(prefix, frame_len_len(frame));
            assert!(prefix <= PREFIX_MAX);
            assert_eq!(
                decode_frame_len(&bytes, FRAME_MAX),
                Ok(FrameLen { prefix, frame })
            );
            for cut in 0..prefix {
                assert_eq!(
                    decode_frame_len(&bytes[..cut], FRAME_MAX),
                    Err(FrameLenError::Incomplete)
                );
            }
            bytes.extend([0xff; 4]);
            assert_eq!(
                decode_frame_len(&bytes, FRAME_MAX),
                Ok(FrameLen { prefix, frame })
            );
        }
    }

    #[test]
    fn one_byte_above_the_limit_is_too_long() {
        for limit in [FRAME_MIN, FRAME_MAX] {
            let size = limit + 1;
            let mut bytes = Vec::new();
            encode_frame_len(size, &mut bytes);
            assert_eq!(
                decode_frame_len(&bytes, limit),
                Err(FrameLenError::TooLong { size, limit })
            );
        }
    }

    #[test]
    fn a_length_of_fixed_width_is_accepted() {
        let three_in_four_bytes = [0x83, 0x80, 0x80, 0x00];
        assert_eq!(
            decode_frame_len(&three_in_four_bytes, FRAME_MAX),
            Ok(FrameLen {
                prefix: 4,
                frame: 3
            })
        );
    }

    #[test]
    fn a_fourth_byte_that_announces_a_fifth_is_malformed_at_once() {
        assert_eq!(
            decode_frame_len(&[0x80; 4], FRAME_MAX),
            Err(FrameLenError::Malformed)
        );
        assert_eq!(
            decode_frame_len(&[0xff; 10], FRAME_MAX),
            Err(FrameLenError::Malformed)
        );
    }
}
