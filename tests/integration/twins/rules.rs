//! Every prefix of whole games, every viewer, both formats: commits, snapshots and refusals.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tablecast::catalog::{Catalog, FannedOut, Referee, Replica, Rules};
use tablecast::domain::{Dice, Game, Seat, TableId, TurnContext, Viewer};
use tablecast::games::liap_tui::LiapTui;
use tablecast::protocol::frame::Format;

use super::{SECRET_MOMENTS, dice};
use crate::leaky::{IN_EVENTS, IN_REFUSALS, IN_VIEWS, Leaky};
use crate::liap_games::{
    EPOCH, LiapCommit, attempts, encode, game_after, games_with_weak_hands, kind, moment, play,
    player, twin, viewers,
};

/// What was compared, by phase, plays on the table and whether a redeal is being decided.
type Coverage = BTreeMap<String, usize>;

/// Refusals are compared at every so many prefixes: they take most of the time.
const REFUSALS_EVERY: usize = 5;

/// Compares a game with a twin of each of its prefixes, for every viewer.
fn compare<G: Game>(game: &[LiapCommit], dice: &mut Dice) -> Result<Coverage, String> {
    let catalog = Catalog::new().with::<G>();
    let rules = catalog.get(&kind()).expect("a game");
    let table = TableId::new(EPOCH, [9; 10]);
    let payloads: Vec<Bytes> = game.iter().map(|commit| encode(table, commit)).collect();
    let mut coverage = Coverage::new();
    let mut real = World::new(&**rules, table, &payloads[..1]);
    for length in 1..=game.len() {
        if length > 1 {
            real.fold(&payloads[length - 1]);
        }
        for viewer in viewers() {
            let Some(other) = twin(&game[..length], viewer, dice) else {
                continue;
            };
            let others = game.iter().zip(&other).zip(&payloads);
            let others =
                others.map(
                    |((commit, other), payload)| {
                        if commit == other { payload.clone() } else { encode(table, other) }
                    },
                );
            let others: Vec<Bytes> = others.collect();
            real.looks_like(&World::new(&**rules, table, &others), viewer)?;
            if let Viewer::Seated(seat) = viewer
                && length % REFUSALS_EVERY == 0
            {
                let worlds = [&payloads[..length], &others];
                let twins = Twins { rules: &**rules, table, worlds };
                twins.refuse_alike(seat, &game[..length])?;
            }
            let seen = format!("{:?}", moment(&game[..length]));
            *coverage.entry(seen).or_default() += 1;
        }
    }
    Ok(coverage)
}

/// A table in a gateway's memory, and every commit that it fanned out.
struct World {
    replica: Box<dyn Replica>,
    seen: Vec<Arc<dyn FannedOut>>,
    payloads: Vec<Bytes>,
}

impl World {
    fn new(rules: &dyn Rules, table: TableId, payloads: &[Bytes]) -> Self {
        let begun = rules.replica(table, &payloads[0], EPOCH);
        let (replica, first) = begun.expect("a first commit");
        let mut world = Self { replica, seen: vec![first], payloads: vec![payloads[0].clone()] };
        payloads[1..].iter().for_each(|payload| world.fold(payload));
        world
    }

    fn fold(&mut self, payload: &Bytes) {
        let folded = self.replica.fold(payload, EPOCH);
        self.seen.push(folded.expect("the next commit"));
        self.payloads.push(payload.clone());
    }

    fn looks_like(&self, other: &Self, viewer: Viewer) -> Result<(), String> {
        for format in Format::ALL {
            for (place, (one, twin)) in self.seen.iter().zip(&other.seen).enumerate() {
                // A frame is made of its commit alone.
                if self.payloads[place] != other.payloads[place] {
                    same(&one.frame(viewer, format), &twin.frame(viewer, format))?;
                }
            }
            let snapshot = |world: &Self| world.replica.snapshot(viewer, format);
            same(&snapshot(self), &snapshot(other))?;
        }
        Ok(())
    }
}

struct Twins<'a> {
    rules: &'a dyn Rules,
    table: TableId,
    worlds: [&'a [Bytes]; 2],
}

impl Twins<'_> {
    /// What a seat is told of its commands depends on nothing that it may not know either.
    fn refuse_alike(&self, seat: Seat, game: &[LiapCommit]) -> Result<(), String> {
        let [mut a, mut b] = self.worlds.map(|world| {
            let begun = self.rules.referee(self.table, &world[0]);
            let mut referee = begun.expect("a first commit");
            for payload in &world[1..] {
                referee.fold(payload).expect("the next commit");
            }
            referee
        });
        let own = game_after(game).view(Viewer::Seated(seat)).hand;
        let cx = TurnContext { now: game.last().expect("a commit").at, seed: [5; 32] };
        for command in attempts(&own.expect("a seat has a hand")) {
            let told = |referee: &mut dyn Referee| {
                let id = "x".parse().expect("an id");
                let decided = referee.decide(&player(seat), id, command.clone(), &cx);
                decided.map(|draft| draft.is_some())
            };
            let (one, other) = (told(&mut *a), told(&mut *b));
            if one != other {
                return Err(format!("{command}: {one:?} or {other:?}"));
            }
        }
        Ok(())
    }
}

fn same(one: &Bytes, other: &Bytes) -> Result<(), String> {
    if one == other {
        return Ok(());
    }
    let [one, other] = [one, other].map(|frame| String::from_utf8_lossy(frame));
    Err(format!("{one}\n{other}"))
}

#[test]
fn no_byte_of_a_whole_game_depends_on_what_its_viewer_may_not_know() {
    let mut coverage = Coverage::new();
    for (seed, game) in (0..).zip(games_with_weak_hands(10).take(2)) {
        let seen = compare::<LiapTui>(&game, &mut dice(seed)).expect("nothing leaks");
        for (moment, times) in seen {
            *coverage.entry(moment).or_default() += times;
        }
    }
    println!("{coverage:#?}");
    for moment in SECRET_MOMENTS {
        assert!(coverage.contains_key(moment), "{moment}: {coverage:?}");
    }
}

#[test]
fn a_leak_is_found_wherever_it_is() {
    let game = play(1, 10);
    compare::<Leaky<9>>(&game, &mut dice(1)).expect("no leak, none found");
    compare::<Leaky<IN_VIEWS>>(&game, &mut dice(1)).expect_err("in snapshots");
    compare::<Leaky<IN_EVENTS>>(&game, &mut dice(1)).expect_err("in commits");
    compare::<Leaky<IN_REFUSALS>>(&game, &mut dice(1)).expect_err("in refusals");
}
