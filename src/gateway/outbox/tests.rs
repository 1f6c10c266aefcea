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
        byte_rate: rate(1_000_000, 1_000_000),
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
            Next::WaitUntil(..) | Next::Nothing => return sent,
        }
    }
}

#[test]
fn own_frames_go_first_and_the_list_of_tables_last() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.push_lobby();
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    outbox.push(table(1), commit(1), now);
    outbox.push_own(text("verdict"));
    let sent = drain(&mut outbox, now, 0);
    assert_eq!(sent, ["verdict", "subscribed", "commit 1", "lobby"]);
}

#[test]
fn a_table_with_too_many_frames_is_conflated_into_the_newest_snapshot() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), Class::Watched, text("subscribed"));
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
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    let large = |seq| TableFrame { frame: text("x".repeat(2000)), ..commit(seq) };
    assert_eq!(outbox.push(table(1), large(1), now), Pushed::Queued);
    let pushed = outbox.push(table(1), commit(2), now);
    assert_eq!(pushed, Pushed::Conflated { frames: 2 });
}

#[test]
fn a_table_that_has_waited_too_long_is_conflated() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), Class::Watched, text("subscribed"));
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
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    outbox.push(table(1), commit(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["subscribed"]);
    let Next::WaitUntil(until, Hold::TableRate) = outbox.next(now) else {
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
    outbox.follow(table(1), Class::Watched, text("one"));
    outbox.follow(table(2), Class::Watched, text("two"));
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
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    outbox.push(table(1), commit(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["subscribed"]);
    outbox.push_own(text("verdict"));
    assert_eq!(drain(&mut outbox, now, 0), ["verdict"]);
}

#[test]
fn tables_with_an_own_seat_go_first_and_starve_nobody() {
    let now = Instant::now();
    let mut outbox = Outbox::new(OutboxLimits { frames_per_table: 100, ..limits() }, now);
    outbox.follow(table(1), Class::Watched, text("watched"));
    outbox.follow(table(2), Class::Seated, text("seated"));
    for seq in 1..=9 {
        outbox.push(table(1), commit(100 + seq), now);
        outbox.push(table(2), commit(seq), now);
    }
    let sent = drain(&mut outbox, now, 0);
    let first = ["seated", "commit 1", "commit 2", "commit 3", "watched", "commit 4", "commit 5"];
    assert_eq!(sent[..7], first);
    assert_eq!(sent.len(), 20);
    // Among each other, tables of one kind take turns.
    outbox.follow(table(1), Class::Seated, text("one"));
    outbox.follow(table(2), Class::Seated, text("two"));
    outbox.push(table(1), commit(111), now);
    outbox.push(table(2), commit(11), now);
    assert_eq!(drain(&mut outbox, now, 0), ["one", "two", "commit 111", "commit 11"]);
}

#[test]
fn a_table_that_was_watched_has_one_turn_as_a_player_too() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), Class::Watched, text("watched"));
    outbox.follow(table(1), Class::Seated, text("seated"));
    outbox.unfollow(table(1));
    assert!(matches!(outbox.next(now), Next::Nothing));
    outbox.follow(table(1), Class::Seated, text("seated"));
    outbox.follow(table(1), Class::Watched, text("watched"));
    assert_eq!(drain(&mut outbox, now, 0), ["watched"]);
}

