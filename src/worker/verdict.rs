//! What a table's owner answers, and when it may: the owner's judgement, the log's word, the loss of the table.

use metrics::counter;
use tracing::{debug, error, info};

use super::answer::{LATER_MS, answer, moved, unavailable};
use super::table_actor::{TableActor, UnderWay};
use crate::bus::{AppendError, Reply, Request};
use crate::catalog::Drafted;
use crate::domain::{Status, TableSeq};
use crate::protocol::request::{
    Adoption, CommandRequest, MOVED, Refusal, TableRequest, decode, encode,
};

impl TableActor {
    /// Judges a command. What is refused, or changes nothing, is answered only once the leader has shown
    /// that the state it was judged by is the newest: a former owner must not speak for the table.
    pub(super) async fn on_command(
        &mut self,
        request: Request,
    ) -> Result<Option<UnderWay>, Refusal> {
        let reply = request.reply;
        let verdict = match decode::<TableRequest>(&request.payload) {
            Err(error) => Err(Refusal::new("malformed", error.to_string())),
            Ok(TableRequest::Who) => return self.on_who(reply).await,
            Ok(TableRequest::Command(command)) => {
                match self.referee.verdict_on(&command.by.player, &command.id) {
                    Some(seq) => Ok(seq),
                    None => match self.decide(&command) {
                        Ok(Some(draft)) => {
                            return Ok(Some(self.begin(draft, Some((reply, command.id)))));
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
        answer(reply, verdict).await;
        lost.map_or(Ok(None), Err)
    }

    /// This verdict, if nothing has been appended that the state does not hold.
    async fn as_the_newest(
        &mut self,
        verdict: Result<TableSeq, Refusal>,
    ) -> Result<TableSeq, Refusal> {
        match self.worker.bus.log.last(&self.address).await {
            Ok(last) if last == self.last => verdict,
            // Its tombstone is the only thing that may follow the last commit of a table that has ended.
            Ok(_) if self.referee.status() == Status::Ended => verdict,
            Ok(_) => Err(self.fenced()),
            Err(error) => {
                Err(Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS))
            }
        }
    }

    /// Says who owns the table, or finds out that somebody else does.
    async fn on_who(&mut self, reply: Reply) -> Result<Option<UnderWay>, Refusal> {
        let seq = self.referee.last_seq();
        let newest = self.as_the_newest(Ok(seq)).await;
        let adoption = match &newest {
            Ok(_) => Adoption::Owned { worker: self.worker.id.clone() },
            Err(refusal) => Adoption::Declined(refusal.clone()),
        };
        reply.send(encode(&adoption)).await;
        match newest {
            Err(refusal) if refusal.code == MOVED => Err(refusal),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn decide(&mut self, command: &CommandRequest) -> Result<Option<Drafted>, Refusal> {
        let cx = self.worker.turn();
        self.referee.decide(&command.by, command.id.clone(), command.command.clone(), &cx)
    }

    /// The log has said no: nothing has happened, and the table is still this worker's.
    pub(super) async fn stay(&mut self, error: &AppendError, reply: Option<Reply>) {
        let table = self.address.table;
        counter!("tablecast_worker_refused_total").increment(1);
        if self.refused {
            debug!(table.id = %table, %error, "table {table} still stands still");
        } else {
            error!(table.id = %table, %error, "table {table} stands still");
        }
        self.refused = true;
        if let Some(reply) = reply {
            answer(reply, Err(unavailable(error))).await;
        }
        let bot = self.referee.bots_to_act().first().copied();
        self.agenda.schedule_bot_again(bot, self.worker.now());
    }

    /// The table belongs to somebody else, or nobody knows what the log holds.
    pub(super) fn lost(&self, error: &AppendError) -> Refusal {
        if matches!(error, AppendError::Fenced { .. }) {
            return self.fenced();
        }
        let table = self.address.table;
        error!(table.id = %table, %error, "table {table} is given up");
        unavailable(error)
    }

    /// Said once for each table that is lost.
    fn fenced(&self) -> Refusal {
        let table = self.address.table;
        info!(table.id = %table, "table {table} has another owner: this worker was fenced");
        counter!("tablecast_worker_fenced_total").increment(1);
        moved(format!("table {table} has moved on: another worker owns it"))
    }

    pub(super) fn stopping(&self) -> Refusal {
        moved(format!("the owner of table {} stops", self.address.table))
    }
}
