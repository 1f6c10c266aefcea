//! What a table's owner answers, and when it may: the owner's judgement, the log's word, the loss of the table.

use std::time::Duration;

use futures_util::StreamExt;
use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, error};

use super::agenda::ASK_AGAIN;
use super::answer::{LATER_MS, answer, moved, unavailable};
use super::desk::Waiting;
use super::table_actor::{Next, TableActor, UnderWay};
use crate::bus::{AppendError, Origin, Reply};
use crate::catalog::Drafted;
use crate::domain::{CreditReason, Status, TableSeq};
use crate::protocol::request::{
    Adoption, CommandRequest, MOVED, Refusal, TableRequest, decode, encode,
};

/// Beyond this, the wait for the log is given back to whoever's turn it is: nobody could see the move.
pub(super) const SLOW_MS: u64 = 1_000;

impl TableActor {
    /// Judges a command. What is refused, or changes nothing, is answered only once the leader has shown
    /// that the state it was judged by is the newest: a former owner must not speak for the table.
    pub(super) async fn on_request(&mut self, asked: Waiting) -> Result<Option<UnderWay>, Refusal> {
        let verdict = match decode::<TableRequest>(&asked.payload) {
            Err(error) => Err(Refusal::new("malformed", error.to_string())),
            Ok(TableRequest::Who) => return self.on_who(asked.replies).await,
            Ok(TableRequest::Command(command)) => {
                self.note_acting(&command);
                debug!(
                    table.id = %self.desk.address.table, command.id = %command.id,
                    request.id = command.request.as_deref(), "judges a command"
                );
                match self.referee.verdict_on(&command.by.player, &command.id) {
                    Some(seq) => Ok(seq),
                    None => match self.decide(&command) {
                        Ok(Some(draft)) => {
                            let CommandRequest { id, request, .. } = command;
                            let origin = Origin { command: id, request };
                            return Ok(Some(self.begin(draft, Some((asked, origin)))));
                        }
                        Ok(None) => {
                            let seq = self.referee.last_seq();
                            self.as_the_newest(Ok(seq)).await
                        }
                        Err(refusal) => self.as_the_newest(Err(refusal)).await,
                    },
                }
            }
        };
        let lost = verdict.as_ref().err().filter(|refusal| refusal.code == MOVED).cloned();
        answer(asked.replies, verdict).await;
        lost.map_or(Ok(None), Err)
    }

    /// Who acts is there, and gone when its gateway is.
    fn note_acting(&mut self, command: &CommandRequest) {
        // Nobody else's coming and going is of interest, nor to be remembered.
        let is_seated = || self.referee.players_here().contains(&command.by.player);
        if let Some(gateway) = command.gateway.as_ref().filter(|_| is_seated()) {
            self.desk.worker.peers.note_gateway(gateway, self.desk.worker.now());
            self.desk.presences.note_acting(&command.by.player, gateway);
        }
    }

