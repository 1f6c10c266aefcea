//! Which workers are heard. Reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::WorkerId;
use crate::protocol::request::Beat;

/// A worker that was never heard may beat more slowly than one knows.
const UNHEARD: u32 = 2;

/// When each worker was last heard.
#[derive(Debug)]
pub(super) struct Beats {
    silence: Duration,
    workers: BTreeMap<WorkerId, Heard>,
    /// When any worker was.
    anyone_at: Option<Instant>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    /// How long it may be silent.
    silence: Duration,
    /// Whether it has no room; nothing if it never said.
    full: Option<bool>,
}

/// Whether the workers that are heard have room for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Some have.
    Some,
    /// None has.
    Full,
    /// None is heard.
    Nobody,
}

impl Beats {
    pub(super) fn new(silence: Duration) -> Self {
        Self { silence, workers: BTreeMap::new(), anyone_at: None, looked_at: None }
    }

    /// A worker beats. One that says goodbye is not expected any more.
    pub(super) fn on_beat(&mut self, beat: &Beat, now: Instant) {
        self.anyone_at = Some(now);
        if beat.goodbye {
            self.workers.remove(&beat.worker);
            return;
        }
        let interval = Duration::from_millis(beat.interval_ms.into());
        let silence = self.silence.max(interval * 5 / 2);
        let heard = Heard { at: now, silence, full: Some(beat.full) };
        self.workers.insert(beat.worker.clone(), heard);
    }

    /// A followed table is this worker's, so it is to be heard from now on.
    pub(super) fn expect(&mut self, worker: &WorkerId, now: Instant) {
        if !self.workers.contains_key(worker) {
            let heard = Heard { at: now, silence: self.silence * UNHEARD, full: None };
            self.workers.insert(worker.clone(), heard);
        }
    }

    /// Nobody could be heard: everyone has as long again.
    pub(super) fn give_time(&mut self, now: Instant) {
        self.workers.values_mut().for_each(|heard| heard.at = now);
    }

    /// Workers that have fallen silent, each once. To be asked often.
    ///
    /// Nobody is silent to one who hears nobody at all, or who slept: it may be deaf, and if they are all
    /// gone there is nobody to ask.
    pub(super) fn take_silent(&mut self, now: Instant) -> Vec<WorkerId> {
        let looked_at = self.looked_at.replace(now).unwrap_or(now);
        let slept = now.duration_since(looked_at) > self.silence / 2;
        let longest = self.workers.values().map(|heard| heard.silence).max();
        let longest = longest.unwrap_or(self.silence);
        let is_deaf = self.anyone_at.is_none_or(|at| now.duration_since(at) > longest);
        if slept || is_deaf {
            self.give_time(now);
            return Vec::new();
        }
        let is_silent = |heard: &Heard| now.duration_since(heard.at) > heard.silence;
        let silent = self.workers.extract_if(.., |_, heard| is_silent(heard));
        silent.map(|(worker, _)| worker).collect()
    }

    /// As far as workers say.
    pub(super) fn room(&self) -> Room {
        let mut said = self.workers.values().filter_map(|heard| heard.full).peekable();
        if said.peek().is_none() {
            return Room::Nobody;
        }
        if said.all(|full| full) { Room::Full } else { Room::Some }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    const SILENCE: Duration = Duration::from_millis(700);
    const TICK: Duration = Duration::from_millis(25);

    fn beat(worker: &str) -> Beat {
        let worker = worker.parse().unwrap();
        let at = Timestamp::default();
        Beat { worker, tables: 0, full: false, interval_ms: 250, at, goodbye: false }
    }

    /// Looks as often as the gateway does, until then; who has fallen silent meanwhile, and when.
    fn watch(beats: &mut Beats, from: Instant, until: Instant) -> Vec<(WorkerId, Duration)> {
        let (mut now, mut silent) = (from, Vec::new());
        while now < until {
            now += TICK;
            let new = beats.take_silent(now);
            silent.extend(new.into_iter().map(|worker| (worker, now - from)));
        }
        silent
    }

    #[test]
    fn a_worker_is_silent_after_some_time_and_once() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.on_beat(&beat("a"), start);
        beats.on_beat(&beat("b"), start + SILENCE);
        let silent = watch(&mut beats, start, start + SILENCE * 3 / 2);
        assert_eq!(silent, [("a".parse().unwrap(), SILENCE + TICK)]);
    }

    #[test]
    fn a_worker_that_beats_slowly_has_more_time() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.on_beat(&Beat { interval_ms: 1000, ..beat("slow") }, start);
        beats.on_beat(&beat("b"), start + SILENCE * 3);
        assert_eq!(watch(&mut beats, start, start + Duration::from_millis(2500)), []);
        assert_eq!(beats.take_silent(start + Duration::from_millis(2525)).len(), 1);
    }

    #[test]
    fn to_the_deaf_nobody_is_silent() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.on_beat(&beat("a"), start);
        beats.on_beat(&beat("b"), start);
        let later = start + SILENCE * 10;
        assert_eq!(watch(&mut beats, start, later), []);
        // Once one is heard, the other has its time, and no more.
        beats.on_beat(&beat("b"), later);
        let silent = watch(&mut beats, later, later + SILENCE);
        assert_eq!(silent, []);
        beats.on_beat(&beat("b"), later + SILENCE);
        assert_eq!(beats.take_silent(later + SILENCE + TICK), ["a".parse().unwrap()]);
    }

    #[test]
    fn to_one_who_slept_nobody_is_silent() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.on_beat(&beat("a"), start);
        assert_eq!(watch(&mut beats, start, start + SILENCE / 2), []);
        let woken = start + SILENCE * 10;
        beats.on_beat(&beat("b"), woken);
        assert_eq!(beats.take_silent(woken), []);
    }

    #[test]
    fn the_owner_of_a_followed_table_must_be_heard() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.expect(&"dead".parse().unwrap(), start);
        beats.on_beat(&beat("b"), start + SILENCE * UNHEARD);
        let silent = watch(&mut beats, start, start + SILENCE * UNHEARD + TICK);
        assert_eq!(silent.len(), 1);
    }

    #[test]
    fn a_goodbye_is_no_silence() {
        let start = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.on_beat(&beat("a"), start);
        beats.on_beat(&Beat { goodbye: true, ..beat("a") }, start);
        assert_eq!(watch(&mut beats, start, start + SILENCE), []);
        assert_eq!(beats.room(), Room::Nobody);
    }

    #[test]
    fn there_is_room_unless_all_say_that_there_is_none() {
        let now = Instant::now();
        let mut beats = Beats::new(SILENCE);
        beats.expect(&"unheard".parse().unwrap(), now);
        assert_eq!(beats.room(), Room::Nobody);
        beats.on_beat(&Beat { full: true, ..beat("a") }, now);
        assert_eq!(beats.room(), Room::Full);
        beats.on_beat(&beat("b"), now);
        assert_eq!(beats.room(), Room::Some);
    }
}
