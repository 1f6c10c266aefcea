//! What only a real server can show: crashes, full streams, strangers on our subjects, the stored form.

use std::num::NonZeroU16;
use std::time::Duration;

use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, header};
use bytes::Bytes;
use futures_util::StreamExt;
use tablecast::bus::connect::client;
use tablecast::bus::{AppendError, Bus, Entry, EventLog, ReadError, Stored, provision};
use tablecast::domain::StreamSeq;
use tablecast::protocol::frame::{LobbyEntry, LobbyStatus};
use tablecast::protocol::subject;
use tokio::time::{Instant, timeout};

use crate::nats_server::NatsServer;
use crate::tables::{address, append, new_table, table_of};

const SOON: Duration = Duration::from_secs(30);
const KEPT: Duration = Duration::from_secs(600);

/// A server, a bus on it, and the plain client of somebody else.
async fn server() -> (NatsServer, Bus, Client, Context) {
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let stranger = client(&server.config(&[]), "stranger").await.expect("connected");
    let context = provision::context(&stranger);
    (server, bus, stranger, context)
}

async fn stream(context: &Context, name: &str) -> Stream {
    context.get_stream(name).await.expect("there")
}

async fn read(bus: &Bus, table: tablecast::domain::TableId) -> Vec<Entry> {
    bus.log.read(table, StreamSeq::ZERO).await.expect("read")
}

#[tokio::test]
async fn a_commit_is_stored_with_headers_for_operators() {
    let (_server, bus, _, context) = server().await;
    let (address, positions) = table_of(&bus, 2).await;
    let events = stream(&context, "EVENTS_0").await;
    let stored = events.get_raw_message(positions[1].get()).await.expect("stored");
    assert_eq!(stored.subject.as_str(), address.evt());
    let value = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(value("Content-Type").as_deref(), Some("application/msgpack"));
    assert_eq!(value("Tc-Type").as_deref(), Some("test.happened"));
    assert_eq!(value("Tc-Worker").as_deref(), Some("w1"));
    assert_eq!(value("Tc-Command").as_deref(), Some("c1"));
    assert_eq!(value("Tc-Request").as_deref(), Some("r1"));
    assert_eq!(value("Nats-Msg-Id"), Some(format!("{}:1", address.table)));
    let after = positions[0].get().to_string();
    assert_eq!(value("Nats-Expected-Last-Subject-Sequence"), Some(after));
}

#[tokio::test]
async fn what_a_stranger_writes_is_read_as_it_is() {
    let (_server, bus, _, context) = server().await;
    let (address, positions) = table_of(&bus, 1).await;
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    let ack = context.publish(address.evt(), "garbage".into()).await.expect("sent");
    let seq = StreamSeq::new(ack.await.expect("stored").sequence);
    let entries = read(&bus, address.table).await;
    let garbage = entries.last().expect("an entry");
    assert_eq!((garbage.what, garbage.seq, garbage.previous), (Stored::Commit, seq, positions[0]));
    assert_eq!((&garbage.payload[..], &garbage.id), (&b"garbage"[..], &None));
    assert_eq!(followed.next().await.as_ref(), Some(garbage));
    let fenced = bus.log.append(append(&address, positions[0], "2")).await;
    assert!(matches!(fenced, Err(AppendError::Fenced { .. })), "{fenced:?}");
}

#[tokio::test]
async fn what_did_not_come_from_the_log_is_not_followed() {
    let (_server, bus, stranger, context) = server().await;
    let address = address(&bus, new_table());
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    let forged = format!("tc.live.{address}");
    stranger.publish(forged, "forged".into()).await.expect("sent");
    // A kind that no table of ours can have.
    let odd = format!("tc.evt.{}.NOT_A_KIND.{}", address.shard, address.table);
    context.publish(odd, "odd".into()).await.expect("sent").await.expect("stored");
    let seq = bus.log.append(append(&address, StreamSeq::ZERO, "1")).await.expect("stored");
    assert_eq!(followed.next().await.expect("an entry").seq, seq);
    assert_eq!(read(&bus, address.table).await.len(), 1);
}

