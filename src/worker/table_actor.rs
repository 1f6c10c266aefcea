//! One table and its only writer: decide → append → evolve → reply.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;

use super::adoption::append;
use super::agenda::Agenda;
use super::answer::{LATER_MS, answer, busy};
use super::finish;
use super::presence::Presences;
use super::tables::{Place, Worker};
use crate::bus::{AppendError, MailError, Reply, Request};
use crate::catalog::{Drafted, Referee};
use crate::domain::{
    CommandId, FollowUp, PlayerId, PresenceChange, Seat, Status, StreamSeq, TableSeq,
};
use crate::protocol::frame::LobbyEntry;
use crate::protocol::request::{PresenceNotice, Refusal, decode};
use crate::protocol::subject::{self, Address};

/// How long gateways have to tell a new owner who is there.
const ROLL_CALL: Duration = Duration::from_secs(5);

/// A table that this worker owns.
pub(super) struct TableActor {
    pub(super) worker: Worker,
    pub(super) address: Address,
    pub(super) referee: Box<dyn Referee>,
    /// The log's position of the last commit: what the next one follows.
    pub(super) last: StreamSeq,
    commands: BoxStream<'static, Request>,
    notices: BoxStream<'static, Bytes>,
    waiting: VecDeque<Request>,
    presences: Presences,
    /// Changes when a gateway is lost.
    losses: watch::Receiver<()>,
    /// Players who went without a notice, each still to be written down.
    went: VecDeque<PlayerId>,
    /// When a new owner gives up waiting for gateways to say who is there.
    roll_call_at: Option<Instant>,
    pub(super) agenda: Agenda,
    listed: Option<LobbyEntry>,
    /// Whether the log took nothing of this table when it was last asked to.
    pub(super) refused: bool,
    _place: Place,
}

/// An append that is under way, and who waits for it.
pub(super) struct UnderWay {
    appended: BoxFuture<'static, Result<StreamSeq, AppendError>>,
    draft: Drafted,
    reply: Option<Reply>,
}

/// A table on its way to this worker.
pub(super) struct Taking {
    place: Place,
    address: Address,
    notices: BoxStream<'static, Bytes>,
}

impl Taking {
    /// Begins to hear of the table's players. To be called before the table is claimed: gateways that see
    /// the claim say at once who is there.
    pub(super) async fn begin(
        worker: &Worker,
        place: Place,
        address: Address,
    ) -> Result<Self, Refusal> {
        let notices = worker.bus.mail.listen(subject::seat(address.table)).await;
        let notices = notices.map_err(|error| unreachable(&error))?;
        Ok(Self { place, address, notices })
    }
}

fn unreachable(error: &MailError) -> Refusal {
    Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS)
}

/// Whether the actor goes on.
enum Next {
    Continue,
    /// The table is not this worker's any more: what those who still wait are told.
    Leave(Refusal),
}

impl TableActor {
    /// Starts the owner of a table whose first commit by this worker is at `at`, and still a draft for the
    /// referee. When this returns, commands reach it.
    pub(super) async fn start(
        worker: &Worker,
        taking: Taking,
        (mut referee, at): (Box<dyn Referee>, StreamSeq),
        first: Drafted,
    ) -> Result<(), Refusal> {
        let Taking { place, address, notices } = taking;
        let commands = worker.bus.mail.serve(subject::cmd(address.table), None).await;
        let commands = commands.map_err(|error| unreachable(&error))?;
        referee.confirm();
        let follow_up = first.follow_up;
        let mut actor = Self {
            worker: worker.clone(),
            address,
            referee,
            last: at,
            commands,
            notices,
            waiting: VecDeque::new(),
            presences: Presences::default(),
            losses: worker.gateways.losses(),
            went: VecDeque::new(),
            roll_call_at: None,
            agenda: Agenda::default(),
            listed: None,
            refused: false,
            _place: place,
        };
        if actor.referee.last_seq() > TableSeq::ZERO.next() {
            // Gateways say who is there once they see the claim.
            actor.roll_call_at = Some(Instant::now() + ROLL_CALL);
        }
        actor.relist();
        actor.schedule_bot(|_| true);
        worker.actors.spawn(async move { actor.run(follow_up).await });
        Ok(())
    }

