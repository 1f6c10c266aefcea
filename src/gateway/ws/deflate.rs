//! Compression of single messages: permessage-deflate (RFC 7692) without context from one message to the next.
//!
//! Without context a compressed frame can be shared like any other, and a silent connection needs no window.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Shorter messages are sent as they are: they would hardly become smaller.
const BYTES_MIN: usize = 256;
/// What every deflated message ends with, and nobody sends.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// How much output one step of inflating makes room for.
const STEP_BYTES: usize = 4 * 1024;

thread_local! {
    /// Some hundred kilobytes each, so one for each thread.
    static COMPRESS: RefCell<Compress> =
        RefCell::new(Compress::new(Compression::fast(), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum InflateError {
    /// It would be larger than allowed.
    TooBig,
    /// It is not what deflate makes.
    Corrupt,
}

/// The message deflated, if that makes it smaller.
pub(in crate::gateway) fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < BYTES_MIN {
        return None;
    }
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::with_capacity(message.len());
        // With room for less than the message it ends early, and the message goes out as it is.
        let status = compress.compress_vec(message, &mut out, FlushCompress::Sync).ok()?;
        let is_whole = status == Status::Ok && compress.total_in() == message.len() as u64;
        (is_whole && out.ends_with(&TAIL)).then(|| {
            out.truncate(out.len() - TAIL.len());
            out
        })
    })
}

/// The message that was deflated.
pub(in crate::gateway) fn inflate(
    message: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, InflateError> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        let mut out = Vec::new();
        for input in [message, &TAIL] {
            let start = decompress.total_in();
            loop {
                let taken = usize::try_from(decompress.total_in() - start);
                let rest = &input[taken.map_err(|_large| InflateError::TooBig)?..];
                let before = out.len();
                out.reserve(STEP_BYTES);
                let status = decompress
                    .decompress_vec(rest, &mut out, FlushDecompress::Sync)
                    .map_err(|_corrupt| InflateError::Corrupt)?;
                if out.len() > bytes_max {
                    return Err(InflateError::TooBig);
                }
                let has_room = out.len() < out.capacity();
                let is_used = decompress.total_in() - start == input.len() as u64;
                // A sender may end its last block, which leaves nothing to say.
                if status == Status::StreamEnd || (is_used && has_room) {
                    break;
                }
                if out.len() == before && !is_used && has_room {
                    return Err(InflateError::Corrupt);
                }
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_would_grow_without_end_is_refused() {
        let bomb = deflate(&vec![b'a'; 1_000_000]).unwrap();
        assert!(bomb.len() < 10_000);
        assert_eq!(inflate(&bomb, 4_096), Err(InflateError::TooBig));
        assert_eq!(inflate(&bomb, 1_000_000).unwrap().len(), 1_000_000);
        assert_eq!(inflate(&[0xff; 40], 4_096), Err(InflateError::Corrupt));
    }

    proptest! {
        #[test]
        fn what_was_deflated_is_inflated(text in "[ab{}:\",]{256,3000}") {
            if let Some(deflated) = deflate(text.as_bytes()) {
                prop_assert!(deflated.len() < text.len());
                prop_assert_eq!(inflate(&deflated, text.len()).unwrap(), text.as_bytes());
            }
        }

        #[test]
        fn no_bytes_break_inflating(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(inflated) = inflate(&bytes, 10_000) {
                prop_assert!(inflated.len() <= 10_000);
            }
        }
    }
}
