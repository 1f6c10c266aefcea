//! As little of a worker as a gateway needs to be tested: it decides, appends and answers, and keeps no time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tablecast::bus::{Append, Bus};
use tablecast::catalog::{Catalog, Drafted, Referee};
use tablecast::domain::{
    Cause, Kind, Opening, StreamSeq, TableId, Timestamp, TurnContext, WorkerId,
};
use tablecast::protocol::frame::LobbyEntry;
use tablecast::protocol::request::{
    self, AdoptRequest, Adoption, Beat, CommandRequest, OpenRequest, PresenceNotice, Refusal,
    TableRequest, Verdict,
};
use tablecast::protocol::subject::{self, Address};
use tablecast::runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Clone, Debug)]
pub(crate) struct TinyWorker {
    pub(crate) id: WorkerId,
    kind: Kind,
    bus: Bus,
    catalog: Catalog,
    tables: Arc<Mutex<HashMap<TableId, Owned>>>,
    notices: mpsc::Sender<PresenceNotice>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Clone, Debug)]
struct Owned {
    table: Arc<tokio::sync::Mutex<Owning>>,
    disowned: CancellationToken,
}

#[derive(Debug)]
struct Owning {
    address: Address,
    referee: Box<dyn Referee>,
    last: StreamSeq,
}

