//! A table as a door follows it: folded from the log, shown to clients, gaps repaired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tablecast::bus::{Entry, Stored};
use tablecast::catalog::{FannedOut, Replica};
use tablecast::domain::{Identity, Kind, PlayerId, Status, StreamSeq, TableId, Viewer, WorkerId};
use tablecast::protocol::frame::Format;
use tablecast::runtime::watched::{Watched, Watcher};
use tokio::time::{Instant, sleep, timeout};

use crate::checker::history::Seen;
use crate::door::Door;
use crate::world::World;

/// How often the log is looked at when nothing comes.
const LOOK: Duration = Duration::from_secs(2);
/// How long it is said that a player has gone: longer than anything is broken.
const SAID_AGAIN: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(200);

/// One table at one door.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) table: TableId,
    pub(crate) kind: Kind,
    state: Mutex<State>,
    changed: Watched<()>,
}

#[derive(Debug, Default)]
struct State {
    replica: Option<Box<dyn Replica>>,
    last: StreamSeq,
    owner: Option<(WorkerId, Instant)>,
    is_buried: bool,
    viewings: BTreeMap<String, Viewing>,
    gone: BTreeMap<PlayerId, Instant>,
}

/// One client that looks at the table.
#[derive(Debug)]
struct Viewing {
    /// Tells this connection from those before and after it.
    connection: u64,
    player: Option<PlayerId>,
    /// Nothing until it has got a snapshot.
    viewer: Option<Viewer>,
}

/// What a client knows of its table.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) seat: Option<u8>,
    pub(crate) status: Status,
    pub(crate) game: Value,
}

impl Followed {
    pub(crate) fn new(table: TableId, kind: Kind) -> Self {
        Self { table, kind, state: Mutex::default(), changed: Watched::default() }
    }

    pub(crate) fn watch(&self) -> Watcher<()> {
        self.changed.watch()
    }

    /// Who owns the table, as far as is known here, and since when; nobody need once it is over.
    pub(crate) fn owner(&self) -> Option<(WorkerId, Instant)> {
        let state = self.state.lock().expect("unbroken");
        let is_over = state.is_buried
            || state.replica.as_ref().is_some_and(|replica| replica.status() == Status::Ended);
        state.owner.clone().filter(|_| !is_over)
    }

    pub(crate) fn is_buried(&self) -> bool {
        self.state.lock().expect("unbroken").is_buried
    }

    pub(crate) fn attach(&self, world: &World, client: &str, who: Option<&Identity>) {
        let connection = world.with_notebook(client, |notebook| {
            notebook.connections += 1;
            notebook.connections
        });
        world.note(client, self.table, Seen::Subscribing { cursor: None });
        let player = who.map(|who| who.player.clone());
        let viewing = Viewing { connection, player: player.clone(), viewer: None };
        let mut state = self.state.lock().expect("unbroken");
        if state.is_buried {
            let reason = "archived".to_owned();
            return world.note(client, self.table, Seen::Unsubscribed { reason });
        }
        if let Some(player) = player {
            state.gone.remove(&player);
        }
        state.viewings.insert(client.to_owned(), viewing);
        state.show_newcomers(world, self.table);
    }

    /// Players whose connection to this door is gone. A worker that was cut off has not heard of it, so it is said
    /// again for a while.
    pub(crate) fn gone(&self) -> Vec<PlayerId> {
        let mut state = self.state.lock().expect("unbroken");
        state.gone.retain(|_, since| since.elapsed() < SAID_AGAIN);
        state.gone.keys().cloned().collect()
    }

    pub(crate) fn players(&self) -> Vec<PlayerId> {
        let state = self.state.lock().expect("unbroken");
        state.viewings.values().filter_map(|viewing| viewing.player.clone()).collect()
    }

    pub(crate) fn is_watched(&self) -> bool {
        let state = self.state.lock().expect("unbroken");
        !state.viewings.is_empty() || !state.gone.is_empty()
    }

    /// What a player sees, once there is anything to be seen.
    pub(crate) fn shown(&self, player: &PlayerId) -> Option<Shown> {
        let state = self.state.lock().expect("unbroken");
        let replica = state.replica.as_ref()?;
        let seat = replica.seat_of(player);
        let viewer = seat.map_or(Viewer::Spectator, Viewer::Seated);
        let mut frame: Value =
            serde_json::from_slice(&replica.snapshot(viewer, Format::Json)).expect("JSON");
        let game = frame["view"]["game"].take();
        Some(Shown { seat: seat.map(|seat| seat.0), status: replica.status(), game })
    }

    /// Whether a claim is among these entries.
    fn take_all(&self, world: &World, entries: &[Entry]) -> bool {
        let mut state = self.state.lock().expect("unbroken");
        let mut is_claimed = false;
        for entry in entries.iter().filter(|entry| entry.address.table == self.table) {
            if entry.seq > state.last {
                is_claimed |= state.take(world, entry);
                state.last = entry.seq;
            }
        }
        drop(state);
        self.changed.set(());
        is_claimed
    }
}

