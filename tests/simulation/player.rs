//! Clients: players who play by what they are shown, and one who only looks. They come back through another door
//! when theirs is gone, and send a command again until they have a verdict.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use tablecast::domain::{Identity, Kind, Seat, Seating, Status, TableId};
use tablecast::protocol::request::{CommandRequest, OpenRequest, Verdict};
use tablecast::runtime::entropy::Entropy;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::chance::{dice, millis, seed_of};
use crate::checker::history::{Command, Seen, Verdict as Told};
use crate::door::Door;
use crate::followed::Followed;
use crate::nemesis;
use crate::plan::Game;
use crate::world::World;

/// How long a client waits for an answer before it takes its connection for dead.
const DEAD_MS: u64 = 6_000;

/// Someone at a table, or someone who looks at it.
struct Client {
    world: World,
    name: String,
    identity: Identity,
    is_player: bool,
    table: TableId,
    kind: Kind,
    dice: ChaCha20Rng,
    commands: u32,
    at: Option<(Arc<Door>, Arc<Followed>)>,
}

/// Sends the clients of a table on their way.
pub(crate) fn seat(world: &World, number: usize) {
    let game = world.plan.games[number].clone();
    let table = Entropy::from_seed(seed_of(world.seed, &format!("table {number}")))
        .table_id(world.clock.now());
    let kind: Kind = game.script.kind().parse().expect("a kind");
    let guests = game.opening.guests;
    let client = |name: String, is_player| Client {
        world: world.clone(),
        identity: Identity { player: name.parse().expect("a player"), name: name.to_uppercase() },
        is_player,
        table,
        kind: kind.clone(),
        dice: dice(world.seed, &name),
        commands: 0,
        at: None,
        name,
    };
    let host = client(format!("host{number}"), true);
    let others: Vec<Client> = (0..guests)
        .map(|guest| client(format!("guest{number}-{guest}"), true))
        .chain([client(format!("looker{number}"), false)])
        .collect();
    let world = world.clone();
    world.tasks.clone().spawn(async move {
        sleep(Duration::from_millis(game.begins_ms)).await;
        world.tape.follow(&world, table).await;
        let over = world.over.clone();
        let play = async move {
            let mut host = host;
            host.open(&game).await;
            for mut other in others {
                let game = game.clone();
                let over = world.over.clone();
                let play = async move { other.play(&game).await };
                world.tasks.spawn(async move {
                    over.run_until_cancelled(play).await;
                });
            }
            host.play(&game).await;
        };
        over.run_until_cancelled(play).await;
    });
}

