//! One table and its only writer: decide → append → evolve → reply.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use tokio::time::Instant;
use tracing::error;

use super::adoption::append;
use super::agenda::{Agenda, Now};
use super::answer::LATER_MS;
use super::deadman::DeadMan;
use super::desk::{Desk, Waiting, next_request};
use super::presence::{Became, Connection, Presences};
use super::tables::{Place, Worker};
use super::{adoption, finish, handover, sleep, successor};
use crate::bus::{AppendError, MailError, Origin};
use crate::catalog::{Drafted, Referee};
use crate::domain::{FollowUp, Seat, Status, StreamSeq, Timestamp};
use crate::protocol::frame::LobbyEntry;
use crate::protocol::request::Refusal;
use crate::protocol::subject::{self, Address};

/// How long gateways have to tell a new owner who is there.
pub(super) const ROLL_CALL: Duration = Duration::from_secs(3);

/// A table that this worker owns.
pub(super) struct TableActor {
    pub(super) desk: Desk,
    pub(super) referee: Box<dyn Referee>,
    /// What became of players' connections and is still to be written down, in order.
    pub(super) unwritten: VecDeque<Connection>,
    /// From when the table acts by itself again, if the log has refused what it did.
    pub(super) acts_again_at: Option<Instant>,
    /// When a new owner gives up waiting for gateways to say who is there.
    pub(super) roll_call_at: Option<Instant>,
    pub(super) agenda: Agenda,
    pub(super) switch: DeadMan,
    pub(super) listed: Option<LobbyEntry>,
    /// Whether the log took nothing of this table when it was last asked to.
    pub(super) refused: bool,
    /// When something last happened.
    pub(super) busy_at: Instant,
    /// Commits since the state was last saved beside the log.
    pub(super) unsaved: u32,
}

/// An append that is under way, and who waits for it.
pub(super) struct UnderWay {
    pub(super) appended: BoxFuture<'static, Result<StreamSeq, AppendError>>,
    pub(super) draft: Drafted,
    pub(super) asked: Option<Waiting>,
    /// What became of a player's connection, if that is what it writes down.
    pub(super) connection: Option<Connection>,
    /// When it was decided, by both clocks.
    pub(super) began: Now,
}

/// Whether, and how, the actor goes on.
pub(super) enum Next {
    Continue,
    /// The table is not this worker's any more: what those who still wait are told.
    Leave(Refusal),
    /// Nobody knows what the log holds: the same, and since when the table stands still.
    Lost(Refusal, Timestamp),
    /// The worker stops.
    HandOver,
    Sleep,
}

fn unreachable(error: &MailError) -> Refusal {
    Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS)
}

impl TableActor {
    /// Starts the owner of a table whose first commit by this worker is at `at`, and still a draft for the
    /// referee. When this returns, commands reach it.
    pub(super) async fn start(
        worker: &Worker,
        (place, address): (Place, Address),
        (mut referee, at): (Box<dyn Referee>, StreamSeq),
        first: Drafted,
        switch: DeadMan,
        roll_call_at: Option<Instant>,
    ) -> Result<(), Refusal> {
        let desk = Self::desk(worker, (place, address), at).await?;
        referee.confirm();
        let mut actor = Self::awake(desk, referee, Agenda::default(), switch, None, Vec::new());
        // How many commits there are beside the log nobody has told.
        actor.unsaved = 1;
        actor.roll_call_at = roll_call_at;
        actor.relist();
        let follow_up = first.follow_up;
        worker.spawn(actor.run(follow_up));
        Ok(())
    }

    /// Starts whoever does what must follow the end of a table, and answers what still comes for it. Nothing is
    /// appended to such a table, so it needs no claim, and two who do this do no harm.
    pub(super) async fn start_ended(
        worker: &Worker,
        (place, address): (Place, Address),
        (referee, last): (Box<dyn Referee>, StreamSeq),
    ) -> Result<(), Refusal> {
        let desk = Self::desk(worker, (place, address), last).await?;
        let (agenda, switch) = (Agenda::default(), DeadMan::default());
        let mut actor = Self::awake(desk, referee, agenda, switch, None, Vec::new());
        actor.relist();
        let follow_up = actor.referee.owed();
        worker.spawn(actor.run(follow_up));
        Ok(())
    }

