//! The games a binary knows, their types forgotten: what lets one worker and one gateway serve them all.

mod referee;
mod relay;
mod replica;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

pub use referee::{Drafted, Referee};
pub use relay::{BYTES_KEPT, COMMITS_KEPT};
pub use replica::{FannedOut, Replica};

use crate::domain::{
    Cause, Commit, Game, Kind, Lifecycle, Opening, OpeningError, Table, TableEvent, TableId,
    TableRule, TableSeq, Timestamp, TurnContext,
};
use crate::protocol::envelope::{DecodeError, Envelope, Message, SavedState, VERSION};
use crate::protocol::request::Refusal;

/// The games a binary knows.
#[derive(Clone, Default)]
pub struct Catalog {
    games: BTreeMap<Kind, Arc<dyn Rules>>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.games.keys()).finish()
    }
}

impl Catalog {
    /// No game yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// This game too.
    ///
    /// # Panics
    /// If its kind is no subject token: a mistake in the program, seen at its first start.
    #[must_use]
    pub fn with<G: Game>(mut self) -> Self {
        let kind: Kind = G::KIND.parse().expect("a game's KIND is one subject token");
        self.games.insert(kind.clone(), Arc::new(RulesOf::<G> { kind, game: PhantomData }));
        self
    }

    /// Tables of this kind too, which are not played here: a server that is not ours publishes their commits.
    ///
    /// # Errors
    /// If a game of this name is played here.
    pub fn with_relay(mut self, kind: Kind) -> Result<Self, KindTaken> {
        if self.games.get(&kind).is_some_and(|rules| !rules.is_relayed()) {
            return Err(KindTaken { kind });
        }
        self.games.insert(kind.clone(), Arc::new(relay::RelayRules::new(kind)));
        Ok(self)
    }

    /// The game of this name.
    pub fn get(&self, kind: &Kind) -> Option<&Arc<dyn Rules>> {
        self.games.get(kind)
    }

    /// All games, by name.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<dyn Rules>> {
        self.games.values()
    }

    /// All names, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.games.keys()
    }
}

/// A kind cannot be both relayed and played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} cannot be relayed: this binary plays it itself")]
pub struct KindTaken {
    /// Which.
    pub kind: Kind,
}

/// One game.
pub trait Rules: Send + Sync {
    /// Its name.
    fn kind(&self) -> &Kind;

    /// The version of its rules in this binary.
    fn rules_version(&self) -> u32;

    /// Whether it has bots.
    fn has_bots(&self) -> bool;

    /// Whether it is not played here, but relayed: no worker owns its tables, and none takes commands for them.
    fn is_relayed(&self) -> bool {
        false
    }

    /// By how many this setup is played.
    ///
    /// # Errors
    /// What in the setup cannot be played.
    fn seats(&self, setup: &serde_json::Value) -> Result<u8, Refusal>;

    /// A setup whose display pauses are scaled: 1 as the rules have them, 0 none.
    fn paced_setup(&self, pace: f64) -> serde_json::Value;

    /// A new table and its first commit, not yet appended.
    ///
    /// # Errors
    /// What in the opening cannot be played.
    fn open(
        &self,
        table: TableId,
        opening: Opening,
        cause: Cause,
        cx: &TurnContext,
    ) -> Result<(Box<dyn Referee>, Drafted), Refusal>;

    /// A worker's side of a table, from the payload of its first commit.
    ///
    /// # Errors
    /// If that is no first commit of this game.
    fn referee(&self, table: TableId, first: &[u8]) -> Result<Box<dyn Referee>, FoldError>;

    /// A worker's side of a table, from a state that [`Referee::state`] has saved; nothing if it was saved by
    /// another version: then the table is folded from its commits.
    fn restore(&self, table: TableId, saved: &SavedState) -> Option<Box<dyn Referee>>;

    /// A gateway's side of a table, from a state that [`Referee::state`] has saved; nothing if it was saved by
    /// another version, or if nobody saves such tables.
    fn restore_replica(&self, table: TableId, saved: &SavedState) -> Option<Box<dyn Replica>>;

    /// A gateway's side of a table, from the payload of its first commit, which is in the log since `stored_at`,
    /// and that commit for fanning out.
    ///
    /// # Errors
    /// If that is no first commit of this game.
    fn replica(
        &self,
        table: TableId,
        first: &[u8],
        stored_at: Timestamp,
    ) -> Result<FirstFold, FoldError>;
}

/// A gateway's side of a table that has just begun, and its first commit for fanning out.
pub type FirstFold = (Box<dyn Replica>, Arc<dyn FannedOut>);

