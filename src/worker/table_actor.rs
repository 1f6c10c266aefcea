//! One table and its only writer: decide → append → evolve → reply.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio::time::Instant;
use tracing::{error, info};

use super::adoption::{append, unavailable};
use super::finish;
use super::tables::{Place, Worker};
use crate::bus::{AppendError, Reply, Request};
use crate::catalog::{Drafted, Referee};
use crate::domain::{
    CommandId, FollowUp, PlayerId, PresenceChange, Seat, Status, StreamSeq, TableSeq, Timestamp,
};
use crate::protocol::frame::LobbyEntry;
use crate::protocol::request::{CommandRequest, PresenceNotice, Refusal, Verdict, decode, encode};
use crate::protocol::subject::{self, Address};

/// Asks a client to try again when the queue has moved on.
const BUSY_RETRY_AFTER_MS: u64 = 50;

/// A table that this worker owns.
pub(super) struct TableActor {
    worker: Worker,
    address: Address,
    referee: Box<dyn Referee>,
    /// The log's position of the last commit: what the next one follows.
    last: StreamSeq,
    commands: BoxStream<'static, Request>,
    notices: BoxStream<'static, Bytes>,
    waiting: VecDeque<Request>,
    /// Where each player is connected: a player may be at two gateways.
    gateways: HashMap<PlayerId, HashSet<String>>,
    /// A deadline that brought nothing about: a fault of the game, not to be asked about for ever.
    barren: Option<Timestamp>,
    /// When the bot that is awaited acts.
    bot_at: Option<(Seat, Instant)>,
    listed: Option<LobbyEntry>,
    _place: Place,
}

/// An append that is under way, and who waits for it.
struct UnderWay {
    appended: BoxFuture<'static, Result<StreamSeq, AppendError>>,
    draft: Drafted,
    reply: Option<Reply>,
}

/// Whether the actor goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Leave,
}

impl TableActor {
    /// Starts the owner of a table whose last commit, still a draft for the referee if given, is at `at`.
    /// When this returns, commands reach it.
    pub(super) async fn start(
        worker: &Worker,
        place: Place,
        address: Address,
        (mut referee, at): (Box<dyn Referee>, StreamSeq),
        first: Option<Drafted>,
    ) -> Result<(), Refusal> {
        let mail = &worker.bus.mail;
        let table = address.table;
        let served = async {
            let commands = mail.serve(subject::cmd(table), subject::WORKERS).await?;
            let notices = mail.listen(subject::seat(table)).await?;
            Ok::<_, crate::bus::MailError>((commands, notices))
        };
        let (commands, notices) = served.await.map_err(|error| {
            Refusal::new("unavailable", error.to_string()).retry_after_ms(BUSY_RETRY_AFTER_MS)
        })?;
        let follow_up = first.map_or_else(Vec::new, |draft| {
            referee.confirm();
            draft.follow_up
        });
        let mut actor = Self {
            worker: worker.clone(),
            address,
            referee,
            last: at,
            commands,
            notices,
            waiting: VecDeque::new(),
            gateways: HashMap::new(),
            barren: None,
            bot_at: None,
            listed: None,
            _place: place,
        };
        actor.relist();
        actor.schedule_bot();
        worker
            .actors
            .spawn(async move { actor.run(follow_up).await });
        Ok(())
    }

    async fn run(mut self, follow_up: Vec<FollowUp>) {
        self.follow_up(&follow_up).await;
        while self.referee.status() != Status::Ended {
            if self.step().await == Next::Leave {
                // Nobody else knows who lists it now, so the line stays; the next owner rewrites it.
                return;
            }
        }
        self.linger().await;
    }

