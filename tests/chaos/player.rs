//! A player: opens tables or sits down at them, plays by its views, comes back after each loss, and asks again.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use tablecast::domain::TableId;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::checker::history::{Notebook, Verdict};
use crate::client::{Client, Frame, PING_EVERY};
use crate::fleet::Gateways;
use crate::notes::{Cursors, Notes};
use crate::scripts::Script;

/// How often an accepted command is sent again, to hear its verdict once more.
const AGAIN: f64 = 0.08;
/// How often a player thinks as long as it may, and a little more.
const SLEEPY: f64 = 0.12;

/// The table that is played at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) table: TableId,
    pub(crate) guests: usize,
}

/// What all clients share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) gateways: Gateways,
    pub(crate) cursors: Cursors,
    /// No new games.
    pub(crate) closing: CancellationToken,
    /// Everybody goes home.
    pub(crate) stop: CancellationToken,
}

/// Who a player is at its place.
#[derive(Debug)]
pub(crate) enum Part {
    /// Opens one table after the other.
    Host(watch::Sender<Option<Placed>>),
    /// Sits down if there is a seat for it.
    Guest(watch::Receiver<Option<Placed>>),
}

/// A player.
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) script: &'static dyn Script,
    pub(crate) dice: ChaCha20Rng,
    pub(crate) part: Part,
    pub(crate) shared: Shared,
}

/// The rest of a player: what it knows and has under way.
struct AtTable {
    notes: Notes,
    placed: Option<Placed>,
    /// Guests that the table that is being opened has room for, and the id of the wish.
    opening: Option<(String, usize)>,
    view: Option<(u64, Value)>,
    /// Views from before this commit show decisions as owed that have been made.
    decided_at: u64,
    under_way: Option<UnderWay>,
    /// An accepted command that will be sent once more.
    again: Option<(Instant, Value)>,
    act_at: Option<Instant>,
    commands: u64,
}

/// A command without a verdict.
struct UnderWay {
    id: String,
    frame: Value,
    send_at: Option<Instant>,
}

impl Player {
    /// Plays until all go home.
    pub(crate) async fn run(mut self) -> Notebook {
        let notes = Notes::new(self.name.clone(), self.shared.cursors.clone());
        let mut at = AtTable {
            notes,
            placed: None,
            opening: None,
            view: None,
            decided_at: 0,
            under_way: None,
            again: None,
            act_at: None,
            commands: 0,
        };
        let stop = self.shared.stop.clone();
        while !stop.is_cancelled() {
            let Some(address) = self.pick() else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Ok(client) = Client::connect(address, Some(&self.token)).await {
                at.notes.book.connections += 1;
                tokio::select! {
                    // The reason does not matter: the gateway is gone, or as good as gone.
                    _lost = self.session(client, &mut at) => {}
                    () = stop.cancelled() => {}
                }
                let followed: Vec<TableId> = at.placed.iter().map(|placed| placed.table).collect();
                at.notes.lost(&followed);
            }
            let pause = self.dice.random_range(50..300);
            sleep(Duration::from_millis(pause)).await;
        }
        at.notes.book
    }

    fn pick(&mut self) -> Option<std::net::SocketAddr> {
        let all = self.shared.gateways.all();
        let index = self.dice.random_range(0..all.len().max(1));
        all.get(index).map(|(_, address)| *address)
    }

