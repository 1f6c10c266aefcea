//! A whole system in one thread, with time and chance of its own: workers, what stands between them and clients, the
//! archiver, clients, and faults by a seed. The same seed gives the same bytes.
//!
//! `SIM_SEED=123 cargo test --test simulation one` plays one seed and prints what happened.

#[path = "../support/checker/mod.rs"]
mod checker;
#[path = "../chaos/planted/logs.rs"]
mod defects;
#[path = "../support/pebbles.rs"]
mod pebbles;
#[path = "../support/scripts/mod.rs"]
mod scripts;

mod chance;
mod door;
mod fairness;
mod followed;
mod judge;
mod nemesis;
mod node;
mod plan;
mod player;
mod tape;
mod trace;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use checker::Findings;
use plan::{Defect, Plan};
use world::World;

/// How many seeds are played.
const SEEDS: u64 = 320;
/// One in so many is played twice.
const TWICE: u64 = 20;
/// What must have happened in all of them together, or they prove little.
const SEEN: [&str; 7] = [
    "archived games",
    "claims that gave time back",
    "commands sent again",
    "flags that fell",
    "hidden commits seen as a bare seq",
    "limits of pebbles that ran out",
    "turn limits that ran out",
];

/// What a seed has come to.
struct Played {
    seed: u64,
    findings: Findings,
    trace: Vec<String>,
}

fn play(seed: u64, defect: Defect) -> Played {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, Plan::of(seed, defect));
        world.play().await;
        let findings = judge::judge(&world).await;
        Played { seed, findings, trace: world.trace.lines() }
    })
}

/// Plays these seeds on all cores, and does something with each.
fn for_each(seeds: Range<u64>, then: impl Fn(Played) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    then(play(seed, Defect::None));
                }
            });
        }
    });
}

impl Played {
    fn broken(&self) -> Option<String> {
        let violations = &self.findings.violations;
        if violations.is_empty() {
            return None;
        }
        let seed = self.seed;
        let mut text = format!("SIM_SEED={seed} cargo test --test simulation one -- --nocapture\n");
        text.extend(violations.iter().take(5).map(|violation| format!("  {violation}\n")));
        Some(text)
    }
}

/// A number from outside, for whoever looks into something.
fn from_outside(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let given = std::env::var(name).ok()?;
    Some(given.parse().expect("a number"))
}

#[test]
fn whatever_breaks_the_promises_are_kept() {
    let broken = Mutex::new(Vec::new());
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let first = from_outside("SIM_FROM").unwrap_or_default();
    let seeds = first..first + from_outside("SIM_SEEDS").unwrap_or(SEEDS);
    for_each(seeds, |played| {
        broken.lock().unwrap().extend(played.broken());
        let mut counts = counts.lock().unwrap();
        for (what, count) in played.findings.counts() {
            *counts.entry(what).or_default() += count;
        }
    });
    let counts = counts.into_inner().unwrap();
    for (what, count) in &counts {
        println!("{count:>9} {what}");
    }
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{} seeds\n{}", broken.len(), broken.concat());
    for what in SEEN {
        assert!(counts.get(what).is_some_and(|count| *count > 0), "no {what}: nothing is proven");
    }
}

#[test]
fn a_seed_gives_the_same_bytes_again() {
    for seed in (0..SEEDS).step_by(usize::try_from(TWICE).expect("small")) {
        let (first, second) = (play(seed, Defect::None).trace, play(seed, Defect::None).trace);
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        if let Some(line) = differs {
            let (one, other) = (&first[line], &second[line]);
            panic!("seed {seed}, line {line}:\n{one}\n{other}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.len() > 50, "seed {seed}: nothing happened");
    }
}

/// For looking at one seed.
#[test]
fn one() {
    let Some(seed) = from_outside("SIM_SEED") else { return };
    let played = play(seed, Defect::None);
    for line in &played.trace {
        println!("{line}");
    }
    assert!(played.broken().is_none(), "{}", played.broken().unwrap_or_default());
}

/// Whether the checker notices a promise that is broken on purpose, within a few seeds.
fn is_caught(defect: Defect, promise: &str) -> bool {
    let mut seeds = 0..40;
    seeds.any(|seed| {
        let findings = play(seed, defect).findings;
        findings.violations.iter().any(|violation| violation.promise == promise)
    })
}

#[test]
fn a_commit_that_is_dropped_after_its_acknowledgement_is_noticed() {
    assert!(is_caught(Defect::Dropping, checker::commands::ONCE));
}

#[test]
fn an_answer_before_the_append_is_noticed() {
    assert!(is_caught(Defect::Hasty, checker::commands::ONCE));
}

#[test]
fn a_missing_fence_is_noticed() {
    assert!(is_caught(Defect::Fenceless, checker::log::WRITER));
}

#[test]
fn a_turn_that_ends_twice_is_noticed() {
    assert!(is_caught(Defect::DoubleTimeout, checker::turns::PROMISE));
}
