//! Every promise of the bus, as checks that any bus must pass. Each gets two processes' connections.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, future};
use tablecast::bus::{
    AppendError, Bus, Entry, LobbyChange, ReadError, Request, RequestError, Stored,
};
use tablecast::domain::{StreamSeq, TableId, Timestamp};
use tablecast::protocol::frame::{LobbyEntry, LobbySeat, LobbyStatus};
use tablecast::protocol::subject::{self, Address};
use tokio::time::{sleep, timeout};

use crate::tables::{address, append, new_table, table_of};

/// How long something that must happen may take.
const SOON: Duration = Duration::from_secs(10);

/// A test for each check. `$test` is the test attribute, `$buses` gives something to keep and two
/// connections.
macro_rules! promises {
    (#[$test:meta] $buses:path) => {
        $crate::log_suite::promises! {
            @ #[$test] $buses;
            an_append_is_read_as_it_was_written
            an_unknown_table_has_no_entries
            an_append_after_another_position_is_fenced
            of_two_racing_owners_one_wins
            an_append_made_twice_is_stored_once
            an_append_is_known_after_others_have_followed
            a_too_large_append_is_refused
            tables_do_not_mix
            a_long_table_is_read_whole_and_from_anywhere
            the_last_entry_leads_back_to_the_first
            followed_entries_come_in_order_and_chain
            an_entry_after_following_is_never_missed
            what_is_refused_is_not_followed
            a_table_is_completed_once
            markers_come_in_order_from_a_position_and_as_they_are_written
            commits_of_one_kind_come_in_order_from_a_position_and_as_they_are_written
            a_buried_table_is_a_tombstone
            a_tombstone_is_followed
            a_table_that_moved_on_is_not_buried
            a_buried_table_cannot_begin_anew
            a_tombstone_expires
            a_shard_that_is_not_there_is_named
            a_shard_knows_its_age
            a_request_without_a_server_says_so
            a_request_is_answered
            a_request_that_is_dropped_times_out
            a_group_shares_its_requests
            a_notice_reaches_everyone_who_listens
            the_lobby_lists_what_was_put_and_not_removed
            a_lobby_watcher_sees_the_list_then_changes
        }
    };
    (@ #[$test:meta] $buses:path; $($check:ident)*) => {
        $(
            #[$test]
            async fn $check() {
                let (_kept, first, second) = $buses().await;
                $crate::log_suite::$check(&first, &second).await;
            }
        )*
    };
}
pub(crate) use promises;

async fn next<T>(stream: &mut BoxStream<'static, T>) -> T {
    let item = timeout(SOON, stream.next()).await.expect("in time");
    item.expect("the stream goes on")
}

/// Waits for something that happens by itself.
async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let waited = timeout(SOON, async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it holds in time");
}

fn payloads(entries: &[Entry]) -> Vec<&str> {
    let texts = entries.iter().map(|entry| std::str::from_utf8(&entry.payload));
    texts.collect::<Result<_, _>>().expect("texts")
}

fn is_fenced<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Fenced { .. }))
}

pub(crate) async fn an_append_is_read_as_it_was_written(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let seq = bus.log.append(append(&address, StreamSeq::ZERO, "open")).await;
    let entries = other.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    let [entry] = &entries[..] else {
        panic!("one entry, not {entries:?}");
    };
    assert_eq!(entry.address, address);
    assert_eq!(entry.seq, seq.expect("stored"));
    assert_eq!(entry.previous, StreamSeq::ZERO);
    assert_eq!(entry.id, Some(format!("{}:open", address.table)));
    assert_eq!(entry.what, Stored::Commit);
    assert_eq!(entry.payload, Bytes::from("open"));
    assert!(entry.stored_at > Timestamp::from_millis(0));
}

pub(crate) async fn an_unknown_table_has_no_entries(bus: &Bus, _: &Bus) {
    assert_eq!(bus.log.read(new_table(), StreamSeq::ZERO).await.expect("read"), vec![]);
}