/// Why a stored message is no commit of a table. It never will be: such a message is skipped and set aside.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It decodes, but does not follow the commit before it.
    #[error("commit {found} where {expected} was due")]
    OutOfOrder {
        /// The number it has.
        found: u64,
        /// The number it should have.
        expected: u64,
    },
    /// No commit of a relayed table, or not the next one: why.
    #[error("{0}")]
    Relayed(String),
    /// The first commit opens no table.
    #[error("the first commit does not open the table")]
    NotOpened,
    /// The first commit opens what this game cannot play.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The game's rules panicked on it, as they may on a log that two owners wrote, or that another version
    /// of them wrote. Nothing after it folds either.
    #[error("the rules of {kind} cannot follow commit {seq}")]
    Rules {
        /// Which game.
        kind: Kind,
        /// The number of the commit.
        seq: u64,
    },
}

/// `G` without its type.
struct RulesOf<G> {
    kind: Kind,
    game: PhantomData<fn() -> G>,
}

impl<G: Game> Rules for RulesOf<G> {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn rules_version(&self) -> u32 {
        G::RULES_VERSION
    }

    fn has_bots(&self) -> bool {
        G::HAS_BOTS
    }

    fn seats(&self, setup: &serde_json::Value) -> Result<u8, Refusal> {
        let setup = serde_json::from_value(setup.clone())
            .map_err(|error| refusal(&TableRule::BadOpening(format!("setup: {error}"))))?;
        G::seats(&setup).map_err(|reason| refusal(&TableRule::BadOpening(reason)))
    }

    fn paced_setup(&self, pace: f64) -> serde_json::Value {
        serde_json::to_value(G::paced(pace)).expect("setups are plain data")
    }

    fn open(
        &self,
        table: TableId,
        opening: Opening,
        cause: Cause,
        cx: &TurnContext,
    ) -> Result<(Box<dyn Referee>, Drafted), Refusal> {
        let commit = Table::<G>::open(opening.clone(), cause, cx).map_err(|rule| refusal(&rule))?;
        let state = Table::<G>::new(&opening).expect("Table::open has checked the opening");
        Ok(referee::of_draft(table, state, commit))
    }

    fn referee(&self, table: TableId, first: &[u8]) -> Result<Box<dyn Referee>, FoldError> {
        let (state, _) = first_commit::<G>(table, first)?;
        Ok(referee::of_state(table, state))
    }

    fn restore(&self, table: TableId, saved: &SavedState) -> Option<Box<dyn Referee>> {
        referee::restore::<G>(saved).map(|state| referee::of_state(table, state))
    }

    fn restore_replica(&self, table: TableId, saved: &SavedState) -> Option<Box<dyn Replica>> {
        referee::restore::<G>(saved).map(|state| replica::of_saved(table, state))
    }

    fn replica(&self, table: TableId, first: &[u8], _: Timestamp) -> Result<FirstFold, FoldError> {
        let (state, commit) = first_commit::<G>(table, first)?;
        Ok(replica::of_state(table, state, commit))
    }
}

fn refusal(rule: &TableRule) -> Refusal {
    Refusal::new(rule.code(), rule.to_string())
}

fn first_commit<G: Game>(
    table: TableId,
    payload: &[u8],
) -> Result<(Table<G>, Commit<G::Event>), FoldError> {
    let commit = decode::<G>(table, TableSeq::ZERO, payload)?;
    let Some(TableEvent::Lifecycle(Lifecycle::Opened(opening))) = commit.events.first() else {
        return Err(FoldError::NotOpened);
    };
    let mut state = Table::new(opening)?;
    follow(&mut state, &commit)?;
    Ok((state, commit))
}

/// Evolves a table by what some process has logged. A game that panics on it costs its own table, not the
/// process that looks after thousands: the state keeps its last number, so that whatever comes next does not
/// follow it.
fn follow<G: Game>(state: &mut Table<G>, commit: &Commit<G::Event>) -> Result<(), FoldError> {
    catch_unwind(AssertUnwindSafe(|| state.evolve(commit)))
        .map_err(|_panic| FoldError::Rules { kind: Table::<G>::kind(), seq: commit.seq.get() })
}

/// The commit in `payload`, if it is the one after `last`.
fn decode<G: Game>(
    table: TableId,
    last: TableSeq,
    payload: &[u8],
) -> Result<Commit<G::Event>, FoldError> {
    let Envelope { commit, .. } = Envelope::<G::Event>::decode(payload, table)?;
    if commit.seq != last.next() {
        let (found, expected) = (commit.seq.get(), last.next().get());
        return Err(FoldError::OutOfOrder { found, expected });
    }
    Ok(commit)
}

fn encode<G: Game>(table: TableId, commit: Commit<G::Event>) -> (Commit<G::Event>, Bytes) {
    let envelope = Envelope { v: VERSION, table, kind: Table::<G>::kind(), commit };
    let payload = envelope.encode();
    (envelope.commit, payload)
}
