use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::domain::Timestamp;
use crate::gateway::wire::Wire;

fn rate(burst: u32, per_second: u32) -> Rate {
    Rate::per_second(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_second).unwrap())
}

fn limits() -> OutboxLimits {
    OutboxLimits {
        frames_per_table: 4,
        bytes_per_table: 1000,
        age: Duration::from_secs(1),
        table_rate: rate(1000, 100),
        connection_rate: rate(1000, 100),
    }
}

fn table(number: u8) -> TableId {
    TableId::new(Timestamp::from_millis(1), [number; 10])
}

fn text(text: impl Into<String>) -> Frame {
    Frame::encode(Wire::Json, |out| out.extend_from_slice(text.into().as_bytes()))
}

fn commit(seq: u64) -> TableFrame {
    TableFrame { seq: TableSeq::new(seq), frame: text(format!("commit {seq}")), then: None }
}

fn snapshot(seq: u64) -> TableFrame {
    TableFrame { seq: TableSeq::new(seq), frame: text(format!("snapshot {seq}")), then: None }
}

/// Everything that may go out at `now`, due snapshots made with `newest`.
fn drain(outbox: &mut Outbox, now: Instant, newest: u64) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        match outbox.next(now) {
            Next::Send(frame, then) => {
                for frame in std::iter::once(frame).chain(then) {
                    sent.push(String::from_utf8(frame.payload().to_vec()).unwrap());
                }
            }
            Next::SnapshotDue(table) => outbox.resolve(table, snapshot(newest), now),
            Next::LobbyDue => sent.push("lobby".to_owned()),
            Next::WaitUntil(_) | Next::Nothing => return sent,
        }
    }
}

#[test]
fn own_frames_go_first_and_the_list_of_tables_last() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.push_lobby();
    outbox.follow(table(1), text("subscribed"));
    outbox.push(table(1), commit(1), now);
    outbox.push_own(text("verdict"));
    let sent = drain(&mut outbox, now, 0);
    assert_eq!(sent, ["verdict", "subscribed", "commit 1", "lobby"]);
}

#[test]
fn a_table_with_too_many_frames_is_conflated_into_the_newest_snapshot() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), text("subscribed"));
    for seq in 1..=4 {
        assert_eq!(outbox.push(table(1), commit(seq), now), Pushed::Queued);
    }
    let pushed = outbox.push(table(1), commit(5), now);
    assert_eq!(pushed, Pushed::Conflated { frames: 5 });
    let pushed = outbox.push(table(1), commit(6), now);
    assert_eq!(pushed, Pushed::Conflated { frames: 1 });
    assert_eq!(drain(&mut outbox, now, 6), ["subscribed", "snapshot 6"]);
    assert_eq!(outbox.push(table(1), commit(7), now), Pushed::Queued);
    assert_eq!(drain(&mut outbox, now, 7), ["commit 7"]);
}

#[test]
fn a_table_with_too_many_bytes_is_conflated_but_one_frame_always_waits() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), text("subscribed"));
    let large = |seq| TableFrame { frame: text("x".repeat(2000)), ..commit(seq) };
    assert_eq!(outbox.push(table(1), large(1), now), Pushed::Queued);
    let pushed = outbox.push(table(1), commit(2), now);
    assert_eq!(pushed, Pushed::Conflated { frames: 2 });
}

#[test]
fn a_table_that_has_waited_too_long_is_conflated() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), text("subscribed"));
    outbox.push(table(1), commit(1), now);
    let late = now + Duration::from_millis(1001);
    let pushed = outbox.push(table(1), commit(2), late);
    assert_eq!(pushed, Pushed::Conflated { frames: 2 });
}

#[test]
fn a_throttled_table_waits_for_its_token_and_not_longer() {
    let now = Instant::now();
    let table_rate = rate(1, 10);
    let mut outbox = Outbox::new(OutboxLimits { table_rate, ..limits() }, now);
    outbox.follow(table(1), text("subscribed"));
    outbox.push(table(1), commit(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["subscribed"]);
    let Next::WaitUntil(until) = outbox.next(now) else {
        panic!("not throttled");
    };
    assert_eq!(until, now + Duration::from_millis(100));
    assert_eq!(drain(&mut outbox, until, 0), ["commit 1"]);
}

#[test]
fn a_throttled_table_holds_up_no_other() {
    let now = Instant::now();
    let table_rate = rate(2, 1);
    let mut outbox = Outbox::new(OutboxLimits { table_rate, ..limits() }, now);
    outbox.follow(table(1), text("one"));
    outbox.follow(table(2), text("two"));
    for seq in 1..=3 {
        outbox.push(table(1), commit(seq), now);
    }
    outbox.push(table(2), commit(9), now);
    outbox.push_lobby();
    let sent = drain(&mut outbox, now, 0);
    assert_eq!(sent, ["one", "two", "commit 1", "commit 9", "lobby"]);
}

#[test]
fn a_connection_that_is_out_of_tokens_still_gets_its_verdicts() {
    let now = Instant::now();
    let connection_rate = rate(1, 1);
    let mut outbox = Outbox::new(OutboxLimits { connection_rate, ..limits() }, now);
    outbox.follow(table(1), text("subscribed"));
    outbox.push(table(1), commit(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["subscribed"]);
    outbox.push_own(text("verdict"));
    assert_eq!(drain(&mut outbox, now, 0), ["verdict"]);
}

#[test]
fn following_anew_forgets_what_waited() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), text("spectator"));
    outbox.push(table(1), commit(1), now);
    outbox.follow(table(1), text("seated"));
    outbox.push(table(1), snapshot(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["seated", "snapshot 1"]);
}