pub(crate) async fn an_append_after_another_position_is_fenced(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let too_late = other.log.append(append(&address, positions[0], "late")).await;
    assert!(is_fenced(&too_late), "{too_late:?}");
    let too_early = other.log.append(append(&address, positions[1].next(), "early")).await;
    assert!(is_fenced(&too_early), "{too_early:?}");
    let anew = other.log.append(append(&address, StreamSeq::ZERO, "anew")).await;
    assert!(is_fenced(&anew), "{anew:?}");
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(payloads(&entries), ["0", "1"]);
}

pub(crate) async fn of_two_racing_owners_one_wins(bus: &Bus, other: &Bus) {
    for _ in 0..50 {
        let (address, positions) = table_of(bus, 1).await;
        let (one, two) = future::join(
            bus.log.append(append(&address, positions[0], "one")),
            other.log.append(append(&address, positions[0], "two")),
        )
        .await;
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        assert!(is_fenced(&one) || is_fenced(&two), "{one:?} {two:?}");
        let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
        let winner = if one.is_ok() { "one" } else { "two" };
        assert_eq!(payloads(&entries), ["0", winner]);
    }
}

pub(crate) async fn an_append_made_twice_is_stored_once(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 1).await;
    let first = bus.log.append(append(&address, positions[0], "move")).await;
    let again = other.log.append(append(&address, positions[0], "move")).await;
    assert_eq!(first.expect("stored"), again.expect("known"));
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(payloads(&entries), ["0", "move"]);
}

pub(crate) async fn an_append_is_known_after_others_have_followed(bus: &Bus, _: &Bus) {
    let (address, positions) = table_of(bus, 3).await;
    let again = bus.log.append(append(&address, positions[0], "1")).await;
    assert_eq!(again.expect("known"), positions[1]);
}

pub(crate) async fn a_too_large_append_is_refused(bus: &Bus, _: &Bus) {
    let address = address(bus, new_table());
    // Beyond what the stream takes, and beyond what the server takes of anyone.
    for bytes in [300_000, 2_000_000] {
        let mut large = append(&address, StreamSeq::ZERO, "large");
        large.payload = vec![b'x'; bytes].into();
        let refused = bus.log.append(large).await;
        assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    }
}

pub(crate) async fn tables_do_not_mix(bus: &Bus, _: &Bus) {
    let (white, black) = (address(bus, new_table()), address(bus, new_table()));
    let mut followed = bus.log.follow(black.table).await.expect("followed");
    let mut last = (StreamSeq::ZERO, StreamSeq::ZERO);
    for number in 0..3 {
        let id = format!("white {number}");
        last.0 = bus.log.append(append(&white, last.0, &id)).await.expect("stored");
        let id = format!("black {number}");
        last.1 = bus.log.append(append(&black, last.1, &id)).await.expect("stored");
    }
    let entries = bus.log.read(white.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(payloads(&entries), ["white 0", "white 1", "white 2"]);
    for number in 0..3 {
        let entry = next(&mut followed).await;
        assert_eq!(payloads(&[entry]), [format!("black {number}")]);
    }
}

pub(crate) async fn a_long_table_is_read_whole_and_from_anywhere(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2300).await;
    let entries = other.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    let read: Vec<StreamSeq> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(read, positions);
    let mut previous = StreamSeq::ZERO;
    for entry in &entries {
        assert_eq!(entry.previous, previous);
        previous = entry.seq;
    }
    let rest = other.log.read(address.table, positions[1500]).await.expect("read");
    assert_eq!(rest.len(), 800);
    assert_eq!(rest[0].seq, positions[1500]);
    let beyond = positions[2299].next();
    assert_eq!(other.log.read(address.table, beyond).await.expect("read"), vec![]);
}