    async fn session(&mut self, mut client: Client, at: &mut AtTable) -> anyhow::Result<()> {
        // An opening whose answer was lost is given up: sent again it would open another table.
        at.opening = None;
        if let Some(placed) = at.placed {
            self.subscribe(&mut client, at, placed.table).await?;
        }
        if let Some(under_way) = &mut at.under_way {
            at.notes.sending_again(&under_way.id, true);
            under_way.send_at = None;
            client.send(&under_way.frame.clone()).await?;
        }
        let mut ping = interval(PING_EVERY);
        let mut look = interval(Duration::from_millis(150));
        loop {
            let wake = [
                at.act_at,
                at.again.as_ref().map(|(when, _)| *when),
                at.under_way.as_ref().and_then(|under_way| under_way.send_at),
            ];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                frame = client.next() => self.on_frame(&mut client, at, frame?).await?,
                _ = ping.tick() => client.send(&json!({ "type": "ping" })).await?,
                _ = look.tick() => self.look_for_table(&mut client, at).await?,
                () = until(wake) => self.on_time(&mut client, at).await?,
            }
        }
    }

    async fn subscribe(
        &self,
        client: &mut Client,
        at: &mut AtTable,
        table: TableId,
    ) -> anyhow::Result<()> {
        let cursor = at.notes.subscribing(table);
        let frame = json!({
            "type": "subscribe", "table": table, "cursor": cursor, "deliver": "views",
        });
        client.send(&frame).await
    }

    /// A host opens a table when it has none; a guest goes where its host is.
    async fn look_for_table(
        &mut self,
        client: &mut Client,
        at: &mut AtTable,
    ) -> anyhow::Result<()> {
        let offered = match &self.part {
            Part::Host(_) => {
                let is_idle = at.placed.is_none() && at.opening.is_none();
                if is_idle && !self.shared.closing.is_cancelled() {
                    self.open(client, at).await?;
                }
                return Ok(());
            }
            Part::Guest(offered) => offered.borrow().filter(|placed| placed.guests > 0),
        };
        if at.placed != offered && at.under_way.is_none() {
            if let Some(placed) = at.placed {
                self.leave(client, at, placed.table).await?;
            }
            if let Some(placed) = offered {
                at.sit_at(placed);
                self.subscribe(client, at, placed.table).await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, client: &mut Client, at: &mut AtTable) -> anyhow::Result<()> {
        let opening = self.script.opening(&mut self.dice);
        at.commands += 1;
        let id = format!("{}-o{}", self.name, at.commands);
        at.opening = Some((id.clone(), opening.guests));
        let frame = json!({
            "type": "open", "id": id, "kind": self.script.kind(),
            "setup": opening.setup, "options": opening.options, "seats": opening.seats,
        });
        client.send(&frame).await
    }

    async fn leave(
        &self,
        client: &mut Client,
        at: &mut AtTable,
        table: TableId,
    ) -> anyhow::Result<()> {
        at.notes.done_with(table);
        at.placed = None;
        client.send(&json!({ "type": "unsubscribe", "table": table })).await
    }

    async fn on_frame(
        &mut self,
        client: &mut Client,
        at: &mut AtTable,
        frame: Frame,
    ) -> anyhow::Result<()> {
        match frame.head.r#type.as_str() {
            "opened" | "rejected" if frame.head.id == at.opening.as_ref().map(|o| o.0.clone()) => {
                let opening = at.opening.take();
                if let (Some(table), Some((_, guests))) = (&frame.head.table, opening) {
                    let placed = Placed { table: table.parse()?, guests };
                    at.sit_at(placed);
                    if let Part::Host(offer) = &self.part {
                        offer.send_replace(Some(placed));
                    }
                    self.subscribe(client, at, placed.table).await?;
                }
                return Ok(());
            }
            "accepted" | "rejected" => {
                self.on_verdict(at, &frame);
                return Ok(());
            }
            _ => {}
        }
        let Some(table) = at.notes.take(&frame) else { return Ok(()) };
        if at.placed.is_none_or(|placed| placed.table != table) {
            return Ok(());
        }
        match (frame.head.r#type.as_str(), frame.head.view, frame.head.seq) {
            ("snapshot", Some(view), Some(seq)) => {
                at.view = Some((seq, serde_json::from_str(view.get())?));
                self.on_view(at);
            }
            ("unsubscribed", _, _) => match frame.head.reason.as_deref() {
                // The end of it was missed.
                Some("archived") => self.finish(at, table),
                _ => {
                    sleep(Duration::from_millis(500)).await;
                    self.subscribe(client, at, table).await?;
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// The table is over, or as good as over.
    fn finish(&self, at: &mut AtTable, table: TableId) {
        at.notes.done_with(table);
        (at.placed, at.act_at, at.again) = (None, None, None);
        if let Part::Host(offer) = &self.part {
            offer.send_replace(None);
        }
    }

    fn on_view(&mut self, at: &mut AtTable) {
        if at.under_way.is_none() && at.act_at.is_none() && at.wish(self.script, &mut self.dice) {
            let think = if self.dice.random_bool(SLEEPY) {
                self.dice.random_range(1_400..1_600)
            } else {
                self.dice.random_range(50..400)
            };
            at.act_at = Some(Instant::now() + Duration::from_millis(think));
        }
    }

    fn on_verdict(&mut self, at: &mut AtTable, frame: &Frame) {
        let Some((id, verdict)) = at.notes.verdict(&frame.head) else { return };
        let Some(under_way) = at.under_way.take_if(|under_way| under_way.id == id) else {
            return;
        };
        let soon = |millis| Instant::now() + Duration::from_millis(millis);
        match verdict {
            Verdict::Accepted { seq } => {
                at.decided_at = at.decided_at.max(seq);
                if self.dice.random_bool(AGAIN) {
                    at.again = Some((soon(self.dice.random_range(0..500)), under_way.frame));
                }
                self.on_view(at);
            }
            // Something else happened first. What this view shows as owed may be owed no more.
            Verdict::Rejected { .. } => at.act_at = Some(soon(400)),
            Verdict::Later { .. } => {
                let wait = frame.head.retry_after_ms.unwrap_or(250);
                at.under_way = Some(UnderWay { send_at: Some(soon(wait)), ..under_way });
            }
        }
    }

    async fn on_time(&mut self, client: &mut Client, at: &mut AtTable) -> anyhow::Result<()> {
        let now = Instant::now();
        if let Some((_, frame)) = at.again.take_if(|(when, _)| *when <= now) {
            at.notes.sending_again(frame["id"].as_str().unwrap_or_default(), false);
            client.send(&frame).await?;
        }
        if let Some(under_way) = &mut at.under_way
            && under_way.send_at.take_if(|when| *when <= now).is_some()
        {
            at.notes.sending_again(&under_way.id, false);
            client.send(&under_way.frame).await?;
        }
        if at.act_at.take_if(|when| *when <= now).is_some() && at.under_way.is_none() {
            self.act(client, at).await?;
        }
        Ok(())
    }

    async fn act(&mut self, client: &mut Client, at: &mut AtTable) -> anyhow::Result<()> {
        let (Some(placed), Some((_, view))) = (at.placed, &at.view) else { return Ok(()) };
        if view["status"] == "ended" {
            // Whoever follows an ended table any longer sees nothing more.
            self.leave(client, at, placed.table).await?;
            self.finish(at, placed.table);
            return Ok(());
        }
        let Some(command) = at.choice(self.script, &mut self.dice) else { return Ok(()) };
        at.commands += 1;
        let id = format!("{}-{}", self.name, at.commands);
        let frame =
            json!({ "type": "command", "id": id, "table": placed.table, "command": command });
        at.notes.sending(placed.table, &self.name, &id);
        at.under_way = Some(UnderWay { id, frame: frame.clone(), send_at: None });
        client.send(&frame).await
    }
}

impl AtTable {
    fn sit_at(&mut self, placed: Placed) {
        self.placed = Some(placed);
        (self.view, self.decided_at, self.act_at) = (None, 0, None);
    }

    /// What there is to do in the newest view.
    fn choice(&self, script: &dyn Script, dice: &mut ChaCha20Rng) -> Option<Value> {
        let (seq, view) = self.view.as_ref()?;
        if *seq < self.decided_at {
            return None;
        }
        match (view["status"].as_str()?, view["you"].as_u64()) {
            ("waiting", None) => Some(json!({ "type": "table.sit" })),
            ("running", Some(seat)) => script.choose(&view["game"], u8::try_from(seat).ok()?, dice),
            _ => None,
        }
    }

    /// Whether there is anything to do.
    fn wish(&self, script: &dyn Script, dice: &mut ChaCha20Rng) -> bool {
        let has_ended = self.view.as_ref().is_some_and(|(_, view)| view["status"] == "ended");
        has_ended || self.choice(script, &mut dice.clone()).is_some()
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
