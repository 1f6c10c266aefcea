//! Tables whose commits somebody else publishes. What each audience sees was decided there; here it is kept as
//! text, numbered and put together.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use super::replica::{FannedOut, Replica};
use super::{Drafted, FirstFold, FoldError, Referee, Rules};
use crate::domain::{
    Cause, Holder, Kind, LifecycleView, Opening, PlayerId, ResultView, Seat, SeatView, StartRule,
    Status, TableId, TableSeq, TableView, Timestamp, TurnContext, Viewer, WorkerId,
};
use crate::protocol::envelope::SavedState;
use crate::protocol::frame::Format;
use crate::protocol::relay::{Keyframe, Numbered, Progress, Sitter};
use crate::protocol::request::{RELAYED, Refusal};

/// A snapshot holds so many commits after the last keyframe.
pub const COMMITS_KEPT: usize = 256;
/// And so many bytes of their events, or one commit, however large.
pub const BYTES_KEPT: usize = 64 * 1024;

/// A kind that is relayed.
#[derive(Debug)]
pub(super) struct RelayRules {
    kind: Kind,
}

impl RelayRules {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind }
    }

    fn refusal(&self) -> Refusal {
        let message = format!("tables of {} are looked after by a server of its own", self.kind);
        Refusal::new(RELAYED, message)
    }
}

impl Rules for RelayRules {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn rules_version(&self) -> u32 {
        0
    }

    fn has_bots(&self) -> bool {
        false
    }

    fn is_relayed(&self) -> bool {
        true
    }

    fn seats(&self, _: &serde_json::Value) -> Result<u8, Refusal> {
        Err(self.refusal())
    }

    fn paced_setup(&self, _: f64) -> serde_json::Value {
        serde_json::Value::Object(serde_json::Map::new())
    }

    fn open(
        &self,
        _: TableId,
        _: Opening,
        _: Cause,
        _: &TurnContext,
    ) -> Result<(Box<dyn Referee>, Drafted), Refusal> {
        Err(self.refusal())
    }

    fn referee(&self, _: TableId, _: &[u8]) -> Result<Box<dyn Referee>, FoldError> {
        Err(FoldError::Relayed(self.refusal().message))
    }

    fn restore(&self, _: TableId, _: &SavedState) -> Option<Box<dyn Referee>> {
        None
    }

    fn restore_replica(&self, _: TableId, _: &SavedState) -> Option<Box<dyn Replica>> {
        None
    }

    fn replica(
        &self,
        table: TableId,
        first: &[u8],
        stored_at: Timestamp,
    ) -> Result<FirstFold, FoldError> {
        let mut replica = RelayReplica {
            table,
            kind: self.kind.clone(),
            progress: Progress::default(),
            keyframe: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            missing: 0,
        };
        let first = replica.fold(first, stored_at)?;
        Ok((Box::new(replica), first))
    }
}

/// A relayed table: its last keyframe and the commits after it, as far as they are kept.
#[derive(Debug)]
struct RelayReplica {
    table: TableId,
    kind: Kind,
    progress: Progress,
    /// And the number of the commit that it is the state after.
    keyframe: Option<(TableSeq, Keyframe)>,
    kept: VecDeque<Arc<RelayCommit>>,
    kept_bytes: usize,
    /// Commits after the keyframe that are kept no more.
    missing: u64,
}

/// One commit. Its events are texts without brackets, any of which may be empty.
#[derive(Debug)]
struct RelayCommit {
    table: TableId,
    seq: TableSeq,
    at: Timestamp,
    /// Who sat down and who got up.
    seating: Box<str>,
    public: Box<str>,
    seats: Box<[(Seat, Box<str>)]>,
    /// That the table is over.
    ending: Box<str>,
    /// Why it has no events, if it cannot be read.
    unread: Option<String>,
}