impl TinyWorker {
    /// Works until dropped; notices of presence come out at the other end.
    pub(crate) async fn start(
        id: &str,
        kind: &str,
        bus: &Bus,
        catalog: &Catalog,
    ) -> (Self, mpsc::Receiver<PresenceNotice>) {
        let (notices, noticed) = mpsc::channel(64);
        let worker = Self {
            id: id.parse().expect("a worker id"),
            kind: kind.parse().expect("a kind"),
            bus: bus.clone(),
            catalog: catalog.clone(),
            tables: Arc::default(),
            notices,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        worker.serve_kind().await;
        (worker, noticed)
    }

    async fn serve_kind(&self) {
        let mail = &self.bus.mail;
        let opens = mail.serve(subject::open(&self.kind), Some(subject::WORKERS));
        let mut opens = opens.await.expect("served");
        let adopts = mail.serve(subject::adopt(&self.kind), Some(subject::WORKERS));
        let mut adopts = adopts.await.expect("served");
        let worker = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    Some(asked) = opens.next() => {
                        let open = request::decode(&asked.payload).expect("an opening");
                        let verdict = worker.open(open).await;
                        asked.reply.send(request::encode(&verdict)).await;
                    }
                    Some(asked) = adopts.next() => {
                        let adopt: AdoptRequest = request::decode(&asked.payload).expect("an adoption");
                        worker.claim(adopt.table).await;
                        let adoption = Adoption::Owned { worker: worker.id.clone() };
                        asked.reply.send(request::encode(&adoption)).await;
                    }
                    () = worker.stop.cancelled() => return,
                }
            }
        });
    }

    fn cx(&self) -> TurnContext {
        TurnContext { now: Clock::System.now(), seed: rand::random() }
    }

    async fn open(&self, open: OpenRequest) -> Verdict {
        let rules = self.catalog.get(&self.kind).expect("a known kind");
        let opening = Opening {
            kind: self.kind.clone(),
            rules: rules.rules_version(),
            setup: open.setup,
            options: open.options,
            seats: open.seats,
            host: open.host,
        };
        let cause = Cause::Command { player: open.by.player, id: open.id };
        let (referee, drafted) = match rules.open(open.table, opening, cause, &self.cx()) {
            Ok(opened) => opened,
            Err(refusal) => return Verdict::Rejected(refusal),
        };
        let address = Address::new(open.table, self.kind.clone(), self.bus.log.shards());
        let mut owning = Owning { address, referee, last: StreamSeq::ZERO };
        self.store(&mut owning, Some(drafted)).await;
        let seq = owning.referee.last_seq();
        self.own(owning).await;
        Verdict::Accepted { seq }
    }

    /// Takes over from whoever had it.
    pub(crate) async fn claim(&self, table: TableId) {
        if self.tables.lock().expect("no panic").contains_key(&table) {
            return;
        }
        let entries = self.bus.log.read(table, StreamSeq::ZERO).await;
        let entries = entries.expect("a log that works");
        let rules = self.catalog.get(&self.kind).expect("a known kind");
        let (first, rest) = entries.split_first().expect("a table that exists");
        let mut referee = rules.referee(table, &first.payload).expect("an opening");
        for entry in rest {
            referee.fold(&entry.payload).expect("the next commit");
        }
        let claimed = referee.claim(self.id.clone(), None, &self.cx());
        let mut owning = Owning {
            address: first.address.clone(),
            referee,
            last: entries.last().expect("not empty").seq,
        };
        self.store(&mut owning, Some(claimed)).await;
        self.own(owning).await;
    }

    async fn own(&self, owning: Owning) {
        let table = owning.address.table;
        let owned = Owned {
            table: Arc::new(tokio::sync::Mutex::new(owning)),
            disowned: CancellationToken::new(),
        };
        let commands = self.bus.mail.serve(subject::cmd(table), None);
        let mut commands = commands.await.expect("served");
        let mut seats = self.bus.mail.listen(subject::seat(table)).await.expect("heard");
        let mut tables = self.tables.lock().expect("no panic");
        tables.insert(table, owned.clone());
        let worker = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    Some(asked) = commands.next() => {
                        let answer = match request::decode(&asked.payload).expect("a request") {
                            TableRequest::Who => {
                                request::encode(&Adoption::Owned { worker: worker.id.clone() })
                            }
                            TableRequest::Command(command) => {
                                let mut owning = owned.table.lock().await;
                                request::encode(&worker.decide(&mut owning, command).await)
                            }
                        };
                        asked.reply.send(answer).await;
                    }
                    Some(notice) = seats.next() => {
                        let notice = request::decode(&notice).expect("a notice");
                        worker.notices.send(notice).await.ok();
                    }
                    () = owned.disowned.cancelled() => return,
                    () = worker.stop.cancelled() => return,
                }
            }
        });
    }

    async fn decide(&self, owning: &mut Owning, command: CommandRequest) -> Verdict {
        let CommandRequest { by, id, command, .. } = command;
        if command.get("type").and_then(|tag| tag.as_str()) == Some("nothing") {
            return Verdict::Rejected(Refusal::new("nothing", "nothing was asked"));
        }
        // Gateways send again what is not answered at once.
        if let Some(seq) = owning.referee.verdict_on(&by.player, &id) {
            return Verdict::Accepted { seq };
        }
        match owning.referee.decide(&by, id, command, &self.cx()) {
            Ok(drafted) => {
                self.store(owning, drafted).await;
                let seq = owning.referee.last_seq();
                Verdict::Accepted { seq }
            }
            Err(refusal) => Verdict::Rejected(refusal),
        }
    }

    async fn store(&self, owning: &mut Owning, drafted: Option<Drafted>) {
        let Some(drafted) = drafted else { return };
        let append = Append {
            address: owning.address.clone(),
            after: owning.last,
            id: format!("{}:{}", owning.address.table, drafted.seq.get()),
            types: drafted.types,
            worker: self.id.clone(),
            command: None,
            payload: drafted.payload,
        };
        owning.last = self.bus.log.append(append).await.expect("stored");
        owning.referee.confirm();
    }

    /// Stops serving a table without a word, as a worker does that dies.
    pub(crate) fn forget(&self, table: TableId) {
        let owned = self.tables.lock().expect("no panic").remove(&table);
        owned.expect("an owned table").disowned.cancel();
    }

    /// Stops with everything it owns, as a process does that is killed.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
        self.tables.lock().expect("no panic").clear();
    }

    pub(crate) fn owns(&self, table: TableId) -> bool {
        self.tables.lock().expect("no panic").contains_key(&table)
    }

    pub(crate) async fn beat(&self, goodbye: bool) {
        let beat = Beat {
            worker: self.id.clone(),
            tables: 0,
            full: false,
            interval_ms: 0,
            at: Timestamp::default(),
            goodbye,
        };
        let subject = subject::beat(&self.id);
        let told = self.bus.mail.notify(subject, request::encode(&beat));
        told.await.expect("told");
    }

    pub(crate) async fn list(&self, table: TableId) {
        let entry = self.entry(table).await;
        self.bus.lobby.put(&entry).await.expect("listed");
    }

    async fn entry(&self, table: TableId) -> LobbyEntry {
        let owned = self.tables.lock().expect("no panic")[&table].clone();
        let owning = owned.table.lock().await;
        owning.referee.lobby_entry().expect("not over")
    }

    /// Where the log stands, for a test that writes there itself.
    pub(crate) async fn position(&self, table: TableId) -> (Address, StreamSeq) {
        let owned = self.tables.lock().expect("no panic")[&table].clone();
        let owning = owned.table.lock().await;
        (owning.address.clone(), owning.last)
    }

    /// Something else has been stored after the last commit.
    pub(crate) async fn skip_to(&self, table: TableId, last: StreamSeq) {
        let owned = self.tables.lock().expect("no panic")[&table].clone();
        owned.table.lock().await.last = last;
    }
}
