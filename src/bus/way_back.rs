//! From a table's last entry back, one by one: short for a short way, however busy the stream is.

use super::{Entry, EventLog, ReadError, Stored};
use crate::domain::{StreamSeq, TableSeq};
use crate::protocol::envelope::commit_seq;
use crate::protocol::subject::Address;

/// Up to how many commits are found from the last one back before the way from the front is the shorter one.
/// Each takes a round trip of some 0.15 ms.
pub const WAY_BACK_MAX: u64 = 64;

/// The commits of a table with a number above `after`, up to and with `last`, in order.
///
/// The server finds each at once. Read from the front, it would look through all that other tables have appended
/// since. Nothing if there are none or more than `max`, or if something on the way is no commit: a foreign
/// message does not say what is before it.
///
/// # Errors
/// If the log cannot be read.
pub async fn way_back(
    log: &dyn EventLog,
    address: &Address,
    last: Entry,
    after: TableSeq,
    max: u64,
) -> Result<Option<Vec<Entry>>, ReadError> {
    let number = |entry: &Entry| {
        let is_commit = entry.what == Stored::Commit && entry.address == *address;
        commit_seq(&entry.payload, address.table).filter(|_| is_commit).map(TableSeq::get)
    };
    let (Some(newest), after) = (number(&last), after.get()) else {
        return Ok(None);
    };
    if newest <= after || newest - after > max {
        return Ok(None);
    }
    let mut previous = last.previous;
    let mut entries = vec![last];
    for due in (after + 1..newest).rev() {
        if previous == StreamSeq::ZERO {
            return Ok(None);
        }
        match log.entry(address, previous).await? {
            Some(before) if number(&before) == Some(due) => {
                previous = before.previous;
                entries.push(before);
            }
            Some(_) | None => return Ok(None),
        }
    }
    entries.reverse();
    Ok(Some(entries))
}