    /// Waits for whatever comes first, and carries it out up to the answer. Its inputs: the owner's stop,
    /// players' commands, news of their connections, and time (deadlines and bots).
    async fn step(&mut self) -> Next {
        let draft = if let Some(request) = self.waiting.pop_front() {
            self.on_command(request).await
        } else {
            let due = self.next_wake();
            tokio::select! {
                biased;
                () = self.worker.stop.cancelled() => return Next::Leave,
                request = self.commands.next() => match request {
                    Some(request) => self.on_command(request).await,
                    None => return Next::Leave,
                },
                Some(notice) = self.notices.next() => self.on_notice(&notice),
                () = sleep_until(due) => self.on_time(),
            }
        };
        match draft {
            Some(under_way) => self.finish_append(under_way).await,
            None => Next::Continue,
        }
    }

    async fn on_command(&mut self, request: Request) -> Option<UnderWay> {
        let reply = request.reply;
        let verdict = match decode::<CommandRequest>(&request.payload) {
            Err(error) => Err(Refusal::new("malformed", error.to_string())),
            Ok(command) => match self.referee.verdict_on(&command.by.player, &command.id) {
                Some(seq) => Ok(seq),
                None => match self.decide(&command) {
                    Ok(Some(draft)) => return Some(self.begin(draft, Some((reply, command.id)))),
                    Ok(None) => Ok(self.referee.last_seq()),
                    Err(refusal) => Err(refusal),
                },
            },
        };
        answer(reply, verdict).await;
        None
    }

    fn decide(&mut self, command: &CommandRequest) -> Result<Option<Drafted>, Refusal> {
        let cx = self.worker.turn();
        self.referee.decide(
            &command.by,
            command.id.clone(),
            command.command.clone(),
            &cx,
        )
    }

    fn on_notice(&mut self, payload: &[u8]) -> Option<UnderWay> {
        let Ok(PresenceNotice {
            player,
            gateway,
            change,
        }) = decode(payload)
        else {
            counter!("tablecast_worker_malformed_total").increment(1);
            return None;
        };
        let gateways = self.gateways.entry(player.clone()).or_default();
        match change {
            PresenceChange::Came => gateways.insert(gateway),
            PresenceChange::Went => gateways.remove(&gateway),
        };
        if change == PresenceChange::Went && !gateways.is_empty() {
            return None;
        }
        if gateways.is_empty() {
            self.gateways.remove(&player);
        }
        let draft = self
            .referee
            .on_presence(&player, change, &self.worker.turn())?;
        Some(self.begin(draft, None))
    }

    fn on_time(&mut self) -> Option<UnderWay> {
        let cx = self.worker.turn();
        if let Some(due) = self.next_due().filter(|due| *due <= cx.now) {
            if let Some(draft) = self.referee.on_time(&cx) {
                return Some(self.begin(draft, None));
            }
            self.barren = Some(due);
        }
        let (seat, _) = self.bot_at.take_if(|(_, at)| *at <= Instant::now())?;
        match self.referee.decide_for_bot(seat, &cx) {
            Ok(Some(draft)) => Some(self.begin(draft, None)),
            Ok(None) => None,
            Err(refusal) => {
                let (table, code) = (self.address.table, &refusal.code);
                error!(
                    table.id = %table, seat = seat.0, rejection = %code,
                    "the rules refuse the choice of their own bot at table {table}: it waits"
                );
                counter!("tablecast_worker_bot_refused_total").increment(1);
                None
            }
        }
    }

    /// Sends a draft to the log. Until the log has it, nothing has happened.
    fn begin(&self, draft: Drafted, asked: Option<(Reply, CommandId)>) -> UnderWay {
        let (reply, command) = asked.unzip();
        let (worker, address, last) = (self.worker.clone(), self.address.clone(), self.last);
        let sent = draft.clone();
        let appended = async move { append(&worker, &address, last, &sent, command).await };
        UnderWay {
            appended: appended.boxed(),
            draft,
            reply,
        }
    }