    async fn run(mut self, follow_up: Vec<FollowUp>) {
        self.follow_up(&follow_up).await;
        while self.referee.status() != Status::Ended {
            if let Next::Leave(refusal) = self.step().await {
                // Nobody else knows who lists it now, so the line stays; the next owner rewrites it.
                return self.leave(&refusal).await;
            }
        }
        self.linger().await;
    }

    /// Waits for whatever comes first, and carries it out up to the answer. Its inputs: the owner's stop,
    /// news of players' connections, their commands, and time (deadlines and bots).
    async fn step(&mut self) -> Next {
        let now = self.worker.now();
        self.call_the_roll(now.timer);
        // Before any command: however many there are, they do not hold a deadline up.
        let draft = if self.agenda.take_deadline(self.referee.next_due(), now) {
            self.referee.on_time(&self.worker.turn()).map(|draft| self.begin(draft, None))
        } else if let Some(player) = self.went.pop_front() {
            self.referee
                .on_presence(&player, PresenceChange::Went, &self.worker.turn())
                .map(|draft| self.begin(draft, None))
        } else {
            let wake = self.agenda.next_wake(self.referee.next_due(), now);
            let wake = wake.into_iter().chain(self.roll_call_at).min();
            tokio::select! {
                biased;
                () = self.worker.stop.cancelled() => return Next::Leave(self.stopping()),
                Some(notice) = self.notices.next() => self.on_notice(&notice),
                Ok(()) = self.losses.changed() => {
                    let gateways = &self.worker.gateways;
                    self.went.extend(self.presences.take_lost(|gateway| gateways.is_alive(gateway)));
                    None
                }
                request = next_request(&mut self.waiting, &mut self.commands) => match request {
                    Some(request) => match self.on_command(request).await {
                        Ok(draft) => draft,
                        Err(refusal) => return Next::Leave(refusal),
                    },
                    None => return Next::Leave(self.stopping()),
                },
                () = until(wake) => self.on_bot(),
            }
        };
        match draft {
            Some(under_way) => self.finish_append(under_way).await,
            None => Next::Continue,
        }
    }

    fn on_notice(&mut self, payload: &[u8]) -> Option<UnderWay> {
        let Ok(notice) = decode(payload) else {
            counter!("tablecast_worker_malformed_total").increment(1);
            return None;
        };
        let notice: PresenceNotice = notice;
        self.worker.gateways.note(&notice.gateway, Instant::now());
        let (player, change) = self.presences.note(notice)?;
        let draft = self.referee.on_presence(&player, change, &self.worker.turn())?;
        Some(self.begin(draft, None))
    }

    /// A new owner knows of nobody's connection: whoever no gateway has spoken for by now has gone.
    fn call_the_roll(&mut self, now: Instant) {
        if self.roll_call_at.take_if(|at| *at <= now).is_some() {
            let here = self.referee.players_here().into_iter();
            self.went.extend(here.filter(|player| !self.presences.knows(player)));
        }
    }

