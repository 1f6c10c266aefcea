//! Judging what players, bots and other workers ask. Nothing here changes the table.

use serde::{Deserialize, Serialize};

use super::super::{
    Cause, Closing, CommandId, Commit, Game, Kind, Lifecycle, Opening, Outcome, PlayerId, Seat,
    Seating, StartRule, Timestamp, TurnContext, Viewer, WorkerId,
};
use super::command::SeatCommand;
use super::draft::Draft;
use super::seats::{Presence, SeatState};
use super::{Refused, Status, Table, TableCommand, TableRule};

/// A player as its token names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The account.
    pub player: PlayerId,
    /// As shown to others.
    pub name: String,
}

/// What a decision comes to: the commit to append, or nothing if nothing changes.
pub type Decided<G> = Result<Option<Commit<<G as Game>::Event>>, Refused<<G as Game>::Rejection>>;

impl<G: Game> Table<G> {
    /// The first commit of a table.
    ///
    /// # Errors
    /// What in the opening cannot be played.
    pub fn open(
        opening: Opening,
        cause: Cause,
        cx: &TurnContext,
    ) -> Result<Commit<G::Event>, TableRule> {
        let bad = |reason: String| TableRule::BadOpening(reason);
        if !opening.setup.is_object() {
            return Err(bad("setup is an object".to_owned()));
        }
        let setup: G::Setup = serde_json::from_value(opening.setup.clone())
            .map_err(|error| bad(format!("setup: {error}")))?;
        let seats = G::seats(&setup).map_err(bad)?;
        if opening.seats.len() != usize::from(seats) {
            return Err(bad(format!("{} is played by {seats}", G::KIND)));
        }
        if !G::HAS_BOTS
            && (opening.seats.contains(&Seating::Bot) || opening.options.turn_limit_ms.is_some())
        {
            return Err(TableRule::NoBots);
        }
        if opening.options.bot_delay_ms.0 > opening.options.bot_delay_ms.1 {
            return Err(bad("bot_delay_ms: the first is the smaller one".to_owned()));
        }
        let table = Self::new(&opening).map_err(|error| bad(error.to_string()))?;
        let mut draft = Draft::of(&table, cx);
        draft.lifecycle(Lifecycle::Opened(opening));
        draft.start_if_due();
        Ok(draft.commit(cause).expect("an opening is an event"))
    }

    /// The rules' own name, as a subject token.
    pub fn kind() -> Kind {
        G::KIND.parse().expect("Games::with has checked the kind")
    }

    /// Judges a player's command.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(
        &self,
        by: &Identity,
        id: CommandId,
        command: TableCommand<G::Command>,
        cx: &TurnContext,
    ) -> Decided<G> {
        if self.status == Status::Ended {
            let is_rematch = matches!(command, TableCommand::Table(SeatCommand::Rematch));
            let rule = if is_rematch { TableRule::NoRematch } else { TableRule::GameOver };
            return Err(rule.into());
        }
        let mut draft = Draft::of(self, cx);
        match command {
            TableCommand::Table(command) => draft.seat_command(by, command)?,
            TableCommand::Game(command) => draft.game_command(by, command)?,
        }
        Ok(draft.commit(Cause::Command { player: by.player.clone(), id }))
    }

    /// The choice of the bot in a seat that is awaited. It is judged like anybody's command.
    pub fn decide_for_bot(&self, seat: Seat, cx: &TurnContext) -> Decided<G> {
        let mut draft = Draft::of(self, cx);
        draft.bot_choice(seat)?;
        Ok(draft.commit(Cause::Bot { seat }))
    }

    /// The commit by which a worker takes the table over. `owned_until` is when its owner before was last
    /// known to be alive; without it, its last commit is.
    pub fn claim(
        &self,
        worker: WorkerId,
        owned_until: Option<Timestamp>,
        cx: &TurnContext,
    ) -> Commit<G::Event> {
        let mut draft = Draft::of(self, cx);
        draft.lifecycle(Lifecycle::Claimed { worker });
        draft.credit_claim(owned_until);
        draft.commit(Cause::Claim).expect("a claim is an event")
    }
}

