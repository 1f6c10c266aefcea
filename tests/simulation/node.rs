//! One process of the simulated system: it can be killed, stopped, continued, asked to stop, cut off and restarted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::ObjectStore;
use tablecast::archiver::{self, ArchiverConfig};
use tablecast::bus::Bus;
use tablecast::bus::memory::Faults;
use tablecast::domain::Timestamp;
use tablecast::runtime::clock::Clock;
use tablecast::runtime::config::from_args;
use tablecast::runtime::entropy::Entropy;
use tablecast::runtime::process::Process;
use tablecast::worker::{self, WorkerConfig};
use tokio_util::sync::CancellationToken;

use crate::chance::{dice, seed_of};
use crate::world::World;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Archiver,
    Door,
}

/// A place for a process: after a crash another one takes it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) role: Role,
    /// As in `w1`.
    pub(crate) place: String,
    /// How far its clock is ahead of the log's.
    pub(crate) skew_ms: u64,
    life: Mutex<Life>,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) stop: CancellationToken,
    pub(crate) faults: Faults,
    pub(crate) bus: Bus,
    pub(crate) is_alive: bool,
    pub(crate) is_hung: bool,
    pub(crate) is_cut: bool,
}

impl Life {
    /// Whether it answers.
    pub(crate) fn is_well(&self) -> bool {
        self.is_alive && !self.is_hung && !self.is_cut
    }
}

impl Node {
    /// How much the clocks of two processes differ at most.
    pub(crate) const SKEW_MAX_MS: u64 = 40;

    /// A place with its first process, not yet running.
    pub(crate) fn new(world: &World, role: Role, place: &str, skew_ms: u64) -> Self {
        let life = Mutex::new(life(world, role, place, 1));
        Self { role, place: place.to_owned(), skew_ms, life }
    }

    pub(crate) fn life(&self) -> Life {
        self.life.lock().expect("unbroken").clone()
    }

    fn change(&self, change: impl FnOnce(&mut Life)) {
        change(&mut self.life.lock().expect("unbroken"));
    }

    /// From one moment to the next it is gone.
    pub(crate) fn kill(&self, world: &World) {
        let life = self.life();
        if life.is_alive {
            world.trace.line(format_args!("kill {}", life.name));
            life.process.kill();
            self.change(|life| life.is_alive = false);
            world.note_death(&life.name);
            world.note_trouble(&life.name);
        }
    }

    pub(crate) fn drain(&self, world: &World) {
        world.note_trouble(&self.life().name);
        world.trace.line(format_args!("drain {}", self.life().name));
        self.life().stop.cancel();
    }

    pub(crate) fn hang(&self, world: &World) {
        world.note_trouble(&self.life().name);
        world.trace.line(format_args!("hang {}", self.life().name));
        self.life().process.stop();
        self.change(|life| life.is_hung = true);
    }

    pub(crate) fn go_on(&self, world: &World) {
        world.trace.line(format_args!("go on {}", self.life().name));
        self.life().process.go_on();
        self.change(|life| life.is_hung = false);
    }

    pub(crate) fn set_cut(&self, world: &World, is_cut: bool) {
        world.trace.line(format_args!("cut {} {is_cut}", self.life().name));
        self.life().faults.set_outage(is_cut);
        world.note_trouble(&self.life().name);
        self.change(|life| life.is_cut = is_cut);
    }

    /// Another process in its place, if there is none.
    pub(crate) fn restart(&self, world: &World) {
        if !self.life().is_alive {
            let next = life(world, self.role, &self.place, self.life().number + 1);
            self.change(|life| *life = next);
            self.start(world);
        }
    }

    pub(crate) fn start(&self, world: &World) {
        let life = self.life();
        world.trace.line(format_args!("start {}", life.name));
        world.started.lock().expect("unbroken").insert(life.name.clone(), world.now_ms());
        match self.role {
            Role::Worker => self.start_worker(world, life),
            Role::Archiver => start_archiver(world, life),
            Role::Door => {
                crate::door::start(world, &self.place, &life);
            }
        }
    }

    fn start_worker(&self, world: &World, life: Life) {
        let skewed = Timestamp::from_millis(world.epoch.as_millis() + self.skew_ms);
        let Clock::Simulated { start, .. } = world.clock else { panic!("it is simulated") };
        let clock = Clock::Simulated { epoch: skewed, start };
        let entropy = Entropy::from_seed(seed_of(world.seed, &life.name));
        let mut args = vec!["--worker-id", &life.name];
        args.extend(world.plan.worker_args.iter().copied());
        let config: WorkerConfig = from_args(&args).expect("options");
        let run = worker::run(
            config,
            life.bus.clone(),
            world.catalog.clone(),
            (clock, entropy),
            life.stop.clone(),
        );
        // Boxed here, so that the tasks that carry it stay small.
        let run = Box::pin(run);
        let (world, place) = (world.clone(), self.place.clone());
        world.tasks.clone().spawn(async move {
            let ended = life.process.run(run).await;
            if let Some(result) = ended {
                world.trace.line(format_args!("stopped {}: {result:?}", life.name));
                let node = world.workers().iter().find(|node| node.place == place);
                node.expect("its place").change(|now| {
                    if now.number == life.number {
                        now.is_alive = false;
                    }
                });
                world.note_death(&life.name);
                world.note_trouble(&life.name);
            }
        });
    }
}

fn life(world: &World, role: Role, place: &str, number: u32) -> Life {
    let name = format!("{place}-{number}");
    let (mut bus, faults) = world.network.connect();
    if role == Role::Worker {
        bus.log = world.plan.defect.applied_to(bus.log);
    }
    let dice = Mutex::new(dice(world.seed, &format!("wire of {name}")));
    bus.log = Arc::new(crate::wire::Wire { log: bus.log, dice });
    faults.set_delay(Duration::from_millis(u64::from(number % 3)));
    Life {
        number,
        name,
        process: Process::default(),
        stop: CancellationToken::new(),
        faults,
        bus,
        is_alive: true,
        is_hung: false,
        is_cut: false,
    }
}

fn start_archiver(world: &World, life: Life) {
    let mut config: ArchiverConfig = from_args(&[]).expect("options");
    config.batch_age = Duration::from_secs(2);
    config.backoff_max = Duration::from_secs(2);
    config.jitter_seed = world.seed;
    let store: Arc<dyn ObjectStore> = Arc::<object_store::memory::InMemory>::clone(&world.store);
    let run = archiver::run(config, life.bus.clone(), store, world.clock, life.stop.clone());
    let run = Box::pin(run);
    let world = world.clone();
    world.tasks.clone().spawn(async move {
        if let Some(result) = life.process.run(run).await {
            world.trace.line(format_args!("stopped {}: {result:?}", life.name));
        }
    });
}
