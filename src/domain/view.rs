//! What a viewer may know of a table: everything but account ids, worker names and what the game hides.

use serde::Serialize;

use super::{
    Closing, CreditReason, Game, Lifecycle, Opening, Seat, Seating, StartRule, Status, Summary,
    Table, TableEvent, TableId, Timestamp, Viewer,
};

/// A table as one viewer may see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableView<V> {
    /// Whether it waits for players, is being played, or is over.
    pub status: Status,
    /// The viewer's own seat.
    pub you: Option<Seat>,
    /// Who may start the game and change seats.
    pub host: Option<Seat>,
    /// When play begins.
    pub start: StartRule,
    /// In seat order.
    pub seats: Vec<SeatView>,
    /// When a player's decision is made for them, if the table limits thinking.
    pub decide_by: Option<Timestamp>,
    /// How the game ended, once it has.
    pub result: Option<ResultView>,
    /// While its players may agree on another game.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rematch: Option<RematchView>,
    /// The table at which they go on, if they have agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor: Option<TableId>,
    /// The game's own view.
    pub game: V,
}

/// One seat, as anyone may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeatView {
    /// Which.
    pub seat: Seat,
    /// Who has a right to it.
    pub holder: Holder,
    /// As shown to others; empty for an open seat.
    pub name: String,
    /// Whether the player is here; bots always are.
    pub present: bool,
    /// Whether a bot makes the decisions at this moment.
    pub bot_plays: bool,
}

/// Who has a right to a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// Nobody yet.
    Open,
    /// A player.
    Human,
    /// A bot.
    Bot,
}

/// Who wants another game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RematchView {
    /// When the table ends without one.
    pub until: Timestamp,
    /// Whose players want one, rising. It begins when all do who have not left.
    pub wanted: Vec<Seat>,
}

/// How a table ended, as anyone may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResultView {
    /// Why it ended.
    pub closing: Closing,
    /// Who won, rising.
    pub winners: Vec<Seat>,
    /// Final score by seat; empty unless finished.
    pub scores: Vec<i64>,
    /// When.
    pub ended_at: Timestamp,
}

impl From<&Summary> for ResultView {
    fn from(summary: &Summary) -> Self {
        Self {
            closing: summary.closing,
            winners: summary.winners.clone(),
            scores: summary.scores.clone(),
            ended_at: summary.ended_at,
        }
    }
}

/// What a viewer may know of one event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableEventView<E> {
    /// Common to all games.
    Lifecycle(LifecycleView),
    /// By the rules of the game.
    Game(E),
}

/// A lifecycle event without account ids.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum LifecycleView {
    /// The table was opened.
    #[serde(rename = "table.opened")]
    Opened {
        /// Who sits where at first.
        seats: Vec<SeatView>,
        /// Who may start the game.
        host: Option<Seat>,
    },
    /// A player sat down.
    #[serde(rename = "table.seat_taken")]
    SeatTaken {
        /// Where.
        seat: Seat,
        /// As shown to others.
        name: String,
    },
    /// A seat became empty.
    #[serde(rename = "table.seat_freed")]
    SeatFreed {
        /// Which.
        seat: Seat,
    },
    /// A bot sat down.
    #[serde(rename = "table.bot_seated")]
    BotSeated {
        /// Where.
        seat: Seat,
    },
    /// Play begins.
    #[serde(rename = "table.started")]
    Started,
    /// A player's connection is gone.
    #[serde(rename = "table.player_away")]
    PlayerAway {
        /// Whose.
        seat: Seat,
        /// When the player counts as having left.
        until: Timestamp,
    },
    /// Time is given back to whoever's clock ran.
    #[serde(rename = "table.credited")]
    Credited {
        /// How much, in milliseconds.
        ms: u64,
        /// Why.
        reason: CreditReason,
    },
    /// A player's connection is back.
    #[serde(rename = "table.player_back")]
    PlayerBack {
        /// Whose.
        seat: Seat,
    },
    /// A bot plays for a player who left.
    #[serde(rename = "table.seat_taken_by_bot")]
    SeatTakenByBot {
        /// Which seat.
        seat: Seat,
    },
    /// The player is back and plays again.
    #[serde(rename = "table.seat_returned")]
    SeatReturned {
        /// Which seat.
        seat: Seat,
    },
    /// Another host.
    #[serde(rename = "table.host_changed")]
    HostChanged {
        /// The new host.
        to: Seat,
    },
    /// The game is over, and its players may agree on another one.
    #[serde(rename = "table.rematch_offered")]
    RematchOffered {
        /// When the table ends without one.
        until: Timestamp,
    },
    /// A player wants another game.
    #[serde(rename = "table.rematch_wanted")]
    RematchWanted {
        /// Whose seat.
        seat: Seat,
    },
    /// The players go on at another table.
    #[serde(rename = "table.succeeded")]
    Succeeded {
        /// Which.
        table: TableId,
    },
    /// The table is over.
    #[serde(rename = "table.completed")]
    Completed(ResultView),
}

