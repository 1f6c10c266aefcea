//! A worker's side of a table: decisions are drafted here, appended elsewhere, and confirmed here.

use std::fmt::Debug;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FoldError, decode, encode, follow};
use crate::domain::{
    CommandId, Commit, CreditReason, Decided, FollowUp, Game, Identity, Kind, Opening, PlayerId,
    PresenceChange, Refused, Rejection, Seat, Status, Summary, TABLE_STATE_VERSION, Table,
    TableCommand, TableEvent, TableId, TableOptions, TableSeq, Timestamp, TurnContext, WorkerId,
};
use crate::protocol::envelope::SavedState;
use crate::protocol::frame::{LobbyEntry, LobbySeat, LobbyStatus};
use crate::protocol::request::Refusal;

/// One table in a worker's memory.
///
/// A drafted commit changes nothing until [`Referee::confirm`] says that the log has it; a table has at
/// most one draft at a time.
pub trait Referee: Debug + Send + Sync {
    /// Drafts the answer to a player's command; nothing if it is accepted and changes nothing.
    ///
    /// # Errors
    /// The rule that forbids it.
    fn decide(
        &mut self,
        by: &Identity,
        id: CommandId,
        command: serde_json::Value,
        cx: &TurnContext,
    ) -> Result<Option<Drafted>, Refusal>;

    /// Drafts the choice of the bot in a seat.
    ///
    /// # Errors
    /// If the rules refuse the bot's choice: a fault of the game's author.
    fn decide_for_bot(&mut self, seat: Seat, cx: &TurnContext) -> Result<Option<Drafted>, Refusal>;

    /// Drafts what has become due.
    fn on_time(&mut self, cx: &TurnContext) -> Option<Drafted>;

    /// Drafts what a connection's coming or going brings about.
    fn on_presence(
        &mut self,
        player: &PlayerId,
        change: PresenceChange,
        cx: &TurnContext,
    ) -> Option<Drafted>;

    /// Drafts what the loss of a player's gateway, last heard at this time, brings about.
    fn on_gateway_lost(
        &mut self,
        player: &PlayerId,
        heard_at: Timestamp,
        cx: &TurnContext,
    ) -> Option<Drafted>;

    /// Drafts the giving back of the time since then; nothing if no clock ran.
    fn give_back(
        &mut self,
        since: Timestamp,
        reason: CreditReason,
        cx: &TurnContext,
    ) -> Option<Drafted>;

    /// Drafts the take-over by a worker from one that was last known to be alive at this time.
    fn claim(
        &mut self,
        worker: WorkerId,
        owned_until: Option<Timestamp>,
        cx: &TurnContext,
    ) -> Drafted;

    /// The drafted commit is in the log.
    fn confirm(&mut self);

    /// Folds in a commit that is in the log.
    ///
    /// # Errors
    /// If it is not this table's next commit.
    fn fold(&mut self, payload: &[u8]) -> Result<(), FoldError>;

    /// The state, to go on from without the commits that made it. See [`super::Rules::restore`].
    fn state(&self) -> SavedState;

    /// The commit that answered this command, if it is one of the recent ones.
    fn verdict_on(&self, player: &PlayerId, id: &CommandId) -> Option<TableSeq>;

    /// The number of the last commit folded in.
    fn last_seq(&self) -> TableSeq;

    /// When the last commit folded in was decided.
    fn last_at(&self) -> Timestamp;

    /// Where the table is in its life.
    fn status(&self) -> Status;

    /// The version of the rules that the opening pinned.
    fn rules(&self) -> u32;

    /// Which game.
    fn kind(&self) -> Kind;

    /// What the table does besides the rules.
    fn options(&self) -> TableOptions;

    /// Where its players go on, if they do, and how that table is opened.
    fn successor(&self) -> Option<(TableId, Opening)>;

    /// What must follow, once it has ended: as the commit that ended it says.
    fn owed(&self) -> Vec<FollowUp>;

    /// How it ended, once it has.
    fn summary(&self) -> Option<&Summary>;

    /// Seats whose bots are to decide.
    fn bots_to_act(&self) -> Vec<Seat>;

