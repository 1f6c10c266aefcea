//! A table as server-sent events.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socket::{PATIENCE, Socket};
use crate::stage::Stage;

#[derive(Debug, Default, PartialEq)]
struct Event {
    kind: String,
    id: Option<u64>,
    retry: Option<u64>,
    data: Value,
}

struct Events {
    status: u16,
    head: String,
    reader: BufReader<TcpStream>,
}

impl Events {
    /// HTTP/1.0, so that the body comes as it is.
    async fn open(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut tcp = TcpStream::connect(stage.address).await.expect("a listener");
        let mut request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        tcp.write_all(format!("{request}\r\n").as_bytes()).await.expect("sent");
        let mut events = Self { status: 0, head: String::new(), reader: BufReader::new(tcp) };
        while let Some(line) = events.line().await
            && !line.is_empty()
        {
            events.head += &format!("{}\n", line.to_lowercase());
        }
        let status = events.head.split(' ').nth(1).expect("a status").parse();
        events.status = status.expect("a number");
        events
    }

    async fn of_table(stage: &Stage, table: &str, more: &str, headers: &[(&str, &str)]) -> Self {
        let events = Self::open(stage, &format!("/v1/tables/{table}/stream{more}"), headers).await;
        assert_eq!(events.status, 200, "{}", events.head);
        events
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.reader.read_line(&mut line)).await;
        let length = read.expect("something comes in time").expect("readable");
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; nothing once the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", kind)) => kind.clone_into(&mut event.kind),
                Some(("id", id)) => event.id = Some(id.parse().expect("a number")),
                Some(("retry", wait)) => event.retry = Some(wait.parse().expect("a number")),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                None if line.is_empty() && !event.kind.is_empty() => return Some(event),
                Some(("", _)) | None => {}
                Some(_) => panic!("{line}"),
            }
        }
    }

    async fn expect(&mut self, kind: &str) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.kind, kind, "{event:?}");
        assert_eq!(event.data["type"], kind);
        event
    }
}

async fn table(stage: &Stage) -> (Socket, Socket, String) {
    let (mut nok, mut somchai) = (stage.player("Nok").await, stage.player("Somchai").await);
    let table = stage.table_of(&mut nok, &mut somchai).await;
    (nok, somchai, table)
}

#[tokio::test]
async fn a_spectator_follows_and_comes_back_where_it_was() {
    let stage = Stage::new(&[]).await;
    let (mut nok, _somchai, table) = table(&stage).await;
    let mut events = Events::of_table(&stage, &table, "", &[]).await;
    assert!(events.head.contains("content-type: text/event-stream"), "{}", events.head);
    let subscribed = events.expect("subscribed").await;
    assert_eq!((subscribed.id, &subscribed.data["seat"]), (None, &Value::Null));
    assert!(subscribed.retry.expect("a wait") >= 1000);
    let snapshot = events.expect("snapshot").await;
    assert_eq!(snapshot.id, snapshot.data["seq"].as_u64());
    assert_eq!(snapshot.data["view"]["game"]["yours"], Value::Null);
    nok.say("c1", &table, 7).await;
    let commit = events.expect("commit").await;
    let have = commit.id.expect("an id");
    assert_eq!(Some(have), snapshot.id.map(|id| id + 1));
    assert_eq!(commit.data["events"], json!([{ "type": "said", "seat": 0, "number": 7 }]));
    drop(events);
    for number in [8, 9] {
        nok.say(&format!("c{number}"), &table, number).await;
        nok.until("accepted").await;
    }
    let cursor = have.to_string();
    for (more, header) in
        [("", Some(("Last-Event-ID", cursor.as_str()))), (&*format!("?cursor={have}"), None)]
    {
        let mut events = Events::of_table(&stage, &table, more, header.as_slice()).await;
        assert_eq!(events.expect("subscribed").await.data["recovered"], true);
        for number in [8, 9] {
            assert_eq!(events.expect("commit").await.data["events"][0]["number"], number);
        }
    }
}