#[test]
fn nothing_of_a_table_is_sent_after_it_was_left() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), text("subscribed"));
    outbox.push(table(1), commit(1), now);
    outbox.unfollow(table(1));
    assert_eq!(outbox.push(table(1), commit(2), now), Pushed::NotFollowed);
    assert_eq!(drain(&mut outbox, now, 0), [""; 0]);
    outbox.follow(table(2), text("subscribed"));
    outbox.drop_table(table(2), FeedId(7), text("unsubscribed"));
    assert_eq!(drain(&mut outbox, now, 0), ["unsubscribed"]);
    assert_eq!(outbox.take_dropped(), [(table(2), FeedId(7))]);
    assert_eq!(outbox.take_dropped(), []);
}

#[derive(Clone, Debug)]
enum Step {
    Commit(u8),
    Wait(u64),
    /// The socket takes this many frames.
    Take(usize),
    FollowAnew(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3).prop_map(Step::Commit),
        2 => (0u64..1500).prop_map(Step::Wait),
        4 => (0usize..6).prop_map(Step::Take),
        1 => (0u8..3).prop_map(Step::FollowAnew),
    ]
}

/// A client of three tables: what it has folded of each, and whether it was shown anything yet.
#[derive(Debug, Default)]
struct Client([Option<u64>; 3]);

impl Client {
    fn on_frame(&mut self, frame: &[u8], newest: [u64; 3]) {
        let frame = std::str::from_utf8(frame).unwrap();
        let (kind, rest) = frame.split_once(' ').unwrap();
        let (table, seq) = rest.split_once(' ').unwrap();
        let (table, seq) = (table.parse::<usize>().unwrap(), seq.parse::<u64>().unwrap());
        assert!(seq <= newest[table], "nothing is sent before it has happened");
        match kind {
            "subscribed" => self.0[table] = None,
            "snapshot" => {
                assert!(self.0[table].is_none_or(|have| seq > have), "never back");
                self.0[table] = Some(seq);
            }
            "commit" => {
                let have = self.0[table].expect("a snapshot comes before commits");
                assert_eq!(seq, have + 1, "without a gap");
                self.0[table] = Some(seq);
            }
            _ => panic!("{frame}"),
        }
    }
}

struct World {
    outbox: Outbox,
    client: Client,
    newest: [u64; 3],
    now: Instant,
}

impl World {
    fn frame(kind: &str, number: u8, seq: u64) -> TableFrame {
        TableFrame {
            seq: TableSeq::new(seq),
            frame: text(format!("{kind} {number} {seq}")),
            then: None,
        }
    }

    fn follow(&mut self, number: u8) {
        let seq = self.newest[usize::from(number)];
        let head = Self::frame("subscribed", number, seq).frame;
        self.outbox.follow(table(number), head);
        let first = Self::frame("snapshot", number, seq);
        self.outbox.push(table(number), first, self.now);
    }

    fn take(&mut self, frames: usize) {
        for _ in 0..frames {
            match self.outbox.next(self.now) {
                Next::Send(frame, _) => self.client.on_frame(&frame.payload(), self.newest),
                Next::SnapshotDue(due) => {
                    let number = (0u8..3).find(|number| table(*number) == due).unwrap();
                    let seq = self.newest[usize::from(number)];
                    let newest = Self::frame("snapshot", number, seq);
                    self.outbox.resolve(due, newest, self.now);
                }
                Next::LobbyDue | Next::WaitUntil(_) | Next::Nothing => return,
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Commit(number) => {
                let newest = &mut self.newest[usize::from(number)];
                *newest += 1;
                let commit = Self::frame("commit", number, *newest);
                self.outbox.push(table(number), commit, self.now);
            }
            Step::Wait(millis) => self.now += Duration::from_millis(millis),
            Step::Take(frames) => self.take(frames),
            Step::FollowAnew(number) => self.follow(number),
        }
    }
}

proptest! {
    /// Whatever was throttled and conflated: no gap, nothing reordered, nothing ahead of the table, and
    /// in the end the same view as a client that was never held up.
    #[test]
    fn a_throttled_client_ends_with_the_view_of_an_unthrottled_one(
        steps in proptest::collection::vec(step(), 1..400),
        burst in 1u32..20,
        per_second in 1u32..20,
    ) {
        let now = Instant::now();
        let limits = OutboxLimits {
            table_rate: rate(burst, per_second),
            connection_rate: rate(burst * 2, per_second * 2),
            bytes_per_table: 100,
            ..limits()
        };
        let mut world = World {
            outbox: Outbox::new(limits, now),
            client: Client::default(),
            newest: [1; 3],
            now,
        };
        for number in 0..3 {
            world.follow(number);
        }
        for one in &steps {
            world.step(one);
        }
        for _ in 0..100 {
            world.now += Duration::from_secs(1);
            world.take(1000);
        }
        prop_assert_eq!(world.client.0, world.newest.map(Some));
        prop_assert!(matches!(world.outbox.next(world.now), Next::Nothing));
    }
}