#[tokio::test]
async fn an_append_outlives_a_crash_of_the_server_and_is_stored_once() {
    let (mut server, bus, _, _) = server().await;
    let (address, mut positions) = table_of(&bus, 20).await;
    for round in 0..3 {
        let last = *positions.last().expect("some");
        server.kill();
        let id = format!("round {round}");
        let crossing = bus.log.append(append(&address, last, &id));
        let (crossed, ()) = tokio::join!(timeout(SOON, crossing), server.restart());
        positions.push(crossed.expect("in time").expect("stored"));
    }
    let read: Vec<StreamSeq> =
        read(&bus, address.table).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(read, positions);
}

#[tokio::test]
async fn an_append_without_a_server_gives_up_and_says_that_it_does_not_know() {
    let (mut server, bus, stranger, _) = server().await;
    let (address, positions) = table_of(&bus, 1).await;
    let shards = NonZeroU16::new(1).expect("one");
    let log = tablecast::bus::jetstream::JetStream::new(stranger, shards)
        .with_append_patience(Duration::from_millis(300));
    server.kill();
    let unknown = log.append(append(&address, positions[0], "2")).await;
    assert!(matches!(unknown, Err(AppendError::Unavailable { .. })), "{unknown:?}");
}

#[tokio::test]
async fn following_goes_on_and_reading_markers_ends_when_the_server_restarts() {
    let (mut server, bus, _, _) = server().await;
    let (address, positions) = table_of(&bus, 1).await;
    bus.log.complete(&address, Bytes::new()).await.expect("stored");
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    let mut markers = bus.log.markers(0, StreamSeq::ZERO).await.expect("read");
    markers.next().await.expect("a marker").expect("a marker");
    server.restart().await;
    let ended = timeout(SOON, markers.next()).await.expect("in time");
    ended.expect("a reason").expect_err("the consumer is gone");
    assert!(markers.next().await.is_none());
    let seq = bus.log.append(append(&address, positions[0], "2")).await.expect("stored");
    assert_eq!(followed.next().await.expect("an entry").seq, seq);
}

#[tokio::test]
async fn a_stream_that_is_gone_is_named() {
    let (_server, bus, _, context) = server().await;
    let mut markers = bus.log.markers(0, StreamSeq::ZERO).await.expect("read");
    context.delete_stream("EVENTS_0").await.expect("deleted");
    let gone = bus.log.read(new_table(), StreamSeq::ZERO).await;
    assert!(matches!(gone, Err(ReadError::NoStream { .. })), "{gone:?}");
    let ended = timeout(SOON, markers.next()).await.expect("in time");
    ended.expect("a reason").expect_err("the stream is gone");
}

#[tokio::test]
async fn a_full_stream_refuses_and_a_burial_makes_room() {
    let (_server, bus, _, context) = server().await;
    let mut small = stream(&context, "EVENTS_0").await.cached_info().config.clone();
    small.max_bytes = 20_000;
    context.update_stream(small).await.expect("changed");
    let address = address(&bus, new_table());
    let mut last = StreamSeq::ZERO;
    let mut number = 0;
    let refusal = loop {
        let mut commit = append(&address, last, &number.to_string());
        commit.payload = vec![b'x'; 500].into();
        match bus.log.append(commit).await {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
        number += 1;
    };
    assert!(number > 10, "{number}");
    assert!(matches!(refusal, AppendError::Refused { .. }), "{refusal:?}");
    let tombstone = vec![b'x'; 600].into();
    let buried = bus.log.bury(&address, last, tombstone, KEPT).await.expect("buried");
    let entries = read(&bus, address.table).await;
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [buried]);
    table_of(&bus, 10).await;
}

#[tokio::test]
async fn a_table_with_too_many_commits_can_still_be_buried() {
    let (_server, bus, _, context) = server().await;
    let mut small = stream(&context, "EVENTS_0").await.cached_info().config.clone();
    small.max_messages_per_subject = 5;
    context.update_stream(small).await.expect("changed");
    let (address, positions) = table_of(&bus, 5).await;
    let refused = bus.log.append(append(&address, positions[4], "6")).await;
    assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    bus.log.bury(&address, positions[4], "at rest".into(), KEPT).await.expect("buried");
    assert_eq!(read(&bus, address.table).await.len(), 1);
}