    /// This verdict, if nothing has been appended that the state does not hold.
    async fn as_the_newest(
        &mut self,
        verdict: Result<TableSeq, Refusal>,
    ) -> Result<TableSeq, Refusal> {
        match self.desk.is_newest().await {
            Ok(true) => verdict,
            // Its tombstone is the only thing that may follow the last commit of a table that has ended.
            Ok(false) if self.referee.status() == Status::Ended => verdict,
            Ok(false) => Err(self.desk.fenced()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Says who owns the table, or finds out that somebody else does.
    async fn on_who(&mut self, replies: Vec<Reply>) -> Result<Option<UnderWay>, Refusal> {
        let seq = self.referee.last_seq();
        let newest = self.as_the_newest(Ok(seq)).await;
        let adoption = match &newest {
            Ok(_) => Adoption::Owned { worker: self.desk.worker.id.clone() },
            Err(refusal) => Adoption::Declined(refusal.clone()),
        };
        for reply in replies {
            reply.send(encode(&adoption)).await;
        }
        match newest {
            Err(refusal) if refusal.code == MOVED => Err(refusal),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn decide(&mut self, command: &CommandRequest) -> Result<Option<Drafted>, Refusal> {
        let cx = self.turn();
        self.referee.decide(&command.by, command.id.clone(), command.command.clone(), &cx)
    }

    /// Brings a commit to its end, and those that follow from it.
    pub(super) async fn commit(&mut self, mut under_way: UnderWay) -> Next {
        loop {
            match self.finish_append(under_way).await {
                Ok(Some(more)) => under_way = more,
                Ok(None) => return Next::Continue,
                Err(end) => return end,
            }
        }
    }

    /// Waits for the log, taking in commands meanwhile; then evolves and answers.
    async fn finish_append(&mut self, under_way: UnderWay) -> Result<Option<UnderWay>, Next> {
        let UnderWay { mut appended, draft, mut asked, connection, began } = under_way;
        let overdue = self.desk.worker.overdue.clone();
        let result = loop {
            tokio::select! {
                biased;
                result = &mut appended => break result,
                // Stored or not: the next owner will know.
                () = overdue.cancelled() => {
                    break Err(AppendError::Unavailable { table: self.desk.address.table });
                }
                Some(request) = self.desk.commands.next() => match &mut asked {
                    // A gateway that has waited for a while asks again.
                    Some(asked) if asked.payload == request.payload => asked.attach(request.reply),
                    Some(_) | None => self.desk.enqueue(request).await,
                },
            }
        };
        match result {
            Ok(at) => {
                self.desk.last = at;
                self.refused = false;
                self.referee.confirm();
                if let Some(asked) = asked {
                    answer(asked.replies, Ok(draft.seq)).await;
                }
                self.on_stored(&draft).await;
                if began.timer.elapsed() < Duration::from_millis(SLOW_MS) {
                    return Ok(None);
                }
                let cx = self.turn();
                let credit = self.referee.give_back(began.clock, CreditReason::LogSlow, &cx);
                Ok(credit.map(|credit| self.begin(credit, None)))
            }
            Err(error @ AppendError::Refused { .. }) => {
                if let Some(connection) = connection {
                    self.unwritten.push_front(connection);
                }
                // A full log may refuse an owner that it would fence if it had room.
                let word = self.as_the_newest(Err(unavailable(&error))).await;
                let lost = word.as_ref().err().filter(|refusal| refusal.code == MOVED).cloned();
                if let Some(asked) = asked {
                    answer(asked.replies, word).await;
                }
                if let Some(refusal) = lost {
                    return Err(Next::Leave(refusal));
                }
                self.stay(&error);
                Ok(None)
            }
            Err(error) => {
                let refusal = self.lost(&error);
                if let Some(asked) = asked {
                    answer(asked.replies, Err(refusal.clone())).await;
                }
                match error {
                    AppendError::Unavailable { .. } => Err(Next::Lost(refusal, began.clock)),
                    AppendError::Fenced { .. } | AppendError::Refused { .. } => {
                        Err(Next::Leave(refusal))
                    }
                }
            }
        }
    }

    /// The log has said no: nothing has happened, and the table is still this worker's.
    fn stay(&mut self, error: &AppendError) {
        let table = self.desk.address.table;
        counter!("tablecast_worker_refused_total").increment(1);
        if self.refused {
            debug!(table.id = %table, %error, "table {table} still stands still");
        } else {
            error!(table.id = %table, %error, "table {table} stands still");
        }
        self.refused = true;
        self.acts_again_at = Some(Instant::now() + ASK_AGAIN);
        let bot = self.referee.bots_to_act().first().copied();
        self.agenda.schedule_bot_again(bot, self.desk.worker.now());
    }

    /// The table belongs to somebody else, or nobody knows what the log holds.
    fn lost(&self, error: &AppendError) -> Refusal {
        if matches!(error, AppendError::Fenced { .. }) {
            return self.desk.fenced();
        }
        let table = self.desk.address.table;
        error!(table.id = %table, %error, "table {table} is given up");
        // Whether the move is in the log, its id will tell whoever is asked next.
        moved(error.to_string()).retry_after_ms(LATER_MS)
    }

    pub(super) fn stopping(&self) -> Refusal {
        moved(format!("the owner of table {} stops", self.desk.address.table))
    }
}