#[test]
fn bytes_are_paid_for_before_the_next_frame_and_a_large_one_passes() {
    let now = Instant::now();
    // A frame of 100 bytes has a header of two, one of 500 bytes has four.
    let byte_rate = rate(200, 100);
    let limits = OutboxLimits { byte_rate, bytes_per_table: 10_000, ..limits() };
    let mut outbox = Outbox::new(limits, now);
    outbox.follow(table(1), Class::Watched, text("x".repeat(98)));
    let of = |length, seq| TableFrame { frame: text("x".repeat(length)), ..commit(seq) };
    outbox.push(table(1), of(498, 1), now);
    outbox.push(table(1), of(98, 2), now);
    outbox.push_lobby();
    // 100 bytes are paid, then 502 are owed, of which the bucket never holds more than 200.
    assert_eq!(drain(&mut outbox, now, 0).len(), 2);
    let mut waits = 0;
    let mut then = now;
    while let Next::WaitUntil(until, Hold::ByteRate) = outbox.next(then) {
        if waits == 0 {
            outbox.push_own(text("verdict"));
            assert_eq!(drain(&mut outbox, then, 0), ["verdict"], "own frames do not wait");
        }
        then = until;
        waits += 1;
        assert!(waits < 10, "it is never paid");
    }
    // What the verdict has cost is paid as well.
    let paid = 502 - 100 + 9;
    assert!(then - now >= Duration::from_millis(paid * 10), "{:?} for {paid}", then - now);
    assert_eq!(outbox.load(), Load { tables: 1, frames: 0, bytes: 0 });
}

#[test]
fn a_connection_without_bytes_is_conflated_like_one_without_frames() {
    let now = Instant::now();
    let byte_rate = rate(10, 10);
    let mut outbox = Outbox::new(OutboxLimits { byte_rate, ..limits() }, now);
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    assert_eq!(drain(&mut outbox, now, 0), ["subscribed"]);
    for seq in 1..=5 {
        outbox.push(table(1), commit(seq), now);
    }
    assert!(matches!(outbox.next(now), Next::WaitUntil(_, Hold::ByteRate)));
    assert_eq!(outbox.standing().conflated, 5);
    assert_eq!(outbox.load(), Load { tables: 1, frames: 1, bytes: 0 });
    let paid = now + Duration::from_secs(2);
    assert_eq!(drain(&mut outbox, paid, 5), ["snapshot 5"]);
}

#[test]
fn a_connection_is_behind_from_when_it_first_was() {
    let start = Instant::now();
    let mut standing = Standing::default();
    standing.set(Some(Hold::ByteRate), (0, 0), start);
    let later = start + Duration::from_secs(1);
    standing.set(Some(Hold::Socket), (3, 400), later);
    assert_eq!(standing.behind, Some(Behind { since: start, hold: Hold::Socket }));
    let blocked = standing.blocked.unwrap();
    assert_eq!((blocked.since, blocked.frames, blocked.bytes), (later, 3, 400));
    standing.set(None, (0, 0), later);
    assert_eq!((standing.behind, standing.blocked), (None, None));
    standing.set(Some(Hold::TableRate), (0, 0), later);
    assert_eq!(standing.behind.unwrap().since, later);
}

#[test]
fn following_anew_forgets_what_waited() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), Class::Watched, text("spectator"));
    outbox.push(table(1), commit(1), now);
    outbox.follow(table(1), Class::Watched, text("seated"));
    outbox.push(table(1), snapshot(1), now);
    assert_eq!(drain(&mut outbox, now, 0), ["seated", "snapshot 1"]);
}