impl RelayReplica {
    fn keep(&mut self, commit: Arc<RelayCommit>, keyframe: Option<Keyframe>) {
        if let Some(keyframe) = keyframe {
            self.keyframe = Some((commit.seq, keyframe));
            self.kept.clear();
            (self.kept_bytes, self.missing) = (0, 0);
            return;
        }
        self.kept_bytes += commit.bytes();
        self.kept.push_back(commit);
        while self.kept.len() > 1
            && (self.kept.len() > COMMITS_KEPT || self.kept_bytes > BYTES_KEPT)
        {
            let dropped = self.kept.pop_front().map_or(0, |commit| commit.bytes());
            self.kept_bytes -= dropped;
            self.missing += 1;
        }
    }

    fn commit(&self, numbered: Numbered) -> (RelayCommit, Option<Keyframe>) {
        let Numbered { seq, at, reseated, what } = numbered;
        let mut commit = RelayCommit {
            table: self.table,
            seq,
            at,
            seating: self.seating(&reseated),
            public: "".into(),
            seats: Box::default(),
            ending: "".into(),
            unread: None,
        };
        let relayed = match what {
            Ok(relayed) => relayed,
            Err(error) => {
                commit.unread = Some(error.to_string());
                return (commit, None);
            }
        };
        if relayed.ended.is_some() {
            let result = self.progress.summary().map(ResultView::from);
            commit.ending =
                result.map(LifecycleView::Completed).as_ref().map(text).unwrap_or_default();
        }
        commit.public = relayed.public.into();
        commit.seats =
            relayed.seats.into_iter().map(|(seat, events)| (seat, events.into())).collect();
        (commit, relayed.state)
    }

    fn seating(&self, reseated: &[Seat]) -> Box<str> {
        let events = reseated.iter().map(|&seat| {
            text(&match self.progress.sitters().get(&seat) {
                Some(sitter) => LifecycleView::SeatTaken { seat, name: sitter.name.clone() },
                None => LifecycleView::SeatFreed { seat },
            })
        });
        events.collect::<Vec<_>>().join(",").into()
    }

    /// One more than the highest seat that anybody has.
    fn seat_count(&self) -> u8 {
        self.progress.sitters().keys().next_back().map_or(0, |seat| seat.0 + 1)
    }

    fn view(&self, viewer: Viewer) -> TableView<()> {
        let summary = self.progress.summary();
        let seats = (0..self.seat_count()).map(Seat);
        TableView {
            status: self.status(),
            you: viewer.seat(),
            host: None,
            start: StartRule::WhenFull,
            seats: seats.map(|seat| seat_view(seat, self.progress.sitters().get(&seat))).collect(),
            decide_by: None,
            result: summary.map(ResultView::from),
            rematch: None,
            successor: None,
            game: (),
        }
    }

    fn write_game(&self, viewer: Viewer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"relayed\":true");
        if let Some((seq, keyframe)) = &self.keyframe {
            write!(out, ",\"state_seq\":{}", seq.get()).expect("memory takes it");
            let own = viewer.seat().and_then(|seat| of_seat(&keyframe.seats, seat));
            for (name, state) in [("state", keyframe.public.as_ref()), ("your_state", own)] {
                if let Some(state) = state {
                    write!(out, ",\"{name}\":{state}").expect("memory takes it");
                }
            }
        }
        write!(out, ",\"missing\":{},\"commits\":[", self.missing).expect("memory takes it");
        for (at, commit) in self.kept.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (seq, at) = (commit.seq.get(), commit.at.as_millis());
            write!(out, "{comma}{{\"seq\":{seq},\"at\":{at},\"events\":[")
                .expect("memory takes it");
            commit.write_events(viewer, out);
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"]}");
    }
}

fn seat_view(seat: Seat, sitter: Option<&Sitter>) -> SeatView {
    SeatView {
        seat,
        holder: if sitter.is_some() { Holder::Human } else { Holder::Open },
        name: sitter.map(|sitter| sitter.name.clone()).unwrap_or_default(),
        // Its own server knows; we do not.
        present: sitter.is_some(),
        bot_plays: false,
    }
}

fn of_seat<T>(parts: &[(Seat, T)], seat: Seat) -> Option<&T> {
    parts.iter().find(|(whose, _)| *whose == seat).map(|(_, part)| part)
}