    async fn desk(
        worker: &Worker,
        (place, address): (Place, Address),
        last: StreamSeq,
    ) -> Result<Desk, Refusal> {
        let commands = worker.bus.mail.serve(subject::cmd(address.table), None).await;
        let commands = commands.map_err(|error| unreachable(&error))?;
        Ok(Desk {
            worker: worker.clone(),
            address,
            last,
            commands,
            waiting: VecDeque::new(),
            presences: Presences::default(),
            losses: worker.peers.losses(),
            room: worker.room(),
            place,
        })
    }

    pub(super) fn awake(
        desk: Desk,
        referee: Box<dyn Referee>,
        agenda: Agenda,
        switch: DeadMan,
        listed: Option<LobbyEntry>,
        lost: Vec<Connection>,
    ) -> Self {
        let mut actor = Self {
            desk,
            referee,
            unwritten: lost.into(),
            acts_again_at: None,
            roll_call_at: None,
            agenda,
            switch,
            listed,
            refused: false,
            busy_at: Instant::now(),
            unsaved: 0,
        };
        actor.schedule_bot(|_| true);
        actor
    }

    /// There are as many of these futures as tables, so what is rare, and large, is on the heap.
    pub(super) fn run(mut self, follow_up: Vec<FollowUp>) -> BoxFuture<'static, ()> {
        // Boxed, since a table that has slept comes here again.
        async move {
            Box::pin(self.follow_up(&follow_up)).await;
            while self.referee.status() != Status::Ended {
                match self.step().await {
                    Next::Continue => {}
                    // Nobody else knows who lists it now, so the line stays; the next owner rewrites it.
                    Next::Leave(refusal) => return Box::pin(self.desk.leave(&refusal)).await,
                    Next::Lost(refusal, since) => {
                        let (worker, address) =
                            (self.desk.worker.clone(), self.desk.address.clone());
                        Box::pin(self.desk.leave(&refusal)).await;
                        return adoption::take_again(worker, address, since).await;
                    }
                    Next::HandOver => return Box::pin(handover::hand_over(self)).await,
                    Next::Sleep => return Box::pin(sleep::fall_asleep(self)).await,
                }
            }
            Box::pin(self.linger()).await;
        }
        .boxed()
    }

    /// Waits for whatever comes first, and carries it out up to the answer. Its inputs: the owner's stop, news
    /// of players' connections, the loss of gateways, commands, want of memory, and time (deadlines, bots, the
    /// dead man's switch, sleep).
    async fn step(&mut self) -> Next {
        let now = self.desk.worker.now();
        self.call_the_roll(now);
        self.move_switch(now.clock);
        if self.is_idle(now.timer) {
            return Next::Sleep;
        }
        // Before any command: however many there are, they do not hold a deadline up.
        if let Some(draft) = self.overdue(now) {
            return Box::pin(self.commit(draft)).await;
        }
        let wake = self.next_wake(now);
        let desk = &mut self.desk;
        let draft = tokio::select! {
            biased;
            () = desk.worker.stop.cancelled() => return Next::HandOver,
            notice = desk.place.news.next() => {
                let connection = desk.presences.note(notice);
                connection.into_iter().for_each(|connection| self.is_told_of(connection));
                None
            }
            () = desk.losses.changed() => {
                let lost = desk.take_lost();
                self.unwritten.extend(lost);
                None
            }
            request = next_request(&mut desk.waiting, &mut desk.commands) => match request {
                Some(request) => match Box::pin(self.on_request(request)).await {
                    Ok(draft) => draft,
                    Err(refusal) => return Next::Leave(refusal),
                },
                None => return Next::Leave(self.stopping()),
            },
            () = desk.room.changed() => None,
            () = until(wake) => self.on_bot(),
        };
        match draft {
            Some(under_way) => Box::pin(self.commit(under_way)).await,
            None => Next::Continue,
        }
    }

    /// Something to be written down next. While the log refuses it, what a gateway says replaces what it said
    /// before.
    fn is_told_of(&mut self, connection: Connection) {
        let is_outdated = |waiting: &Connection| {
            waiting.player == connection.player && matches!(waiting.became, Became::Said(_))
        };
        self.unwritten.retain(|waiting| !is_outdated(waiting));
        self.unwritten.push_back(connection);
    }

    /// The bot whose time has come acts, if any.
    fn on_bot(&mut self) -> Option<UnderWay> {
        let seat = self.agenda.take_bot(self.desk.worker.now())?;
        match self.referee.decide_for_bot(seat, &self.turn()) {
            Ok(Some(draft)) => return Some(self.begin(draft, None)),
            Ok(None) => {}
            Err(refusal) => {
                let (table, code) = (self.desk.address.table, &refusal.code);
                error!(
                    table.id = %table, seat = seat.0, rejection = %code,
                    "the rules refuse the choice of their own bot at table {table}: it waits"
                );
                counter!("tablecast_worker_bot_refused_total").increment(1);
            }
        }
        // It is asked again after the next commit; others who are awaited go on.
        self.schedule_bot(|awaited| *awaited > seat);
        None
    }

    pub(super) fn turn(&self) -> crate::domain::TurnContext {
        self.desk.worker.turn()
    }

    /// Sends a draft to the log. Until the log has it, nothing has happened.
    pub(super) fn begin(&mut self, draft: Drafted, asked: Option<(Waiting, Origin)>) -> UnderWay {
        let began = self.desk.worker.now();
        self.busy_at = began.timer;
        let (asked, command) = asked.unzip();
        let Desk { worker, address, last, .. } = &self.desk;
        let (worker, address, last) = (worker.clone(), address.clone(), *last);
        let sent = draft.clone();
        let appended = async move { append(&worker, &address, last, &sent, command).await };
        UnderWay { appended: appended.boxed(), draft, asked, connection: None, began }
    }

    /// After the log has the commit: what follows from it.
    pub(super) async fn on_stored(&mut self, draft: &Drafted) {
        counter!("tablecast_worker_commits_total").increment(1);
        self.relist();
        self.schedule_bot(|_| true);
        self.unsaved += 1;
        if self.unsaved >= self.desk.worker.config.snapshot_every.get() {
            self.save_state();
        }
        Box::pin(self.follow_up(&draft.follow_up)).await;
    }

    async fn follow_up(&mut self, duties: &[FollowUp]) {
        for duty in duties {
            match duty {
                FollowUp::OpenSuccessor => {
                    let successor = self.referee.successor();
                    let successor = successor.expect("only an agreed rematch asks for a table");
                    let Desk { worker, address, .. } = &self.desk;
                    let opened = successor::open(worker.clone(), address.table, successor);
                    if !self.answer_until(opened).await {
                        return;
                    }
                }
                FollowUp::Complete => {
                    let Desk { worker, address, last, .. } = &self.desk;
                    let marker = finish::marker(address, &*self.referee, *last)
                        .expect("only the commit that ends a table asks for its marker");
                    let (worker, address) = (worker.clone(), address.clone());
                    self.answer_until(finish::complete(worker, address, marker)).await;
                }
            }
        }
    }

    /// Answers what still comes for a table that has ended, for a while.
    async fn linger(&mut self) {
        let worker = &self.desk.worker;
        let (stop, linger) = (worker.stop.clone(), worker.config.ended_linger);
        let over = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(linger) => {}
            }
        };
        self.answer_until(over).await;
    }

    /// Answers commands for a table that has ended. Its rules refuse everything, so nothing is drafted here.
    async fn answer_until<T>(&mut self, over: impl Future<Output = T>) -> T {
        let mut over = pin!(over);
        loop {
            let desk = &mut self.desk;
            tokio::select! {
                biased;
                done = &mut over => return done,
                Some(request) = next_request(&mut desk.waiting, &mut desk.commands) => {
                    self.on_request(request).await.ok();
                }
            }
        }
    }

    fn relist(&mut self) {
        let line = self.referee.lobby_entry();
        if line != self.listed || line.is_none() {
            self.desk.worker.lobby.set(self.desk.address.table, line.clone());
            self.listed = line;
        }
    }

    /// Schedules the first bot that is awaited among these seats.
    fn schedule_bot(&mut self, among: impl FnMut(&Seat) -> bool) {
        let (shortest, longest) = self.referee.options().bot_delay_ms;
        let millis = |millis| Duration::from_millis(u64::from(millis));
        let entropy = &self.desk.worker.entropy;
        let delay = || entropy.between(millis(shortest), millis(longest));
        let bot = self.referee.bots_to_act().into_iter().find(among);
        self.agenda.schedule_bot(bot, delay, self.desk.worker.now());
    }
}

pub(super) async fn until(at: Option<Instant>) {
    match at {
        // A timer is no finer than a millisecond: what is due is not sent through one.
        Some(at) if at <= Instant::now() => {}
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
