//! A relayed table as its messages tell it: which number each has, who sits where, how it ended. Gateways and
//! the archiver count by this, so that they agree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ending, RelayError, Relayed};
use crate::domain::{Closing, PlayerId, Seat, Summary, SummarySeat, TableSeq, Timestamp};

/// The largest number that a table may begin with. So many messages again can never come, and up to there browsers
/// count without a mistake.
const FIRST_SEQ_MAX: u64 = 1 << 52;

/// What was taken in of a relayed table so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    last_seq: TableSeq,
    last_at: Timestamp,
    started_at: Option<Timestamp>,
    sitters: BTreeMap<Seat, Sitter>,
    summary: Option<Summary>,
}

/// Who sits in a seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sitter {
    /// The `sub` of the player's token.
    pub player: PlayerId,
    /// As shown to others.
    pub name: String,
}

/// A message that has its number.
#[derive(Debug)]
pub struct Numbered {
    /// Which.
    pub seq: TableSeq,
    /// When it was decided; when the log stored it, if it does not say.
    pub at: Timestamp,
    /// The seats that have somebody else, or nobody any more, from it on.
    pub reseated: Vec<Seat>,
    /// What it says. One that cannot be read has a number, too: whoever can read it, be it only after an
    /// upgrade, counts as those who cannot, and its server, which counted it, goes on.
    pub what: Result<Relayed, RelayError>,
}

/// A message that takes no number: it is as if it were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its server says that something is missing before it, or that it has come twice.
    #[error("relayed commit {found} where {expected} was due")]
    OutOfOrder {
        /// The number it has.
        found: u64,
        /// The number that was due.
        expected: u64,
    },
    /// Its server has said that the table is over.
    #[error("a relayed commit after the one that ended the table")]
    Over,
}

impl Progress {
    /// Takes in the next message that the log has of the table.
    ///
    /// # Errors
    /// If it is out of place.
    pub fn take(&mut self, payload: &[u8], stored_at: Timestamp) -> Result<Numbered, Refused> {
        let what = Relayed::decode(payload);
        if self.summary.is_some() {
            return Err(Refused::Over);
        }
        let seq = self.number(what.as_ref().ok())?;
        let at = what.as_ref().ok().and_then(|relayed| relayed.at).unwrap_or(stored_at);
        self.last_seq = seq;
        self.last_at = at;
        self.started_at.get_or_insert(at);
        let reseated =
            what.as_ref().map_or_else(|_| Vec::new(), |relayed| self.follow(relayed, at));
        Ok(Numbered { seq, at, reseated, what })
    }

    fn number(&self, relayed: Option<&Relayed>) -> Result<TableSeq, Refused> {
        let due = self.last_seq.next();
        match relayed.and_then(|relayed| relayed.seq.map(|seq| (seq, relayed))) {
            None => Ok(due),
            Some((seq, _)) if seq == due => Ok(seq),
            // What was before it has been purged, and is not needed: the state is here.
            Some((seq, Relayed { state: Some(_), .. }))
                if due.get() == 1 && seq > due && seq.get() <= FIRST_SEQ_MAX =>
            {
                Ok(seq)
            }
            Some((seq, _)) => Err(Refused::OutOfOrder { found: seq.get(), expected: due.get() }),
        }
    }

    fn follow(&mut self, relayed: &Relayed, at: Timestamp) -> Vec<Seat> {
        let mut reseated = BTreeSet::new();
        for sitting in &relayed.players {
            let Some(player) = sitting.player.clone() else {
                if self.sitters.remove(&sitting.seat).is_some() {
                    reseated.insert(sitting.seat);
                }
                continue;
            };
            // Nobody has two seats: they would be shown one of them only.
            let elsewhere = self.sitters.extract_if(.., |_, sitter| sitter.player == player);
            reseated.extend(elsewhere.map(|(seat, _)| seat));
            let name = sitting.name.clone();
            let name = name.unwrap_or_else(|| format!("Player {}", sitting.seat.0 + 1));
            self.sitters.insert(sitting.seat, Sitter { player, name });
            reseated.insert(sitting.seat);
        }
        self.summary = relayed.ended.as_ref().map(|ended| self.summary_of(ended, at));
        reseated.into_iter().collect()
    }

    fn summary_of(&self, ended: &Ending, ended_at: Timestamp) -> Summary {
        let players = self.sitters.iter().map(|(seat, sitter)| SummarySeat {
            seat: *seat,
            player: Some(sitter.player.clone()),
            name: sitter.name.clone(),
        });
        Summary {
            closing: ended.closing.unwrap_or(Closing::Finished),
            players: players.collect(),
            winners: ended.winners.clone(),
            scores: ended.scores.clone(),
            started_at: self.started_at,
            ended_at,
        }
    }

    /// The number of the last message that has one.
    pub fn last_seq(&self) -> TableSeq {
        self.last_seq
    }

    /// When the last one was decided.
    pub fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// Who sits where.
    pub fn sitters(&self) -> &BTreeMap<Seat, Sitter> {
        &self.sitters
    }

    /// How the table ended, once it has.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
}