fn text(event: &LifecycleView) -> Box<str> {
    serde_json::to_string(event).expect("our own events are plain data").into()
}

impl Replica for RelayReplica {
    fn fold(
        &mut self,
        payload: &[u8],
        stored_at: Timestamp,
    ) -> Result<Arc<dyn FannedOut>, FoldError> {
        let numbered = self.progress.take(payload, stored_at);
        let numbered = numbered.map_err(|refused| FoldError::Relayed(refused.to_string()))?;
        let (commit, keyframe) = self.commit(numbered);
        let commit = Arc::new(commit);
        self.keep(Arc::clone(&commit), keyframe);
        Ok(commit)
    }

    /// A commit has no number of its own, and who sat down is told from those before it.
    fn past(&self, _: &[u8]) -> Option<Arc<dyn FannedOut>> {
        None
    }

    fn last_seq(&self) -> TableSeq {
        self.progress.last_seq()
    }

    fn status(&self) -> Status {
        if self.progress.summary().is_some() { Status::Ended } else { Status::Running }
    }

    fn needs_owner(&self) -> bool {
        false
    }

    fn kind(&self) -> Kind {
        self.kind.clone()
    }

    fn seats(&self) -> usize {
        usize::from(self.seat_count())
    }

    fn seat_of(&self, player: &PlayerId) -> Option<Seat> {
        let mut sitters = self.progress.sitters().iter();
        sitters.find(|(_, sitter)| sitter.player == *player).map(|(seat, _)| *seat)
    }

    fn write_snapshot(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>) {
        in_format(format, out, |out| {
            let (table, seq) = (self.table, self.last_seq().get());
            write!(out, "{{\"type\":\"snapshot\",\"table\":\"{table}\",\"seq\":{seq},\"view\":")
                .expect("memory takes it");
            serde_json::to_writer(&mut *out, &self.view(viewer)).expect("views are plain data");
            // The game stands last, and is text already.
            let game = out.len() - b"null}".len();
            debug_assert_eq!(&out[game..], b"null}");
            out.truncate(game);
            self.write_game(viewer, out);
            out.extend_from_slice(b"}}");
        });
    }
}

impl RelayCommit {
    fn bytes(&self) -> usize {
        let parts = self.seats.iter().map(|(_, part)| part.len()).sum::<usize>();
        self.seating.len() + self.public.len() + parts + self.ending.len() + size_of::<Self>()
    }

    fn write_events(&self, viewer: Viewer, out: &mut Vec<u8>) {
        let own = viewer.seat().and_then(|seat| of_seat(&self.seats, seat));
        let own = own.map_or("", |part| part);
        let mut comma = false;
        for part in [&self.seating, &self.public, own, &self.ending] {
            if part.is_empty() {
                continue;
            }
            if comma {
                out.push(b',');
            }
            out.extend_from_slice(part.as_bytes());
            comma = true;
        }
    }
}

impl FannedOut for RelayCommit {
    fn seq(&self) -> TableSeq {
        self.seq
    }

    fn write(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>) {
        in_format(format, out, |out| {
            let (table, seq, at) = (self.table, self.seq.get(), self.at.as_millis());
            write!(
                out,
                "{{\"type\":\"commit\",\"table\":\"{table}\",\"seq\":{seq},\"at\":{at},\"events\":["
            )
            .expect("memory takes it");
            self.write_events(viewer, out);
            out.extend_from_slice(b"]}");
        });
    }

    fn changes_seats(&self) -> bool {
        !self.seating.is_empty()
    }

    fn new_owner(&self) -> Option<&WorkerId> {
        None
    }

    fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }
}

/// Writes JSON, or what it says in another format.
fn in_format(format: Format, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    match format {
        Format::Json => write(out),
        Format::MessagePack => {
            let mut json = Vec::new();
            write(&mut json);
            let value: serde_json::Value =
                serde_json::from_slice(&json).expect("each part was checked when it was read");
            rmp_serde::encode::write_named(out, &value).expect("JSON is MessagePack, too");
        }
    }
}

#[cfg(test)]
mod tests;