pub(crate) async fn the_last_entry_leads_back_to_the_first(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 4).await;
    let (between, _) = table_of(bus, 1).await;
    let read = other.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    let mut entry = other.log.newest(&address).await.expect("read").expect("an entry");
    for number in (0..4).rev() {
        assert_eq!(entry, read[number]);
        if number > 0 {
            assert_eq!(entry.previous, positions[number - 1]);
            let before = other.log.entry(&address, entry.previous).await.expect("read");
            entry = before.expect("an entry");
        }
    }
    assert_eq!(entry.previous, StreamSeq::ZERO);
    let newest = other.log.newest_of(address.table).await.expect("read");
    assert_eq!(newest.as_ref(), read.last());
    // Of another table, or of none.
    let foreign = other.log.newest(&between).await.expect("read").expect("an entry").seq;
    assert_eq!(other.log.entry(&address, foreign).await.expect("read"), None);
    let beyond = StreamSeq::new(foreign.get() + 1_000_000);
    assert_eq!(other.log.entry(&address, beyond).await.expect("read"), None);
    let (unknown, _) = table_of(bus, 0).await;
    assert_eq!(other.log.newest(&unknown).await.expect("read"), None);
    assert_eq!(other.log.newest_of(unknown.table).await.expect("read"), None);
}

pub(crate) async fn followed_entries_come_in_order_and_chain(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let mut followed = other.log.follow(address.table).await.expect("followed");
    let mut last = positions[1];
    for number in 2..50 {
        let append = append(&address, last, &number.to_string());
        let seq = bus.log.append(append).await.expect("stored");
        let entry = next(&mut followed).await;
        assert_eq!((entry.previous, entry.seq), (last, seq));
        last = seq;
    }
    let mut followed = other.log.follow(address.table).await.expect("followed");
    let seq = bus.log.append(append(&address, last, "last")).await.expect("stored");
    let live = next(&mut followed).await;
    let read = bus.log.read(address.table, last).await.expect("read");
    assert_eq!(read.last(), Some(&live), "read and followed entries are alike");
    assert_eq!(live.seq, seq);
}

pub(crate) async fn an_entry_after_following_is_never_missed(bus: &Bus, other: &Bus) {
    for _ in 0..50 {
        let address = address(bus, new_table());
        let mut followed = bus.log.follow(address.table).await.expect("followed");
        let seq = other.log.append(append(&address, StreamSeq::ZERO, "first")).await;
        assert_eq!(next(&mut followed).await.seq, seq.expect("stored"));
    }
}

pub(crate) async fn what_is_refused_is_not_followed(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 1).await;
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    let fenced = other.log.append(append(&address, StreamSeq::ZERO, "late")).await;
    assert!(is_fenced(&fenced), "{fenced:?}");
    let twice = append(&address, positions[0], "twice");
    other.log.append(twice.clone()).await.expect("stored");
    other.log.append(twice).await.expect("known");
    let second = next(&mut followed).await;
    other.log.append(append(&address, second.seq, "third")).await.expect("stored");
    let third = next(&mut followed).await;
    assert_eq!(payloads(&[second, third]), ["twice", "third"]);
}

pub(crate) async fn a_table_is_completed_once(bus: &Bus, other: &Bus) {
    let (address, _) = table_of(bus, 1).await;
    bus.log.complete(&address, "first".into()).await.expect("stored");
    other.log.complete(&address, "second".into()).await.expect("known");
    let (next_table, _) = table_of(bus, 1).await;
    bus.log.complete(&next_table, "next".into()).await.expect("stored");
    let mut markers = bus.log.markers(address.shard, StreamSeq::ZERO).await.expect("read");
    let first = next(&mut markers).await.expect("a marker");
    assert_eq!(first.what, Stored::Marker);
    assert_eq!(first.address, address);
    let second = next(&mut markers).await.expect("a marker");
    assert_eq!(payloads(&[first, second]), ["first", "next"]);
}

