//! What stands between clients and workers, as a gateway does: it says who is there, follows tables, takes commands
//! to their owners, and gets tables adopted whose owner is silent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use rand_chacha::ChaCha20Rng;
use tablecast::bus::{Bus, RequestError};
use tablecast::domain::{Identity, Kind, PlayerId, PresenceChange, TableId, WorkerId};
use tablecast::protocol::request::{
    AdoptRequest, Adoption, Beat, CommandRequest, GatewayBeat, OpenRequest, PresenceNotice,
    Refusal, TableRequest, Verdict, decode, encode,
};
use tablecast::protocol::subject;
use tablecast::runtime::process::Process;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::chance::{dice, millis};
use crate::followed::Followed;
use crate::node::Life;
use crate::world::World;

const BEAT: Duration = Duration::from_millis(250);
/// How long an owner may be silent.
const SILENCE: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long one worker has for an answer, and how long all of them have.
const ASK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(4);

/// One such process.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) world: World,
    pub(crate) bus: Bus,
    pub(crate) tables: Mutex<BTreeMap<TableId, Arc<Followed>>>,
    heard: Mutex<BTreeMap<WorkerId, Instant>>,
    asked: Mutex<BTreeMap<TableId, Instant>>,
    started: Instant,
    dice: Mutex<ChaCha20Rng>,
}

/// Opens a door at a place.
pub(crate) fn start(world: &World, place: &str, life: &Life) {
    let door = Arc::new(Door {
        name: life.name.clone(),
        process: life.process.clone(),
        world: world.clone(),
        bus: life.bus.clone(),
        tables: Mutex::default(),
        heard: Mutex::default(),
        asked: Mutex::default(),
        started: Instant::now(),
        dice: Mutex::new(dice(world.seed, &life.name)),
    });
    world.open_doors.lock().expect("unbroken").insert(place.to_owned(), Arc::clone(&door));
    world.spawn_in(&life.process, beat(Arc::clone(&door)));
    world.spawn_in(&life.process, hear(Arc::clone(&door)));
    world.spawn_in(&life.process, look_after(door));
}

/// Says that it is alive, and who has gone.
async fn beat(door: Arc<Door>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Instant::now();
    loop {
        beats.tick().await;
        let beat = encode(&GatewayBeat { gateway: door.name.clone(), goodbye: false });
        if door.bus.mail.notify(subject::gate(&door.name), beat).await.is_err() {
            continue;
        }
        let was_silent = said.elapsed() > SILENCE;
        said = Instant::now();
        for followed in door.followed() {
            for player in followed.gone() {
                door.say(followed.table, player, PresenceChange::Went).await;
            }
            if was_silent {
                // Its players may count as gone.
                door.call_the_roll(&followed).await;
            }
        }
    }
}

async fn hear(door: Arc<Door>) {
    loop {
        if let Ok(mut beats) = door.bus.mail.listen(subject::BEATS.to_owned()).await {
            while let Some(beat) = beats.next().await {
                let beat: Beat = decode(&beat).expect("a beat");
                let mut heard = door.heard.lock().expect("unbroken");
                if beat.goodbye {
                    heard.remove(&beat.worker);
                } else {
                    heard.insert(beat.worker, Instant::now());
                }
            }
        }
        sleep(BEAT).await;
    }
}

/// Gets tables adopted whose owner has not been heard for a while.
async fn look_after(door: Arc<Door>) {
    let mut looks = interval(BEAT);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let mut asking = Vec::new();
        for followed in door.followed() {
            if door.is_orphan(&followed) {
                let jitter = millis(&mut door.dice.lock().expect("unbroken"), 0..300);
                let door = Arc::clone(&door);
                asking.push(async move {
                    sleep(jitter).await;
                    door.adopt(followed.table, &followed.kind).await;
                });
            }
        }
        futures_util::future::join_all(asking).await;
    }
}

impl Door {
    fn followed(&self) -> Vec<Arc<Followed>> {
        self.tables.lock().expect("unbroken").values().cloned().collect()
    }

    fn is_orphan(&self, followed: &Followed) -> bool {
        let now = Instant::now();
        let Some((owner, since)) = followed.owner() else {
            return false;
        };
        let heard = self.heard.lock().expect("unbroken").get(&owner).copied();
        let silent = now.duration_since(heard.unwrap_or(self.started.max(since))) > SILENCE;
        let mut asked = self.asked.lock().expect("unbroken");
        let again =
            asked.get(&followed.table).is_none_or(|asked| now.duration_since(*asked) > ASK_AGAIN);
        if silent && again {
            asked.insert(followed.table, now);
        }
        silent && again
    }