    /// Waits for the log, taking in commands meanwhile; then evolves and answers.
    async fn finish_append(&mut self, under_way: UnderWay) -> Next {
        let UnderWay {
            mut appended,
            draft,
            reply,
        } = under_way;
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
                self.referee.confirm();
                counter!("tablecast_worker_commits_total").increment(1);
                if let Some(reply) = reply {
                    answer(reply, Ok(draft.seq)).await;
                }
                self.relist();
                self.schedule_bot();
                self.follow_up(&draft.follow_up).await;
                Next::Continue
            }
            Err(error) => {
                self.lose(&error, reply).await;
                Next::Leave
            }
        }
    }

    /// The table belongs to somebody else, or nobody knows what the log holds: forget it.
    async fn lose(&mut self, error: &AppendError, reply: Option<Reply>) {
        let table = self.address.table;
        let refusal = match error {
            AppendError::Fenced { .. } => {
                info!(table.id = %table, "table {table} has another owner: this worker was fenced");
                counter!("tablecast_worker_fenced_total").increment(1);
                Refusal::new("moved", error.to_string()).retry_after_ms(0)
            }
            AppendError::Refused { .. } | AppendError::Unavailable { .. } => {
                error!(table.id = %table, %error, "table {table} is given up");
                unavailable(error)
            }
        };
        let waiting = self.waiting.drain(..).map(|request| request.reply);
        for reply in reply.into_iter().chain(waiting) {
            answer(reply, Err(refusal.clone())).await;
        }
    }

    async fn enqueue(&mut self, request: Request) {
        if self.waiting.len() < self.worker.config.commands_waiting_max {
            self.waiting.push_back(request);
            return;
        }
        counter!("tablecast_worker_commands_busy_total").increment(1);
        let refusal = Refusal::new("busy", "too many commands wait at this table");
        answer(
            request.reply,
            Err(refusal.retry_after_ms(BUSY_RETRY_AFTER_MS)),
        )
        .await;
    }

    async fn follow_up(&mut self, duties: &[FollowUp]) {
        for duty in duties {
            match duty {
                FollowUp::Complete => {
                    finish::complete(&self.worker, &self.address, &*self.referee, self.last).await;
                    counter!("tablecast_worker_tables_completed_total").increment(1);
                }
            }
        }
    }

    /// Answers what still comes for a table that has ended, for a while.
    async fn linger(&mut self) {
        let until = Instant::now() + self.worker.config.ended_linger;
        loop {
            let request = match self.waiting.pop_front() {
                Some(request) => request,
                None => tokio::select! {
                    Some(request) = self.commands.next() => request,
                    () = tokio::time::sleep_until(until) => return,
                    () = self.worker.stop.cancelled() => return,
                },
            };
            // The rules of an ended table refuse everything, so nothing is ever drafted here.
            self.on_command(request).await;
        }
    }

    fn relist(&mut self) {
        let line = self.referee.lobby_entry();
        if line != self.listed || line.is_none() {
            self.worker.lobby.set(self.address.table, line.clone());
            self.listed = line;
        }
    }

    fn schedule_bot(&mut self) {
        let (shortest, longest) = self.referee.options().bot_delay_ms;
        self.bot_at = self.referee.bots_to_act().first().map(|seat| {
            let millis = |millis| Duration::from_millis(u64::from(millis));
            let delay = self
                .worker
                .entropy
                .between(millis(shortest), millis(longest));
            (*seat, Instant::now() + delay)
        });
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.referee
            .next_due()
            .filter(|due| self.barren != Some(*due))
    }

    /// When something is due by itself.
    fn next_wake(&self) -> Option<Instant> {
        let now = self.worker.clock.now();
        let due = self
            .next_due()
            .map(|due| Instant::now() + Duration::from_millis(due.millis_since(now)));
        let bot = self.bot_at.map(|(_, at)| at);
        due.into_iter().chain(bot).min()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn answer(reply: Reply, verdict: Result<TableSeq, Refusal>) {
    let verdict = match verdict {
        Ok(seq) => Verdict::Accepted { seq },
        Err(refusal) => Verdict::Rejected(refusal),
    };
    let label = match &verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Rejected(_) => "rejected",
    };
    counter!("tablecast_worker_commands_total", "verdict" => label).increment(1);
    reply.send(encode(&verdict)).await;
}