pub(crate) async fn markers_come_in_order_from_a_position_and_as_they_are_written(
    bus: &Bus,
    other: &Bus,
) {
    let addresses: Vec<Address> = (0..6).map(|_| address(bus, new_table())).collect();
    for address in &addresses[..4] {
        bus.log.complete(address, address.table.to_string().into()).await.expect("stored");
    }
    let mut all = other.log.markers(addresses[0].shard, StreamSeq::ZERO).await.expect("read");
    let mut positions = Vec::new();
    for address in &addresses[..4] {
        let marker = next(&mut all).await.expect("a marker");
        assert_eq!(marker.address, *address);
        positions.push(marker.seq);
    }
    let from = positions[1].next();
    let mut rest = other.log.markers(addresses[0].shard, from).await.expect("read");
    for address in &addresses[2..4] {
        assert_eq!(next(&mut rest).await.expect("a marker").address, *address);
    }
    for address in &addresses[4..] {
        bus.log.complete(address, Bytes::new()).await.expect("stored");
        assert_eq!(next(&mut all).await.expect("a marker").address, *address);
        assert_eq!(next(&mut rest).await.expect("a marker").address, *address);
    }
}

pub(crate) async fn commits_of_one_kind_come_in_order_from_a_position_and_as_they_are_written(
    bus: &Bus,
    other: &Bus,
) {
    let [first, second, buried] = [(); 3].map(|()| address(bus, new_table()));
    let foreign = Address { kind: "go".parse().expect("a kind"), ..address(bus, new_table()) };
    let mut positions = Vec::new();
    for (address, id) in [(&first, "1"), (&foreign, "f"), (&second, "2"), (&buried, "3")] {
        let stored = bus.log.append(append(address, StreamSeq::ZERO, id)).await;
        positions.push(stored.expect("stored"));
    }
    bus.log.bury(&buried, positions[3], "at rest".into(), KEPT).await.expect("buried");
    let (shard, kind) = (first.shard, &first.kind);
    let mut all = other.log.commits(shard, kind, StreamSeq::ZERO).await.expect("read");
    let mut rest = other.log.commits(shard, kind, positions[1]).await.expect("read");
    let commit = next(&mut all).await.expect("a commit");
    assert_eq!((&commit.address, commit.seq, commit.what), (&first, positions[0], Stored::Commit));
    bus.log.append(append(&first, positions[0], "4")).await.expect("stored");
    for commits in [&mut all, &mut rest] {
        for payload in ["2", "4"] {
            let commit = next(commits).await.expect("a commit");
            assert_eq!(payloads(&[commit]), [payload]);
        }
    }
}

/// Long enough to outlive a test.
const KEPT: Duration = Duration::from_secs(600);

pub(crate) async fn a_buried_table_is_a_tombstone(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 5).await;
    bus.log.complete(&address, "done".into()).await.expect("stored");
    let seq = bus.log.bury(&address, positions[4], "at rest".into(), KEPT).await.expect("buried");
    let again = other.log.bury(&address, positions[4], "at rest".into(), KEPT).await;
    assert_eq!(again.expect("known"), seq);
    let entries = other.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    let [tombstone] = &entries[..] else {
        panic!("one tombstone, not {entries:?}");
    };
    assert_eq!(tombstone.what, Stored::Tombstone);
    assert_eq!((tombstone.seq, &tombstone.payload[..]), (seq, &b"at rest"[..]));

    // Its marker has gone with it, and does not come back.
    other.log.complete(&address, "late".into()).await.expect("nothing to do");
    let (next_table, _) = table_of(bus, 1).await;
    bus.log.complete(&next_table, "next".into()).await.expect("stored");
    let mut markers = bus.log.markers(address.shard, StreamSeq::ZERO).await.expect("read");
    assert_eq!(next(&mut markers).await.expect("a marker").address, next_table);
}