impl Client {
    async fn open(&mut self, game: &Game) {
        let seats = game.opening.seats.as_array().expect("seats").iter().map(|seat| match seat {
            seat if seat == "me" => Seating::Human {
                player: self.identity.player.clone(),
                name: self.identity.name.clone(),
            },
            seat if seat == "bot" => Seating::Bot,
            _ => Seating::Open,
        });
        let mut tries = 1;
        let mut request = OpenRequest {
            table: self.table,
            by: self.identity.clone(),
            id: "open".parse().expect("an id"),
            setup: game.opening.setup.clone(),
            options: serde_json::from_value(game.opening.options.clone()).expect("options"),
            seats: seats.collect(),
            host: Some(Seat(0)),
            request: None,
        };
        let mut number = self.begin("open");
        loop {
            let door = self.a_door().await;
            let asked = request.clone();
            let kind = self.kind.clone();
            let ask = move |door: Arc<Door>| async move { door.open(&kind, &asked).await };
            let told = self.through(&door, number, ask).await;
            if self.with(number, |command| command.accepted().is_some()) {
                return;
            }
            if told {
                // The log was full, and the verdict is final: another wish.
                tries += 1;
                let id = format!("open{tries}");
                number = self.begin(&id);
                request.id = id.parse().expect("an id");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn play(&mut self, game: &Game) {
        let leaves_at = game.deserted_after_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        if self.is_player && self.name.starts_with("guest") {
            // The log may have been full.
            while self.send(json!({ "type": "table.sit" })).await == Some("unavailable".to_owned())
            {
                sleep(Duration::from_millis(500)).await;
            }
        }
        loop {
            if leaves_at.is_some_and(|at| at <= Instant::now()) {
                self.detach();
                return;
            }
            let followed = self.attached().await;
            let mut changed = followed.watch();
            if followed.is_buried() {
                return;
            }
            match self.wish(game, &followed) {
                Some(command) => {
                    let think = match self.dice.random_bool(0.1) {
                        true => millis(&mut self.dice, 500..2_500),
                        false => millis(&mut self.dice, 10..250),
                    };
                    sleep(think).await;
                    // What is wished for may have become wrong meanwhile: so much the better.
                    self.send(command).await;
                }
                None => {
                    let wait = millis(&mut self.dice, 300..900);
                    timeout(wait, changed.changed()).await.ok();
                }
            }
            if self.dice.random_bool(0.01) {
                self.detach();
                let away = millis(&mut self.dice, 200..4_000);
                sleep(away).await;
            }
        }
    }

    /// What to do next; now and then something wrong.
    fn wish(&mut self, game: &Game, followed: &Followed) -> Option<Value> {
        if !self.is_player {
            return None;
        }
        let shown = followed.shown(&self.identity.player)?;
        if shown.status != Status::Running {
            return None;
        }
        if self.dice.random_bool(0.03) {
            let wrong = [
                json!({ "type": "take", "count": 77 }),
                json!({ "type": "take", "count": 1 }),
                json!({ "type": "nonsense" }),
                json!({ "type": "table.start" }),
            ];
            return Some(wrong[self.dice.random_range(0..wrong.len())].clone());
        }
        game.script.choose(&shown.game, shown.seat?, &mut self.dice)
    }

    /// Sends a command until there is a verdict; sometimes once more after it. The code of a rejection.
    async fn send(&mut self, command: Value) -> Option<String> {
        self.commands += 1;
        let id = format!("c{}", self.commands);
        let number = self.begin(&id);
        let request = CommandRequest {
            by: self.identity.clone(),
            id: id.parse().expect("an id"),
            command,
            gateway: None,
            request: None,
        };
        loop {
            let door = self.a_door().await;
            let (table, kind, request) = (self.table, self.kind.clone(), request.clone());
            let told = self
                .through(&door, number, move |door| async move {
                    door.command((table, &kind), request).await
                })
                .await;
            let accepted = told && self.with(number, |command| command.accepted().is_some());
            if told && !(accepted && self.dice.random_bool(0.15)) {
                return self.with(number, |command| command.rejected()).filter(|_| !accepted);
            }
            if told {
                let pause = millis(&mut self.dice, 0..400);
                sleep(pause).await;
            }
        }
    }

    /// One try, through a door; whether there is a verdict that will not pass.
    async fn through<F>(
        &mut self,
        door: &Arc<Door>,
        number: usize,
        ask: impl FnOnce(Arc<Door>) -> F + Send + 'static,
    ) -> bool
    where
        F: Future<Output = Option<Verdict>> + Send,
    {
        let at_ms = self.world.now_ms();
        self.with(number, |command| command.sent_ms.push(at_ms));
        let (answer, answered) = oneshot::channel();
        let asked = Arc::clone(door);
        self.world.spawn_in(&door.process, async move {
            if let Some(verdict) = ask(asked).await {
                answer.send(verdict).ok();
            }
        });
        let answered = timeout(Duration::from_millis(DEAD_MS), answered).await;
        let Ok(answered) = answered else {
            // Nothing at all came back: this door is dead.
            self.detach();
            return false;
        };
        let at_ms = self.world.now_ms();
        let told = match answered {
            Ok(Verdict::Accepted { seq }) => Told::Accepted { seq: seq.get() },
            Ok(Verdict::Rejected(refusal)) => Told::Rejected { code: refusal.code },
            Err(_nobody) => Told::Later { code: "unavailable".to_owned() },
        };
        let (name, is_final) = (&self.name, !matches!(told, Told::Later { .. }));
        self.world.trace.line(format_args!("{name} {number} is told {told:?}"));
        self.with(number, |command| command.verdicts.push((at_ms, told)));
        if !is_final {
            let pause = millis(&mut self.dice, 50..300);
            sleep(pause).await;
        }
        is_final
    }

    /// A new command in the notebook: its number.
    fn begin(&self, id: &str) -> usize {
        let command = Command {
            table: self.table,
            player: self.identity.player.to_string(),
            id: id.to_owned(),
            sent_ms: Vec::new(),
            connections: 1,
            took_us: None,
            verdicts: Vec::new(),
        };
        self.world.with_notebook(&self.name, |notebook| {
            notebook.commands.push(command);
            notebook.commands.len() - 1
        })
    }

    fn with<T>(&self, number: usize, change: impl FnOnce(&mut Command) -> T) -> T {
        self.world.with_notebook(&self.name, |notebook| change(&mut notebook.commands[number]))
    }

    async fn a_door(&mut self) -> Arc<Door> {
        self.attached().await;
        Arc::clone(&self.at.as_ref().expect("attached").0)
    }

    /// The table through a door that is open, another one if need be.
    async fn attached(&mut self) -> Arc<Followed> {
        loop {
            let is_open = self.at.as_ref().is_some_and(|(door, _)| self.is_open(door));
            if let Some((_, followed)) = self.at.as_ref().filter(|_| is_open) {
                return Arc::clone(followed);
            }
            if self.at.is_some() {
                self.detach();
                let noticed = millis(&mut self.dice, 100..1_500);
                sleep(noticed).await;
            }
            let place = nemesis::open_door(&self.world, &mut self.dice);
            let door = place.and_then(|place| {
                self.world.open_doors.lock().expect("unbroken").get(&place).map(Arc::clone)
            });
            match door {
                Some(door) => {
                    let who = self.is_player.then_some(&self.identity);
                    let followed = door.attach((self.table, &self.kind), &self.name, who);
                    self.at = Some((door, followed));
                }
                None => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// A door that hangs is open for as long as nobody wants anything of it.
    fn is_open(&self, door: &Door) -> bool {
        let lives = self.world.doors().iter().map(crate::node::Node::life);
        lives.into_iter().any(|life| life.name == door.name && life.is_alive && !life.is_hung)
    }

    fn detach(&mut self) {
        if self.at.take().is_some() {
            // Another connection: what still comes through the old one is not seen.
            self.world.with_notebook(&self.name, |notebook| notebook.connections += 1);
            self.world.note(&self.name, self.table, Seen::Lost);
        }
    }
}