impl<G: Game> Draft<'_, G> {
    /// Makes the bot's choice in a seat; nothing if it has none to make.
    pub(super) fn bot_choice(&mut self, seat: Seat) -> Result<(), Refused<G::Rejection>> {
        let view = self.table.game.view(Viewer::Seated(seat));
        // The dice of the decision itself are another stream: a bot that knew them would know the next deal.
        let mut dice = self.cx.dice();
        dice.set_stream(1);
        if let Some(command) = G::bot(&view, seat, &mut dice) {
            let events = self.table.game.decide(seat, command, self.cx).map_err(Refused::Game)?;
            self.game(events);
        }
        Ok(())
    }

    fn game_command(
        &mut self,
        by: &Identity,
        command: G::Command,
    ) -> Result<(), Refused<G::Rejection>> {
        let seat = self.table.seat_of(&by.player).ok_or(TableRule::NotSeated)?;
        if self.table.status == Status::Waiting {
            return Err(TableRule::NotStarted.into());
        }
        if self.table.rematch.is_some() {
            return Err(TableRule::GameOver.into());
        }
        self.return_to(seat);
        // A clock that stands has not run out, whatever the game would think of its deadline.
        self.credit_standing();
        let events = self.table.game.decide(seat, command, self.cx).map_err(Refused::Game)?;
        if events.is_empty() && !self.is_empty() {
            return Ok(());
        }
        self.game(events);
        Ok(())
    }

    fn seat_command(&mut self, by: &Identity, command: SeatCommand) -> Result<(), TableRule> {
        match command {
            SeatCommand::Sit { seat } => self.sit(by, seat),
            SeatCommand::Leave => self.leave(by),
            SeatCommand::Rematch => self.rematch(by),
            SeatCommand::AddBot { seat } => {
                self.host_only(by, seat)?;
                if !G::HAS_BOTS {
                    return Err(TableRule::NoBots);
                }
                if self.table.seats[seat.index()].is_human() {
                    return Err(TableRule::SeatTaken(seat));
                }
                self.lifecycle(Lifecycle::BotSeated { seat });
                self.start_if_due();
                Ok(())
            }
            SeatCommand::RemovePlayer { seat } => {
                self.host_only(by, seat)?;
                if self.table.host == Some(seat) {
                    return Err(TableRule::OwnSeat);
                }
                self.lifecycle(Lifecycle::SeatFreed { seat });
                Ok(())
            }
            SeatCommand::Start => {
                self.host_only(by, Seat(0))?;
                let (filled, seats) = self.table.filled();
                if filled < seats {
                    return Err(TableRule::SeatsOpen);
                }
                self.start();
                Ok(())
            }
        }
    }

    /// The host's commands come before the start and name a seat that exists.
    fn host_only(&self, by: &Identity, seat: Seat) -> Result<(), TableRule> {
        let own = self.table.seat_of(&by.player);
        if own.is_none() || own != self.table.host {
            return Err(TableRule::NotHost);
        }
        if self.table.status != Status::Waiting {
            return Err(TableRule::AlreadyStarted);
        }
        if seat.index() >= self.table.seats.len() {
            return Err(TableRule::NoSuchSeat(seat));
        }
        Ok(())
    }

    fn sit(&mut self, by: &Identity, wanted: Option<Seat>) -> Result<(), TableRule> {
        if let Some(own) = self.table.seat_of(&by.player) {
            if wanted.is_some_and(|seat| seat != own) {
                return Err(TableRule::AlreadySeated(own));
            }
            self.return_to(own);
            return Ok(());
        }
        if self.table.status != Status::Waiting {
            return Err(TableRule::AlreadyStarted);
        }
        let is_open = |state: &SeatState| state.seating == Seating::Open;
        let is_bot = |state: &SeatState| state.seating == Seating::Bot;
        let seat = match wanted {
            Some(seat) => {
                let state =
                    self.table.seats.get(seat.index()).ok_or(TableRule::NoSuchSeat(seat))?;
                if state.is_human() {
                    return Err(TableRule::SeatTaken(seat));
                }
                seat
            }
            None => self
                .table
                .first_seat(is_open)
                .or_else(|| self.table.first_seat(is_bot))
                .ok_or(TableRule::NoFreeSeat)?,
        };
        let (player, name) = (by.player.clone(), by.name.clone());
        self.lifecycle(Lifecycle::SeatTaken { seat, player, name });
        self.start_if_due();
        Ok(())
    }

    fn leave(&mut self, by: &Identity) -> Result<(), TableRule> {
        let seat = self.table.seat_of(&by.player).ok_or(TableRule::NotSeated)?;
        self.give_up(seat);
        Ok(())
    }

    /// What leaving means: before the start the seat is free and a host's table closes; after it a bot plays on.
    pub(super) fn give_up(&mut self, seat: Seat) {
        match self.table.status {
            Status::Waiting if self.table.host == Some(seat) => {
                self.end(Closing::Closed, Outcome { winners: Vec::new(), scores: Vec::new() });
            }
            Status::Waiting => self.lifecycle(Lifecycle::SeatFreed { seat }),
            Status::Running if self.table.seats[seat.index()].presence != Presence::Left => {
                self.seat_taken_by_bot(seat);
            }
            Status::Running | Status::Ended => {}
        }
    }

    /// The player of this seat is here and decides again.
    pub(super) fn return_to(&mut self, seat: Seat) {
        self.credit_return(seat);
        match self.table.seats[seat.index()].presence {
            Presence::Here => {}
            Presence::Away { .. } => self.lifecycle(Lifecycle::PlayerBack { seat }),
            Presence::Left => self.lifecycle(Lifecycle::SeatReturned { seat }),
        }
    }

    fn start_if_due(&mut self) {
        let (filled, seats) = self.table.filled();
        if self.table.options.start == StartRule::WhenFull && filled == seats {
            self.start();
        }
    }
}
