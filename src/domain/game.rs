//! The rules of one game, as a Decider with views.

use std::error::Error;
use std::fmt::Debug;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Seat, Timestamp, Viewer};

/// The rules of one game. The implementing type is the full, secret state.
///
/// Property tests that hold for every game: `decide` is a function of its arguments; events it returns
/// always `evolve` without panic; two states that differ only in what a viewer may not know have equal
/// views; once `outcome` is `Some`, every command is rejected.
///
/// The serde bounds stand here, not where the bytes are, so that a game that cannot travel fails to
/// compile at its own `impl` instead of far away. The state itself travels as a worker's snapshot: from
/// worker to worker, never to a viewer.
pub trait Game:
    Clone + Debug + Send + Sync + Sized + Serialize + DeserializeOwned + 'static
{
    /// The name of the rules, as it stands in subjects, URLs and the archive.
    const KIND: &'static str;
    /// Raised with each change after which an old log would give another state.
    const RULES_VERSION: u32;
    /// Raised when the state serialises differently. Snapshots of another version are ignored, and the
    /// table is folded from its commits.
    const STATE_VERSION: u32 = 1;
    /// Whether [`Game::bot`] ever answers.
    const HAS_BOTS: bool = false;
    /// How long a player's connection may be gone in a running game before a bot plays on, in milliseconds.
    const GRACE_MS: u32 = 10_000;

    /// What whoever opens the table may choose. The default is what an empty request gets.
    type Setup: Clone + Debug + Default + Serialize + DeserializeOwned + Send + Sync;
    /// A wish of the player in a seat. On the wire an object with a `type` that does not begin with `table.`.
    type Command: Clone + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// A fact. On the wire an object with a `type` that does not begin with `table.`.
    ///
    /// Old commits must replay for ever: a new field is optional, or the event gets a new name.
    type Event: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync;
    /// What one viewer may know of the state.
    type View: Clone + Debug + PartialEq + Serialize + Send + Sync;
    /// What one viewer may know of an event.
    type EventView: Clone + Debug + PartialEq + Serialize + Send + Sync;
    /// Why a command was refused; its text is shown to the player, so it names the rule and nothing hidden.
    type Rejection: Rejection;

    /// Whether a setup can be played, and by how many.
    ///
    /// # Errors
    /// A sentence for whoever opens the table.
    fn seats(setup: &Self::Setup) -> Result<u8, String>;

    /// The setup of a table that nobody chose one for, its display pauses scaled: 1 as the rules have them, 0 none.
    fn paced(_pace: f64) -> Self::Setup {
        Self::Setup::default()
    }

    /// The state before the first event.
    fn new(setup: Self::Setup) -> Self;

    /// The events with which play begins, once the seats are filled.
    fn start(&self, cx: &TurnContext) -> Vec<Self::Event>;

    /// Judges a command. Changes nothing.
    ///
    /// An empty list means "accepted, nothing changes".
    ///
    /// # Errors
    /// The rule that forbids the command.
    fn decide(&self, by: Seat, command: Self::Command, cx: &TurnContext) -> Decision<Self>;

    /// Applies one event. Cannot fail: the event has already happened.
    fn evolve(&mut self, event: &Self::Event);

    /// The only way state leaves the server.
    fn view(&self, viewer: Viewer) -> Self::View;

    /// The only way an event leaves the server. `None` hides the event, not its sequence number.
    fn view_event(event: &Self::Event, viewer: Viewer) -> Option<Self::EventView>;

    /// `Some` once every further command would be rejected.
    fn outcome(&self) -> Option<Outcome>;

    /// The seats that owe a decision at this moment, rising.
    fn awaiting(&self) -> Vec<Seat>;

    /// When [`Game::on_deadline`] is to be asked next, if ever.
    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// What the passing of [`Game::deadline`] brings about. Called with `cx.now` at or after it.
    fn on_deadline(&self, _cx: &TurnContext) -> Vec<Self::Event> {
        Vec::new()
    }

    /// Time during which nobody could act is given back: deadlines that run out on a player move later by
    /// so many milliseconds. Cannot fail: the log says so.
    fn credit(&mut self, _millis: u64) {}

    /// What follows at once from a player's leaving a running game; a bot plays on in the seat.
    fn on_player_left(&self, _seat: Seat, _cx: &TurnContext) -> Vec<Self::Event> {
        Vec::new()
    }

    /// What a bot would do in a seat that owes a decision. It gets what that seat may see, and no more.
    fn bot(_view: &Self::View, _seat: Seat, _dice: &mut Dice) -> Option<Self::Command> {
        None
    }
}

/// What `decide` answers.
pub type Decision<G> = Result<Vec<<G as Game>::Event>, <G as Game>::Rejection>;

/// A command that the rules refuse. Normal, and its sender's business only.
pub trait Rejection: Error + Send + Sync + 'static {
    /// A stable name for programs, in snake case, as in `not_your_turn`.
    fn code(&self) -> &'static str;
}

/// Where chance comes from: a stream cipher, so that what has been dealt says nothing of what will be.
pub type Dice = ChaCha20Rng;

/// The only outside facts a rule may use. The worker fills it in, so a replay needs neither clock nor dice.
#[derive(Clone, Copy, Debug)]
pub struct TurnContext {
    /// The worker's clock.
    pub now: Timestamp,
    /// Fresh from the operating system for each decision. What is drawn from it goes into the event.
    pub seed: [u8; 32],
}

impl TurnContext {
    /// The dice of this decision; each call starts them anew.
    pub fn dice(&self) -> Dice {
        ChaCha20Rng::from_seed(self.seed)
    }
}

/// How a game ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who won, rising; several share a win; none is a draw.
    pub winners: Vec<Seat>,
    /// Final score by seat, in the game's own unit.
    pub scores: Vec<i64>,
}