pub(crate) async fn a_tombstone_is_followed(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let mut followed = other.log.follow(address.table).await.expect("followed");
    let seq = bus.log.bury(&address, positions[1], "at rest".into(), KEPT).await.expect("buried");
    let tombstone = next(&mut followed).await;
    assert_eq!(tombstone.what, Stored::Tombstone);
    assert_eq!((tombstone.previous, tombstone.seq), (positions[1], seq));
}

pub(crate) async fn a_table_that_moved_on_is_not_buried(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let fenced = other.log.bury(&address, positions[0], "at rest".into(), KEPT).await;
    assert!(is_fenced(&fenced), "{fenced:?}");
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(payloads(&entries), ["0", "1"]);
}

pub(crate) async fn a_buried_table_cannot_begin_anew(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let seq = bus.log.bury(&address, positions[1], "at rest".into(), KEPT).await.expect("buried");
    for after in [StreamSeq::ZERO, positions[0], positions[1]] {
        let late = other.log.append(append(&address, after, "late")).await;
        assert!(is_fenced(&late), "{late:?}");
    }
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq]);
}

pub(crate) async fn a_tombstone_expires(bus: &Bus, other: &Bus) {
    let (address, positions) = table_of(bus, 2).await;
    let ttl = Duration::from_secs(1);
    bus.log.bury(&address, positions[1], "at rest".into(), ttl).await.expect("buried");
    eventually(async || {
        let entries = other.log.read(address.table, StreamSeq::ZERO).await.expect("read");
        entries.is_empty()
    })
    .await;
}

pub(crate) async fn a_shard_that_is_not_there_is_named(bus: &Bus, _: &Bus) {
    let name = "EVENTS_77";
    let markers = bus.log.markers(77, StreamSeq::ZERO).await.err();
    let age = bus.log.created_at(77).await.err();
    for error in [markers, age] {
        assert!(
            matches!(&error, Some(ReadError::NoStream { stream }) if stream == name),
            "{error:?}"
        );
    }
}

pub(crate) async fn a_shard_knows_its_age(bus: &Bus, other: &Bus) {
    let created = bus.log.created_at(0).await.expect("known");
    assert_eq!(other.log.created_at(0).await.expect("known"), created);
    assert!(created > Timestamp::from_millis(0));
}

async fn ask(bus: &Bus, subject: &str, timeout: Duration) -> Result<Bytes, RequestError> {
    bus.mail.request(subject.to_owned(), "ping".into(), timeout).await
}

async fn serve(bus: &Bus, subject: &str) -> BoxStream<'static, Request> {
    let served = bus.mail.serve(subject.to_owned(), Some(subject::WORKERS)).await;
    served.expect("served")
}

pub(crate) async fn a_request_without_a_server_says_so(bus: &Bus, other: &Bus) {
    let subject = subject::cmd(new_table());
    assert_eq!(ask(bus, &subject, SOON).await, Err(RequestError::NoResponders));
    drop(serve(other, &subject).await);
    // One that is asked while it goes away may take the request with it.
    let briefly = Duration::from_millis(50);
    eventually(async || ask(bus, &subject, briefly).await == Err(RequestError::NoResponders)).await;
}

pub(crate) async fn a_request_is_answered(bus: &Bus, other: &Bus) {
    // Again and again, since being served is a promise from the moment that `serve` returns.
    for _ in 0..50 {
        let subject = subject::cmd(new_table());
        let mut served = serve(other, &subject).await;
        let answer = async {
            let request = next(&mut served).await;
            assert_eq!(request.payload, Bytes::from("ping"));
            request.reply.send("pong".into()).await;
        };
        let (asked, ()) = future::join(ask(bus, &subject, SOON), answer).await;
        assert_eq!(asked, Ok(Bytes::from("pong")));
    }
}

pub(crate) async fn a_request_that_is_dropped_times_out(bus: &Bus, other: &Bus) {
    let subject = subject::cmd(new_table());
    let mut served = serve(other, &subject).await;
    let (asked, ()) = future::join(ask(bus, &subject, Duration::from_millis(100)), async {
        drop(next(&mut served).await);
    })
    .await;
    assert_eq!(asked, Err(RequestError::Timeout));
}