    /// Players whose connection counts as there.
    fn players_here(&self) -> Vec<PlayerId>;

    /// Players who owe a decision.
    fn players_awaited(&self) -> Vec<PlayerId>;

    /// When [`Referee::on_time`] is to be asked next, if ever.
    fn next_due(&self) -> Option<Timestamp>;

    /// Its line in the list of tables; nothing once it has ended.
    fn lobby_entry(&self) -> Option<LobbyEntry>;
}

/// A commit that has been decided and not yet appended.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// Its number.
    pub seq: TableSeq,
    /// The envelope.
    pub payload: Bytes,
    /// The event types, for operators.
    pub types: String,
    /// What must follow it.
    pub follow_up: Vec<FollowUp>,
}

#[derive(Debug)]
struct RefereeOf<G: Game> {
    table: TableId,
    state: Table<G>,
    draft: Option<Commit<G::Event>>,
}

pub(super) fn of_state<G: Game>(table: TableId, state: Table<G>) -> Box<dyn Referee> {
    Box::new(RefereeOf { table, state, draft: None })
}

/// A state of [`Referee::state`]; nothing if it was saved by another version, or is damaged.
pub(super) fn restore<G: Game>(saved: &SavedState) -> Option<Table<G>> {
    if (saved.table_version, saved.game_version) != (TABLE_STATE_VERSION, G::STATE_VERSION) {
        return None;
    }
    rmp_serde::from_slice(&saved.bytes).ok()
}

pub(super) fn of_draft<G: Game>(
    table: TableId,
    state: Table<G>,
    first: Commit<G::Event>,
) -> (Box<dyn Referee>, Drafted) {
    let mut referee = RefereeOf { table, state, draft: None };
    let drafted = referee.draft(first);
    (Box::new(referee), drafted)
}

impl<G: Game> RefereeOf<G> {
    fn draft(&mut self, commit: Commit<G::Event>) -> Drafted {
        let types = types_of(&commit.events);
        let follow_up = commit.follow_up.clone();
        let (commit, payload) = encode::<G>(self.table, commit);
        let seq = commit.seq;
        self.draft = Some(commit);
        Drafted { seq, payload, types, follow_up }
    }

    fn draft_decided(&mut self, decided: Decided<G>) -> Result<Option<Drafted>, Refusal> {
        match decided {
            Ok(commit) => Ok(commit.map(|commit| self.draft(commit))),
            Err(refused) => Err(refusal(&refused)),
        }
    }
}

impl<G: Game> Referee for RefereeOf<G> {
    fn decide(
        &mut self,
        by: &Identity,
        id: CommandId,
        command: serde_json::Value,
        cx: &TurnContext,
    ) -> Result<Option<Drafted>, Refusal> {
        let command = command_of::<G>(command)?;
        let decided = self.state.decide(by, id, command, cx);
        self.draft_decided(decided)
    }

    fn decide_for_bot(&mut self, seat: Seat, cx: &TurnContext) -> Result<Option<Drafted>, Refusal> {
        let decided = self.state.decide_for_bot(seat, cx);
        self.draft_decided(decided)
    }

    fn on_time(&mut self, cx: &TurnContext) -> Option<Drafted> {
        let commit = self.state.on_time(cx)?;
        Some(self.draft(commit))
    }

    fn on_presence(
        &mut self,
        player: &PlayerId,
        change: PresenceChange,
        cx: &TurnContext,
    ) -> Option<Drafted> {
        let commit = self.state.on_presence(player, change, cx)?;
        Some(self.draft(commit))
    }

    fn on_gateway_lost(
        &mut self,
        player: &PlayerId,
        heard_at: Timestamp,
        cx: &TurnContext,
    ) -> Option<Drafted> {
        let commit = self.state.on_gateway_lost(player, heard_at, cx)?;
        Some(self.draft(commit))
    }

    fn give_back(
        &mut self,
        since: Timestamp,
        reason: CreditReason,
        cx: &TurnContext,
    ) -> Option<Drafted> {
        let commit = self.state.give_back(since, reason, cx)?;
        Some(self.draft(commit))
    }