impl State {
    fn take(&mut self, world: &World, entry: &Entry) -> bool {
        let table = entry.address.table;
        if entry.what == Stored::Tombstone {
            self.is_buried = true;
            for client in self.connected(world) {
                let reason = "archived".to_owned();
                world.note(&client, table, Seen::Unsubscribed { reason });
            }
            self.viewings.clear();
            return false;
        }
        let folded = match &mut self.replica {
            Some(replica) => replica.fold(&entry.payload, entry.stored_at),
            None => {
                let rules = world.catalog.get(&entry.address.kind).expect("a game");
                rules.replica(table, &entry.payload, entry.stored_at).map(|(replica, commit)| {
                    self.replica = Some(replica);
                    commit
                })
            }
        };
        match folded {
            Ok(commit) => {
                if let Some(worker) = &entry.worker {
                    let since = self.owner.as_ref().filter(|(owner, _)| owner == worker);
                    let since = since.map_or_else(Instant::now, |(_, since)| *since);
                    self.owner = Some((worker.clone(), since));
                }
                self.show(world, table, &*commit);
                commit.new_owner().is_some()
            }
            Err(error) => {
                world
                    .trace
                    .line(format_args!("{table} {} does not fold: {error}", entry.seq.get()));
                false
            }
        }
    }

    /// Shows a commit to everyone who has seen those before it, and a snapshot to everyone else.
    fn show(&mut self, world: &World, table: TableId, commit: &dyn FannedOut) {
        let connected = self.connected(world);
        let replica = self.replica.as_ref().expect("folded above");
        for client in connected {
            let viewing = self.viewings.get_mut(&client).expect("connected");
            let Some(viewer) = viewing.viewer else { continue };
            let seat = viewing.player.as_ref().and_then(|player| replica.seat_of(player));
            if viewer.seat() != seat {
                // It sees other things now: it begins anew.
                viewing.viewer = None;
                continue;
            }
            let frame = commit.frame(viewer, Format::Json);
            world.note(&client, table, Seen::Commit { seq: commit.seq().get(), frame });
        }
        self.show_newcomers(world, table);
    }

    fn show_newcomers(&mut self, world: &World, table: TableId) {
        let Some(replica) = &self.replica else { return };
        for (client, viewing) in &mut self.viewings {
            if viewing.viewer.is_some() {
                continue;
            }
            let seat = viewing.player.as_ref().and_then(|player| replica.seat_of(player));
            let viewer = seat.map_or(Viewer::Spectator, Viewer::Seated);
            let (seq, frame) = (replica.last_seq().get(), replica.snapshot(viewer, Format::Json));
            let seat = seat.map(|seat| seat.0);
            world.note(client, table, Seen::Subscribed { seat, recovered: false });
            world.note(client, table, Seen::Snapshot { seq, frame });
            viewing.viewer = Some(viewer);
        }
    }

    /// Clients that are still connected here. The others leave.
    fn connected(&mut self, world: &World) -> Vec<String> {
        let gone = self.viewings.extract_if(.., |client, viewing| {
            let connection = world.with_notebook(client, |notebook| notebook.connections);
            connection != viewing.connection
        });
        let now = Instant::now();
        let gone = gone.filter_map(|(_, viewing)| Some((viewing.player?, now)));
        self.gone.extend(gone);
        self.viewings.keys().cloned().collect()
    }
}

/// Follows a table until it is over or nobody looks at it.
pub(crate) async fn follow(door: Arc<Door>, followed: Arc<Followed>) {
    while !followed.is_buried() && door.is_watched(&followed) {
        if let Ok(mut live) = door.bus.log.follow(followed.table).await {
            loop {
                let last = followed.state.lock().expect("unbroken").last;
                let Ok(entries) = door.bus.log.read(followed.table, last.next()).await else {
                    break;
                };
                let is_claimed = followed.take_all(&door.world, &entries);
                if is_claimed {
                    door.call_the_roll(&followed).await;
                }
                if !follow_live(&door, &followed, &mut live).await {
                    break;
                }
            }
        }
        sleep(AGAIN).await;
    }
}

/// Takes in what comes, until there is a gap or a pause; whether to go on.
async fn follow_live(
    door: &Door,
    followed: &Followed,
    live: &mut futures_util::stream::BoxStream<'static, Entry>,
) -> bool {
    loop {
        followed.state.lock().expect("unbroken").connected(&door.world);
        if followed.is_buried() || !door.is_watched(followed) {
            return false;
        }
        match timeout(LOOK, live.next()).await {
            Ok(Some(entry)) => {
                let last = followed.state.lock().expect("unbroken").last;
                if entry.previous > last {
                    return true;
                }
                if followed.take_all(&door.world, &[entry]) {
                    door.call_the_roll(followed).await;
                }
            }
            Ok(None) => return false,
            Err(_elapsed) => return true,
        }
    }
}