pub(crate) async fn a_group_shares_its_requests(bus: &Bus, other: &Bus) {
    let subject = subject::cmd(new_table());
    let both = [serve(bus, &subject).await, serve(other, &subject).await];
    let mut served = futures_util::stream::select_all(
        both.into_iter()
            .enumerate()
            .map(|(member, requests)| requests.map(move |request| (member, request)).boxed()),
    );
    let mut answered = [0, 0];
    for number in 0..100 {
        let asking = ask(bus, &subject, SOON);
        let answering = async {
            let (member, request) = served.next().await.expect("a request");
            request.reply.send("pong".into()).await;
            member
        };
        let (asked, member) = future::join(asking, answering).await;
        assert_eq!(asked, Ok(Bytes::from("pong")), "request {number}");
        answered[member] += 1;
    }
    assert!(answered.iter().all(|count| *count > 10), "{answered:?}");
    assert!(
        timeout(Duration::from_millis(50), served.next()).await.is_err(),
        "each request went to one member only"
    );
}

pub(crate) async fn a_notice_reaches_everyone_who_listens(bus: &Bus, other: &Bus) {
    let beats = subject::BEATS.to_owned();
    let mut here = bus.mail.listen(beats.clone()).await.expect("heard");
    let mut there = other.mail.listen(beats).await.expect("heard");
    let worker = "w1".parse().expect("a worker");
    bus.mail.notify(subject::beat(&worker), "alive".into()).await.expect("sent");
    for listener in [&mut here, &mut there] {
        assert_eq!(next(listener).await, Bytes::from("alive"));
    }
    let nobody = bus.mail.notify(subject::seat(new_table()), "gone".into()).await;
    nobody.expect("nobody has to listen");
}

fn line(table: TableId, status: LobbyStatus) -> LobbyEntry {
    LobbyEntry {
        table,
        kind: "chess".parse().expect("a kind"),
        status,
        seats: vec![LobbySeat { name: "Ada".to_owned(), bot: false }],
    }
}

pub(crate) async fn the_lobby_lists_what_was_put_and_not_removed(bus: &Bus, other: &Bus) {
    assert_eq!(other.lobby.list().await.expect("listed"), vec![]);
    let [waiting, running] = [new_table(), new_table()];
    bus.lobby.put(&line(waiting, LobbyStatus::Waiting)).await.expect("put");
    bus.lobby.put(&line(running, LobbyStatus::Waiting)).await.expect("put");
    bus.lobby.put(&line(running, LobbyStatus::Running)).await.expect("put");
    let mut listed = other.lobby.list().await.expect("listed");
    listed.sort_by_key(|entry| entry.table != waiting);
    let both = [line(waiting, LobbyStatus::Waiting), line(running, LobbyStatus::Running)];
    assert_eq!(listed, both);
    bus.lobby.remove(waiting).await.expect("removed");
    bus.lobby.remove(waiting).await.expect("nothing to remove");
    assert_eq!(other.lobby.list().await.expect("listed"), both[1..]);
}

pub(crate) async fn a_lobby_watcher_sees_the_list_then_changes(bus: &Bus, other: &Bus) {
    let [first, second] = [new_table(), new_table()];
    bus.lobby.put(&line(first, LobbyStatus::Waiting)).await.expect("put");
    let mut changes = other.lobby.watch().await.expect("watched");
    let put = |table| LobbyChange::Put(line(table, LobbyStatus::Waiting));
    assert_eq!(next(&mut changes).await, put(first));
    bus.lobby.put(&line(second, LobbyStatus::Waiting)).await.expect("put");
    assert_eq!(next(&mut changes).await, put(second));
    bus.lobby.remove(first).await.expect("removed");
    assert_eq!(next(&mut changes).await, LobbyChange::Removed(first));
}