#[tokio::test]
async fn who_draws_views_has_a_commit_only_with_its_snapshot() {
    let stage = Stage::new(&[]).await;
    let (mut nok, _somchai, table) = table(&stage).await;
    let mut events =
        Events::of_table(&stage, &table, "?deliver=views", &[("Accept-Encoding", "gzip")]).await;
    events.expect("subscribed").await;
    let first = events.expect("snapshot").await.id;
    nok.say("c1", &table, 7).await;
    assert_eq!(events.expect("commit").await.id, None);
    let snapshot = events.expect("snapshot").await;
    assert_eq!(snapshot.id, first.map(|id| id + 1));
    assert_eq!(snapshot.data["view"]["game"]["said"], json!([7]));
}

#[tokio::test]
async fn a_player_sees_its_own_seat() {
    let stage = Stage::new(&[]).await;
    let (_nok, _somchai, table) = table(&stage).await;
    let authorization = format!("Bearer {}", stage.token("Somchai"));
    let mut events =
        Events::of_table(&stage, &table, "", &[("Authorization", &authorization)]).await;
    assert_eq!(events.expect("subscribed").await.data["seat"], 1);
    assert!(events.expect("snapshot").await.data["view"]["game"]["yours"].is_number());
}

#[tokio::test]
async fn what_cannot_be_streamed_is_told_before_the_stream() {
    let stage = Stage::new(&[]).await;
    let (_nok, _somchai, table) = table(&stage).await;
    let of_table = format!("/v1/tables/{table}/stream");
    for (path, header, status) in [
        ("/v1/tables/019ab3c4-5d6e-7f80-9123-456789abcdef/stream", None, 404),
        ("/v1/tables/7/stream", None, 404),
        (&*format!("{of_table}?cursor=x"), None, 400),
        (&*format!("{of_table}?colour=blue"), None, 400),
        (&*of_table, Some(("Last-Event-ID", "\"1\"")), 400),
        (&*of_table, Some(("Authorization", "Bearer x.y.z")), 401),
        (&*of_table, Some(("Authorization", "Basic eDp5")), 401),
    ] {
        let answer = Events::open(&stage, path, header.as_slice()).await;
        assert_eq!(answer.status, status, "{path} {header:?}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_stream_has_a_place_like_any_connection_and_gives_it_back() {
    let stage = Stage::new(&["--connections-max=3"]).await;
    let (_nok, _somchai, table) = table(&stage).await;
    let mut events = Events::of_table(&stage, &table, "", &[]).await;
    events.expect("subscribed").await;
    assert!(Socket::try_connect(stage.address, None).await.is_err());
    let refused = Events::open(&stage, &format!("/v1/tables/{table}/stream"), &[]).await;
    assert_eq!(refused.status, 503);
    drop(events);
    let entered = async { while Socket::try_connect(stage.address, None).await.is_err() {} };
    timeout(PATIENCE, entered).await.expect("the place is free again");
}

#[tokio::test]
async fn a_stream_of_a_gateway_that_stops_says_when_to_come_back() {
    let stage = Stage::new(&["--reconnect-window=2s"]).await;
    let (_nok, _somchai, table) = table(&stage).await;
    let mut events = Events::of_table(&stage, &table, "", &[]).await;
    events.expect("subscribed").await;
    events.expect("snapshot").await;
    stage.shutdown.cancel();
    loop {
        let event = events.next().await.expect("a goodbye");
        if event.kind == "goodbye" {
            assert_eq!(event.retry, event.data["reconnect_after_ms"].as_u64());
            assert!(event.retry.expect("a wait") <= 2000);
            break;
        }
    }
    assert_eq!(events.next().await, None);
    timeout(PATIENCE, stage.gateway).await.expect("in time").expect("no panic").expect("well");
}