    fn claim(
        &mut self,
        worker: WorkerId,
        owned_until: Option<Timestamp>,
        cx: &TurnContext,
    ) -> Drafted {
        let commit = self.state.claim(worker, owned_until, cx);
        self.draft(commit)
    }

    fn confirm(&mut self) {
        let commit = self.draft.take().expect("only a drafted commit is confirmed");
        self.state.evolve(&commit);
    }

    fn fold(&mut self, payload: &[u8]) -> Result<(), FoldError> {
        let commit = decode::<G>(self.table, self.state.last_seq(), payload)?;
        follow(&mut self.state, &commit)?;
        Ok(())
    }

    fn state(&self) -> SavedState {
        let bytes = rmp_serde::to_vec_named(&self.state);
        SavedState {
            table_version: TABLE_STATE_VERSION,
            game_version: G::STATE_VERSION,
            bytes: bytes.expect("a game's state has no shape that MessagePack lacks"),
        }
    }

    fn verdict_on(&self, player: &PlayerId, id: &CommandId) -> Option<TableSeq> {
        self.state.verdict_on(player, id)
    }

    fn last_seq(&self) -> TableSeq {
        self.state.last_seq()
    }

    fn last_at(&self) -> Timestamp {
        self.state.last_at()
    }

    fn status(&self) -> Status {
        self.state.status()
    }

    fn rules(&self) -> u32 {
        self.state.rules()
    }

    fn kind(&self) -> Kind {
        Table::<G>::kind()
    }

    fn options(&self) -> TableOptions {
        *self.state.options()
    }

    fn successor(&self) -> Option<(TableId, Opening)> {
        self.state.successor()
    }

    fn owed(&self) -> Vec<FollowUp> {
        self.state.owed()
    }

    fn summary(&self) -> Option<&Summary> {
        self.state.summary()
    }

    fn bots_to_act(&self) -> Vec<Seat> {
        self.state.bots_to_act()
    }

    fn players_here(&self) -> Vec<PlayerId> {
        self.state.players_here()
    }

    fn players_awaited(&self) -> Vec<PlayerId> {
        self.state.players_awaited()
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.state.next_due()
    }

    fn lobby_entry(&self) -> Option<LobbyEntry> {
        let status = LobbyStatus::of(self.state.status())?;
        let seats = self.state.seat_views().into_iter().map(|seat| LobbySeat {
            bot: seat.holder == crate::domain::Holder::Bot,
            name: seat.name,
        });
        Some(LobbyEntry { table: self.table, kind: self.kind(), status, seats: seats.collect() })
    }
}

/// Picks by the `type`'s prefix, so that the answer to a mistake names the mistake.
fn command_of<G: Game>(command: serde_json::Value) -> Result<TableCommand<G::Command>, Refusal> {
    let tag = command.get("type").and_then(serde_json::Value::as_str);
    if tag.is_none() {
        return Err(Refusal::new("unknown_command", "a command is an object with a `type`"));
    }
    let decoded = if tag.is_some_and(|tag| tag.starts_with("table.")) {
        serde_json::from_value(command).map(TableCommand::Table)
    } else {
        serde_json::from_value(command).map(TableCommand::Game)
    };
    decoded.map_err(|error| {
        Refusal::new("unknown_command", format!("not a command of {}: {error}", G::KIND))
    })
}

fn refusal<R: Rejection>(refused: &Refused<R>) -> Refusal {
    Refusal::new(refused.code(), refused.to_string())
}

/// The types of these events, joined, for people who watch the bus.
fn types_of<E: Serialize>(events: &[TableEvent<E>]) -> String {
    #[derive(Deserialize)]
    struct Tag {
        r#type: String,
    }
    let tags = events.iter().map(|event| {
        let bytes = rmp_serde::to_vec_named(event).expect("events are plain data");
        rmp_serde::from_slice::<Tag>(&bytes).map_or_else(|_| "?".to_owned(), |tag| tag.r#type)
    });
    tags.collect::<Vec<_>>().join(",")
}
