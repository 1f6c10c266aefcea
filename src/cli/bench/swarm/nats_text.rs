//! What a NATS server writes to its clients, found in a stream of bytes.

use std::ops::Range;

use super::scan::number;

/// One line of the server, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Op {
    /// On a subject that we follow.
    Message {
        subject: Range<usize>,
        payload: Range<usize>,
    },
    Ping,
    Pong,
    Info,
    /// `+OK`, and what we have not asked for.
    Other,
    Error {
        reason: Range<usize>,
    },
}

/// The first whole operation that begins at `from`, and where the next one does. Nothing if it is not all there.
pub(in super::super) fn op(bytes: &[u8], from: usize) -> Option<(Op, usize)> {
    let rest = bytes.get(from..)?;
    let line = rest.iter().position(|byte| *byte == b'\n')?;
    let (line_ends, next) = (from + line.saturating_sub(1), from + line + 1);
    let line = &bytes[from..line_ends];
    let op = match line.first()? {
        b'M' | b'H' => return message(bytes, from, line_ends, next),
        b'P' if line.starts_with(b"PING") => Op::Ping,
        b'P' => Op::Pong,
        b'I' => Op::Info,
        b'-' => Op::Error { reason: from..line_ends },
        _ => Op::Other,
    };
    Some((op, next))
}

/// `MSG <subject> <sid> [reply] <bytes>`, or `HMSG` with the length of the headers before that of all.
fn message(
    bytes: &[u8],
    from: usize,
    line_ends: usize,
    payload_from: usize,
) -> Option<(Op, usize)> {
    let line = &bytes[from..line_ends];
    let verb_ends = line.iter().position(|byte| *byte == b' ')?;
    let subject_ends = line[verb_ends + 1..].iter().position(|byte| *byte == b' ')?;
    let subject = from + verb_ends + 1..from + verb_ends + 1 + subject_ends;
    let length_at = line.iter().rposition(|byte| *byte == b' ')?;
    let (length, _) = number(line, length_at + 1)?;
    let headers = match line[0] {
        b'H' => {
            let before = &line[..length_at];
            let headers_at = before.iter().rposition(|byte| *byte == b' ')?;
            usize::try_from(number(before, headers_at + 1)?.0).ok()?
        }
        _ => 0,
    };
    let ends = payload_from.checked_add(usize::try_from(length).ok()?)?;
    (ends + 2 <= bytes.len())
        .then_some((Op::Message { subject, payload: payload_from + headers..ends }, ends + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_one_after_another() {
        let bytes = b"INFO {}\r\nMSG a.b 1 5\r\nhello\r\nHMSG a 1 _r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPING\r\n";
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((op, next)) = op(bytes, from) {
            found.push(if let Op::Message { subject, payload } = op {
                let text =
                    |range: Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
                format!("{} {}", text(subject), text(payload))
            } else {
                format!("{op:?}")
            });
            from = next;
        }
        assert_eq!(found, ["Info", "a.b hello", "a hi", "Ping"]);
        assert_eq!(from, bytes.len());
    }

    #[test]
    fn half_a_message_is_none() {
        let bytes = b"MSG a 1 5\r\nhello\r\n";
        for length in 0..bytes.len() {
            assert_eq!(op(&bytes[..length], 0), None, "{length} bytes");
        }
        assert!(op(bytes, 0).is_some());
    }
}
