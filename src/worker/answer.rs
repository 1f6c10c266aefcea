//! Answers to commands: what became of each, counted; and why a table cannot say yes.

use metrics::counter;

use crate::bus::{AppendError, Reply};
use crate::domain::TableSeq;
use crate::protocol::request::{MOVED, Refusal, Verdict, encode};

/// When to ask again once a queue, or a table, has moved on.
pub(super) const SOON_MS: u64 = 50;

/// When to ask again if something has to recover first.
pub(super) const LATER_MS: u64 = 250;

/// When to ask again if the log has no room: an operator has to see to it.
const FULL_MS: u64 = 2_000;

/// Answers one command, to everyone who asked with the same bytes.
pub(super) async fn answer(replies: Vec<Reply>, verdict: Result<TableSeq, Refusal>) {
    let verdict = match verdict {
        Ok(seq) => Verdict::Accepted { seq },
        Err(refusal) => Verdict::Rejected(refusal),
    };
    let label = match &verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Rejected(_) => "rejected",
    };
    counter!("tablecast_worker_commands_total", "verdict" => label).increment(1);
    let verdict = encode(&verdict);
    for reply in replies {
        reply.send(verdict.clone()).await;
    }
}

/// Too many wait already.
pub(super) fn busy() -> Refusal {
    counter!("tablecast_worker_commands_busy_total").increment(1);
    Refusal::new("busy", "too many commands wait at this table").retry_after_ms(SOON_MS)
}

/// The table has, or gets, another owner.
pub(super) fn moved(message: impl Into<String>) -> Refusal {
    Refusal::new(MOVED, message).retry_after_ms(SOON_MS)
}

/// The append is not in the log, or nobody knows: then the same command sent again will tell.
pub(super) fn unavailable(error: &AppendError) -> Refusal {
    let refusal = Refusal::new("unavailable", error.to_string());
    match error {
        AppendError::Unavailable { .. } | AppendError::Fenced { .. } => {
            refusal.retry_after_ms(LATER_MS)
        }
        // There may be room again; and a worker that hangs may still hold an earlier try.
        AppendError::Refused { .. } => refusal.retry_after_ms(FULL_MS),
    }
}