#[test]
fn nothing_of_a_table_is_sent_after_it_was_left() {
    let now = Instant::now();
    let mut outbox = Outbox::new(limits(), now);
    outbox.follow(table(1), Class::Watched, text("subscribed"));
    outbox.push(table(1), commit(1), now);
    outbox.unfollow(table(1));
    assert_eq!(outbox.push(table(1), commit(2), now), Pushed::NotFollowed);
    assert_eq!(drain(&mut outbox, now, 0), [""; 0]);
    outbox.follow(table(2), Class::Watched, text("subscribed"));
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
    /// Bytes that went out so far, and the largest frame among them.
    sent: (usize, usize),
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
        // Its player takes a seat at one table now and then.
        let class = if number == 0 || number == 1 && seq.is_multiple_of(2) {
            Class::Seated
        } else {
            Class::Watched
        };
        self.outbox.follow(table(number), class, head);
        let first = Self::frame("snapshot", number, seq);
        self.outbox.push(table(number), first, self.now);
    }

    fn take(&mut self, frames: usize) {
        for _ in 0..frames {
            match self.outbox.next(self.now) {
                Next::Send(frame, _) => {
                    self.sent.0 += frame.len();
                    self.sent.1 = self.sent.1.max(frame.len());
                    self.client.on_frame(&frame.payload(), self.newest);
                }
                Next::SnapshotDue(due) => {
                    let number = (0u8..3).find(|number| table(*number) == due).unwrap();
                    let seq = self.newest[usize::from(number)];
                    let newest = Self::frame("snapshot", number, seq);
                    self.outbox.resolve(due, newest, self.now);
                }
                Next::LobbyDue | Next::WaitUntil(..) | Next::Nothing => return,
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
    /// Whatever has tokens is not kept waiting by others: among tables that all have something to send, each is sent
    /// something within a number of frames that the number of tables bounds.
    #[test]
    fn no_table_starves(seats in proptest::collection::vec(any::<bool>(), 1..12)) {
        const SENT: usize = 300;
        let now = Instant::now();
        let roomy =
            OutboxLimits { frames_per_table: SENT, bytes_per_table: 1_000_000, ..limits() };
        let mut outbox = Outbox::new(roomy, now);
        for (number, has_seat) in (0u8..).zip(&seats) {
            let class = if *has_seat { Class::Seated } else { Class::Watched };
            outbox.follow(table(number), class, text(format!("{number}")));
            for seq in 1..=SENT as u64 {
                let frame = text(format!("{number}"));
                outbox.push(table(number), TableFrame { frame, ..commit(seq) }, now);
            }
        }
        let seated = seats.iter().filter(|has_seat| **has_seat).count();
        let watched = seats.len() - seated;
        // Of five frames in a row, a watched table has one; a table with a seat has four.
        let bound = |has_seat| if has_seat { 2 * seated + 2 } else { 5 * watched + 1 };
        let mut last = vec![0; seats.len()];
        for sent in 1..=SENT {
            let Next::Send(frame, _) = outbox.next(now) else { panic!("nothing is sent") };
            let number: usize = std::str::from_utf8(&frame.payload()).unwrap().parse().unwrap();
            last[number] = sent;
            for (last, has_seat) in last.iter().zip(&seats) {
                prop_assert!(sent - last <= bound(*has_seat), "{sent} and {last} of {seats:?}");
            }
        }
    }

    /// Whatever was throttled and conflated: no gap, nothing reordered, nothing ahead of the table, and
    /// in the end the same view as a client that was never held up.
    #[test]
    fn a_throttled_client_ends_with_the_view_of_an_unthrottled_one(
        steps in proptest::collection::vec(step(), 1..400),
        burst in 1u32..20,
        per_second in 1u32..20,
        bytes_burst in 50u32..200,
        bytes_per_second in 20u32..500,
    ) {
        let now = Instant::now();
        let limits = OutboxLimits {
            table_rate: rate(burst, per_second),
            connection_rate: rate(burst * 2, per_second * 2),
            bytes_per_table: 100,
            byte_rate: rate(bytes_burst, bytes_per_second),
            ..limits()
        };
        let mut world = World {
            sent: (0, 0),
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
            let (sent, largest) = world.sent;
            let elapsed = (world.now - now).as_secs_f64();
            let most = f64::from(bytes_burst) + f64::from(bytes_per_second) * elapsed;
            // The last one may be unpaid.
            prop_assert!(sent as f64 <= most + largest as f64 + 1e-6, "{sent} of {most}");
        }
        for _ in 0..100 {
            world.now += Duration::from_secs(1);
            world.take(1000);
        }
        prop_assert_eq!(world.client.0, world.newest.map(Some));
        prop_assert!(matches!(world.outbox.next(world.now), Next::Nothing));
    }
}