/// The name under which a bot of this seat is shown.
pub(super) fn bot_name(seat: Seat) -> String {
    format!("Bot {}", seat.0 + 1)
}

impl Seating {
    /// As anyone may see it.
    pub(super) fn view(&self, seat: Seat) -> SeatView {
        let (holder, name) = match self {
            Self::Open => (Holder::Open, String::new()),
            Self::Bot => (Holder::Bot, bot_name(seat)),
            Self::Human { name, .. } => (Holder::Human, name.clone()),
        };
        let bot = holder == Holder::Bot;
        SeatView { seat, holder, name, present: holder != Holder::Open, bot_plays: bot }
    }
}

/// Seats of an opening, numbered.
pub(super) fn opening_seats(opening: &Opening) -> Vec<SeatView> {
    (0u8..).zip(&opening.seats).map(|(number, seating)| seating.view(Seat(number))).collect()
}

impl Lifecycle {
    /// What anyone may know of it: no viewer sees more than another.
    pub fn view(&self) -> Option<LifecycleView> {
        Some(match self {
            // Which process serves a table is the operator's business.
            Self::Claimed { .. } => return None,
            Self::Opened(opening) => {
                LifecycleView::Opened { seats: opening_seats(opening), host: opening.host }
            }
            Self::SeatTaken { seat, name, .. } => {
                LifecycleView::SeatTaken { seat: *seat, name: name.clone() }
            }
            Self::SeatFreed { seat } => LifecycleView::SeatFreed { seat: *seat },
            Self::BotSeated { seat } => LifecycleView::BotSeated { seat: *seat },
            Self::Started => LifecycleView::Started,
            Self::PlayerAway { seat, until, .. } => {
                LifecycleView::PlayerAway { seat: *seat, until: *until }
            }
            Self::Credited { ms, reason } => LifecycleView::Credited { ms: *ms, reason: *reason },
            Self::PlayerBack { seat } => LifecycleView::PlayerBack { seat: *seat },
            Self::SeatTakenByBot { seat } => LifecycleView::SeatTakenByBot { seat: *seat },
            Self::SeatReturned { seat } => LifecycleView::SeatReturned { seat: *seat },
            Self::HostChanged { to } => LifecycleView::HostChanged { to: *to },
            Self::RematchOffered { until } => LifecycleView::RematchOffered { until: *until },
            Self::RematchWanted { seat } => LifecycleView::RematchWanted { seat: *seat },
            Self::Succeeded { table } => LifecycleView::Succeeded { table: *table },
            Self::Completed(summary) => LifecycleView::Completed(summary.into()),
        })
    }
}

impl<E> TableEvent<E> {
    /// What this viewer may know of it.
    pub fn view<G: Game<Event = E>>(&self, viewer: Viewer) -> Option<TableEventView<G::EventView>> {
        match self {
            Self::Lifecycle(event) => event.view().map(TableEventView::Lifecycle),
            Self::Game(event) => G::view_event(event, viewer).map(TableEventView::Game),
        }
    }
}

impl<G: Game> Table<G> {
    /// The only way a table's state leaves the server.
    pub fn view(&self, viewer: Viewer) -> TableView<G::View> {
        TableView {
            status: self.status(),
            you: viewer.seat(),
            host: self.host(),
            start: self.options().start,
            seats: self.seat_views(),
            decide_by: self.decide_by(),
            result: self.result(),
            rematch: self.rematch().map(RematchView::from),
            successor: self.successor_id(),
            game: self.game().view(viewer),
        }
    }
}