    /// The bot whose time has come acts, if any.
    fn on_bot(&mut self) -> Option<UnderWay> {
        let seat = self.agenda.take_bot(self.worker.now())?;
        match self.referee.decide_for_bot(seat, &self.worker.turn()) {
            Ok(Some(draft)) => return Some(self.begin(draft, None)),
            Ok(None) => {}
            Err(refusal) => {
                let (table, code) = (self.address.table, &refusal.code);
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

    /// Sends a draft to the log. Until the log has it, nothing has happened.
    pub(super) fn begin(&self, draft: Drafted, asked: Option<(Reply, CommandId)>) -> UnderWay {
        let (reply, command) = asked.unzip();
        let (worker, address, last) = (self.worker.clone(), self.address.clone(), self.last);
        let sent = draft.clone();
        let appended = async move { append(&worker, &address, last, &sent, command).await };
        UnderWay { appended: appended.boxed(), draft, reply }
    }

    /// Waits for the log, taking in commands meanwhile; then evolves and answers.
    async fn finish_append(&mut self, under_way: UnderWay) -> Next {
        let UnderWay { mut appended, draft, reply } = under_way;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut appended => break result,
                Some(request) = self.commands.next() => self.enqueue(request).await,
            }
        };
        match result {
            Ok(at) => {
                self.last = at;
                self.refused = false;
                self.referee.confirm();
                counter!("tablecast_worker_commits_total").increment(1);
                if let Some(reply) = reply {
                    answer(reply, Ok(draft.seq)).await;
                }
                self.relist();
                self.schedule_bot(|_| true);
                self.follow_up(&draft.follow_up).await;
                Next::Continue
            }
            Err(error @ AppendError::Refused { .. }) => {
                self.stay(&error, reply).await;
                Next::Continue
            }
            Err(error) => {
                let refusal = self.lost(&error);
                if let Some(reply) = reply {
                    answer(reply, Err(refusal.clone())).await;
                }
                Next::Leave(refusal)
            }
        }
    }

    /// Forgets the table. Whoever still waits is told so, after commands have stopped coming here.
    async fn leave(mut self, refusal: &Refusal) {
        let mut commands = std::mem::replace(&mut self.commands, stream::empty().boxed());
        while let Some(Some(request)) = commands.next().now_or_never() {
            self.waiting.push_back(request);
        }
        drop(commands);
        for request in self.waiting.drain(..) {
            answer(request.reply, Err(refusal.clone())).await;
        }
    }

    async fn enqueue(&mut self, request: Request) {
        if self.waiting.len() < self.worker.config.commands_waiting_max {
            self.waiting.push_back(request);
            return;
        }
        answer(request.reply, Err(busy())).await;
    }

    async fn follow_up(&mut self, duties: &[FollowUp]) {
        for duty in duties {
            match duty {
                FollowUp::Complete => {
                    let marker = finish::marker(&self.address, &*self.referee, self.last)
                        .expect("only the commit that ends a table asks for its marker");
                    let (worker, address) = (self.worker.clone(), self.address.clone());
                    self.answer_until(finish::complete(worker, address, marker)).await;
                }
            }
        }
    }

    /// Answers what still comes for a table that has ended, for a while.
    async fn linger(&mut self) {
        let (stop, linger) = (self.worker.stop.clone(), self.worker.config.ended_linger);
        let over = async move {
            tokio::select! {
                () = tokio::time::sleep(linger) => {}
                () = stop.cancelled() => {}
            }
        };
        self.answer_until(over).await;
    }

    /// Answers commands for a table that has ended. Its rules refuse everything, so nothing is drafted here.
    async fn answer_until(&mut self, over: impl Future<Output = ()>) {
        let mut over = pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return,
                Some(request) = next_request(&mut self.waiting, &mut self.commands) => {
                    self.on_command(request).await.ok();
                }
            }
        }
    }

    fn relist(&mut self) {
        let line = self.referee.lobby_entry();
        if line != self.listed || line.is_none() {
            self.worker.lobby.set(self.address.table, line.clone());
            self.listed = line;
        }
    }

    /// Schedules the first bot that is awaited among these seats.
    fn schedule_bot(&mut self, among: impl FnMut(&Seat) -> bool) {
        let (shortest, longest) = self.referee.options().bot_delay_ms;
        let millis = |millis| Duration::from_millis(u64::from(millis));
        let entropy = &self.worker.entropy;
        let delay = || entropy.between(millis(shortest), millis(longest));
        let bot = self.referee.bots_to_act().into_iter().find(among);
        self.agenda.schedule_bot(bot, delay, self.worker.now());
    }
}

/// The command that has waited longest, else the next to come; nothing once none can come.
async fn next_request(
    waiting: &mut VecDeque<Request>,
    commands: &mut BoxStream<'static, Request>,
) -> Option<Request> {
    match waiting.pop_front() {
        Some(request) => Some(request),
        None => commands.next().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        // A timer is no finer than a millisecond: what is due is not sent through one.
        Some(at) if at <= Instant::now() => {}
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