    /// Has a table adopted; why it never will be.
    async fn adopt(&self, table: TableId, kind: &Kind) -> Option<Refusal> {
        let request = encode(&AdoptRequest::new(table));
        let answer = self.bus.mail.request(subject::adopt(kind), request, ASK * 2).await;
        let adoption: Adoption = decode(&answer.ok()?).expect("an adoption");
        self.world.trace.line(format_args!("{} {table} {adoption:?}", self.name));
        match adoption {
            Adoption::Declined(refusal) if refusal.retry_after_ms.is_none() => Some(refusal),
            Adoption::Declined(_) | Adoption::Owned { .. } => None,
        }
    }

    /// Tells whoever owns the table.
    pub(crate) async fn say(&self, table: TableId, player: PlayerId, change: PresenceChange) {
        let gateway = self.name.clone();
        let notice = encode(&PresenceNotice { table, player, gateway, change });
        self.bus.mail.notify(subject::seat(table), notice).await.ok();
    }

    /// A client looks at a table through this door from now on.
    pub(crate) fn attach(
        self: &Arc<Self>,
        (table, kind): (TableId, &Kind),
        client: &str,
        who: Option<&Identity>,
    ) -> Arc<Followed> {
        let followed = {
            let mut tables = self.tables.lock().expect("unbroken");
            let followed = tables.entry(table).or_insert_with(|| {
                let followed = Arc::new(Followed::new(table, kind.clone()));
                let follow = crate::followed::follow(Arc::clone(self), Arc::clone(&followed));
                self.world.spawn_in(&self.process, follow);
                followed
            });
            Arc::clone(followed)
        };
        followed.attach(&self.world, client, who);
        if let Some(Identity { player, .. }) = who {
            let (door, player) = (Arc::clone(self), player.clone());
            self.world.spawn_in(&self.process, async move {
                door.say(table, player, PresenceChange::Came).await;
            });
        }
        followed
    }

    /// New owners know nobody.
    pub(crate) async fn call_the_roll(&self, followed: &Followed) {
        for player in followed.players() {
            self.say(followed.table, player, PresenceChange::Came).await;
        }
    }

    /// Forgets tables that nobody looks at through this door.
    pub(crate) fn is_watched(&self, followed: &Followed) -> bool {
        let is_watched = followed.is_watched();
        let mut tables = self.tables.lock().expect("unbroken");
        let is_this =
            tables.get(&followed.table).is_some_and(|here| std::ptr::eq(&**here, followed));
        if !is_watched && is_this {
            tables.remove(&followed.table);
        }
        is_watched
    }

    /// Takes a command to the table's owner, and its verdict back; nothing if nobody can be found in time.
    pub(crate) async fn command(
        &self,
        (table, kind): (TableId, &Kind),
        mut request: CommandRequest,
    ) -> Option<Verdict> {
        request.gateway = Some(self.name.clone());
        let payload = encode(&TableRequest::Command(request));
        let ask = async {
            loop {
                let subject = subject::cmd(table);
                match self.bus.mail.request(subject, payload.clone(), ASK).await {
                    Ok(answer) => match decode::<Verdict>(&answer).expect("a verdict") {
                        Verdict::Rejected(refusal) if refusal.retry_after_ms.is_some() => {}
                        verdict @ (Verdict::Accepted { .. } | Verdict::Rejected(_)) => {
                            return verdict;
                        }
                    },
                    Err(RequestError::NoResponders) => {
                        if let Some(refusal) = self.adopt(table, kind).await {
                            return Verdict::Rejected(refusal);
                        }
                    }
                    Err(RequestError::Unreachable | RequestError::Timeout) => {}
                }
                let pause = millis(&mut self.dice.lock().expect("unbroken"), 10..100);
                sleep(pause).await;
            }
        };
        timeout(PATIENCE, ask).await.ok()
    }

    /// Has a table opened.
    pub(crate) async fn open(&self, kind: &Kind, request: &OpenRequest) -> Option<Verdict> {
        let payload = encode(request);
        let ask = async {
            loop {
                let subject = subject::open(kind);
                let answer = self.bus.mail.request(subject, payload.clone(), ASK).await;
                match answer.map(|answer| decode::<Verdict>(&answer).expect("a verdict")) {
                    Ok(Verdict::Rejected(refusal)) if refusal.retry_after_ms.is_some() => {}
                    Ok(verdict) => return verdict,
                    Err(_) => {}
                }
                sleep(ASK_AGAIN / 10).await;
            }
        };
        timeout(PATIENCE, ask).await.ok()
    }
}