#[tokio::test]
async fn what_is_set_aside_is_kept_once_with_its_origin() {
    let (_server, bus, _, context) = server().await;
    let (address, positions) = table_of(&bus, 1).await;
    let entries = read(&bus, address.table).await;
    for _ in 0..3 {
        bus.log.set_aside(0, &entries[0], "not\nMessagePack").await.expect("kept");
    }
    let dead = stream(&context, "DEAD").await;
    assert_eq!(dead.cached_info().state.messages, 1);
    let letter = dead.get_raw_message(1).await.expect("kept");
    assert_eq!(letter.subject.as_str(), subject::dead("EVENTS_0"));
    assert_eq!(letter.payload, entries[0].payload);
    let value = |name: &str| letter.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(value("Tc-Origin-Subject"), Some(address.evt()));
    assert_eq!(value("Tc-Origin-Seq"), Some(positions[0].get().to_string()));
    assert_eq!(value("Tc-Reason").as_deref(), Some("not MessagePack"));
    assert_eq!(value("Nats-Msg-Id"), Some(format!("EVENTS_0:{}", positions[0].get())));
}

#[tokio::test]
async fn an_operator_reads_the_lobby_as_json_and_a_removed_line_goes_away() {
    let (_server, bus, _, context) = server().await;
    let table = new_table();
    let line = LobbyEntry {
        table,
        kind: "chess".parse().expect("a kind"),
        status: LobbyStatus::Running,
        seats: vec![],
    };
    bus.lobby.put(&line).await.expect("put");
    let bucket = context.get_key_value("tc_lobby").await.expect("a bucket");
    let value = bucket.get(table.to_string()).await.expect("read").expect("a line");
    let json: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
    assert_eq!(json["status"], "running");
    bus.lobby.remove(table).await.expect("removed");
    assert_eq!(bucket.get(table.to_string()).await.expect("read"), None);
    let lines = stream(&context, "KV_tc_lobby").await;
    let removed = lines.get_last_raw_message_by_subject(&format!("$KV.tc_lobby.{table}")).await;
    let ttl =
        removed.expect("there").headers.get(header::NATS_MESSAGE_TTL).map(ToString::to_string);
    assert_eq!(ttl.as_deref(), Some("60s"), "so that the bucket does not grow for ever");
}

/// Prints how an append compares with awaited publishes by hand, taken in turn.
#[tokio::test]
async fn an_append_costs_about_what_a_publish_by_hand_costs() {
    const ROUNDS: u32 = 2000;
    let (_server, bus, stranger, _) = server().await;
    let [table, plain, fenced] = [(); 3].map(|()| address(&bus, new_table()));
    let payload = Bytes::from(vec![b'x'; 200]);
    let mut last = [StreamSeq::ZERO; 2];
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..ROUNDS {
        let mut commit = append(&table, last[0], &number.to_string());
        commit.payload = payload.clone();
        let started = Instant::now();
        last[0] = bus.log.append(commit).await.expect("stored");
        took[0].push(started.elapsed());

        let started = Instant::now();
        stranger.request(plain.evt(), payload.clone()).await.expect("stored");
        took[1].push(started.elapsed());

        let started = Instant::now();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, format!("{}:{number}", fenced.table));
        let expected = last[1].get().to_string();
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected);
        let sent = stranger.request_with_headers(fenced.evt(), headers, payload.clone()).await;
        took[2].push(started.elapsed());
        let ack: serde_json::Value =
            serde_json::from_slice(&sent.expect("stored").payload).expect("JSON");
        last[1] = StreamSeq::new(ack["seq"].as_u64().expect("stored"));
    }
    let [append, bare, fenced] = took.map(|mut all| {
        all.sort_unstable();
        (all[all.len() / 2], all[all.len() * 99 / 100])
    });
    let ratio = |other: (Duration, Duration)| append.0.as_secs_f64() / other.0.as_secs_f64();
    println!(
        "p50/p99: append {append:?}; publish with fence and id {fenced:?}, ratio {:.2}; bare {bare:?}, ratio {:.2}",
        ratio(fenced),
        ratio(bare)
    );
    // Loose, since other tests run beside it.
    assert!(ratio(fenced) < 2.0);
}
