//! Breaks things by chance, one after the other and at the same time, and mends all of them in the end.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use tokio::time::{Instant, sleep};

use crate::chance::{dice, millis};
use crate::node::{Node, Role};
use crate::world::World;

/// Breaks things until the time of the plan is over.
pub(crate) async fn rage(world: &World) {
    let mut dice = dice(world.seed, "nemesis");
    let end = Instant::now() + Duration::from_millis(world.plan.broken_ms);
    while Instant::now() < end {
        sleep(millis(&mut dice, 100..2_000)).await;
        let deed = dice.random_range(0..100);
        let number = dice.random_range(0..100);
        let for_ms = dice.random_range(100..6_000);
        let world = world.clone();
        world.tasks.clone().spawn(async move { act(&world, deed, number, for_ms).await });
    }
}

fn pick(nodes: &[Node], number: usize) -> &Node {
    &nodes[number % nodes.len()]
}

async fn act(world: &World, deed: u32, number: usize, for_ms: u64) {
    let wait = Duration::from_millis(for_ms);
    let worker = pick(world.workers(), number);
    let door = pick(world.doors(), number);
    match deed {
        0..20 => {
            worker.kill(world);
            sleep(wait / 3).await;
            worker.restart(world);
        }
        20..35 => for_a_while(world, worker, wait, Node::hang, Node::go_on).await,
        35..48 => {
            worker.drain(world);
            sleep(wait + Duration::from_secs(4)).await;
            worker.restart(world);
        }
        48..58 => for_a_while(world, worker, wait, cut, heal).await,
        58..63 => for_a_while(world, door, wait, cut, heal).await,
        63..68 => {
            door.kill(world);
            sleep(wait / 3).await;
            door.restart(world);
        }
        68..72 => for_a_while(world, door, wait, Node::hang, Node::go_on).await,
        72..77 => {
            let faults = worker.life().faults;
            faults.set_delay(wait / 20);
            sleep(wait).await;
            faults.set_delay(Duration::ZERO);
        }
        77..80 => {
            let faults = door.life().faults;
            faults.set_live_delay(wait / 10);
            sleep(wait).await;
            faults.set_live_delay(Duration::ZERO);
        }
        80..86 => worker.life().faults.lose_acks(1 + u32::from(number > 50)),
        86..90 => door.life().faults.drop_live(3),
        90..94 => {
            set_full(world, true);
            sleep(wait / 2).await;
            set_full(world, false);
        }
        94..97 => {
            world.archiver().kill(world);
            sleep(wait).await;
            world.archiver().restart(world);
        }
        _ => {
            // All at once.
            world.workers().iter().for_each(|worker| worker.kill(world));
            sleep(wait / 3).await;
            world.workers().iter().for_each(|worker| worker.restart(world));
        }
    }
}

fn cut(node: &Node, world: &World) {
    node.set_cut(world, true);
}

fn heal(node: &Node, world: &World) {
    node.set_cut(world, false);
}

fn set_full(world: &World, is_full: bool) {
    world.trace.line(format_args!("full {is_full}"));
    world.nodes().for_each(|node| node.life().faults.set_full(is_full));
}

/// Unless another process has taken the place meanwhile.
async fn for_a_while(
    world: &World,
    node: &Node,
    wait: Duration,
    begin: fn(&Node, &World),
    end: fn(&Node, &World),
) {
    let before = node.life();
    if before.is_well() {
        begin(node, world);
        sleep(wait).await;
        if node.life().number == before.number {
            end(node, world);
        }
    }
}

/// Ends all faults that have not ended by themselves. Every place has a process then.
pub(crate) async fn mend(world: &World) {
    // What is under way ends: the longest deed takes ten seconds.
    sleep(Duration::from_secs(11)).await;
    set_full(world, false);
    for node in world.nodes() {
        let life = node.life();
        if life.is_hung {
            node.go_on(world);
        }
        if life.is_cut {
            node.set_cut(world, false);
        }
        life.faults.set_delay(Duration::ZERO);
        life.faults.set_live_delay(Duration::ZERO);
        let is_stopping = node.role == Role::Worker && life.stop.is_cancelled();
        if is_stopping && life.is_alive {
            // It had time to drain.
            node.kill(world);
        }
        node.restart(world);
    }
}

/// A door that a client finds open, if any.
pub(crate) fn open_door(world: &World, dice: &mut ChaCha20Rng) -> Option<String> {
    let open: Vec<&Node> = world.doors().iter().filter(|door| is_open(door)).collect();
    let count = open.len();
    (count > 0).then(|| open[dice.random_range(0..count)].place.clone())
}

/// Clients do not see whether a door is cut off from the bus.
fn is_open(door: &Node) -> bool {
    let life = door.life();
    life.is_alive && !life.is_hung
}
