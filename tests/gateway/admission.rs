//! Who is let in, and who is shown the door before a WebSocket is there.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::http::call;
use crate::socket::Socket;
use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(30);

async fn refusal(stage: &Stage) -> (u16, u64, Value) {
    refusal_with(stage, &[]).await
}

async fn refusal_with(stage: &Stage, headers: &[(&'static str, &str)]) -> (u16, u64, Value) {
    let refused = Socket::try_connect_with(stage.address, headers).await;
    let Err(tungstenite::Error::Http(response)) = refused.map(|_| ()) else {
        panic!("upgraded");
    };
    let retry_after = response.headers()["retry-after"].to_str().expect("text");
    let body = response.body().as_deref().expect("a body");
    let body = serde_json::from_slice(body).expect("JSON");
    (response.status().as_u16(), retry_after.parse().expect("seconds"), body)
}

async fn comes_in_again(stage: &Stage) {
    let entered = async { while Socket::try_connect(stage.address, None).await.is_err() {} };
    timeout(PATIENCE, entered).await.expect("the place is free again");
}

#[tokio::test]
async fn a_full_gateway_says_503_until_a_connection_ends() {
    let stage = Stage::new(&["--connections-max=1"]).await;
    let first = stage.spectator().await;
    let (status, seconds, body) = refusal(&stage).await;
    assert_eq!((status, &body["code"]), (503, &"gateway_full".into()));
    let millis = body["retry_after_ms"].as_u64().expect("a wait");
    assert!((1000..2000).contains(&millis), "{millis}");
    assert_eq!(seconds, millis.div_ceil(1000));
    drop(first);
    comes_in_again(&stage).await;
}

#[tokio::test]
async fn an_address_with_too_many_connections_is_told_429() {
    let stage = Stage::new(&["--connections-per-address-max=1"]).await;
    let first = stage.spectator().await;
    let (status, _, body) = refusal(&stage).await;
    assert_eq!((status, &body["code"]), (429, &"address_full".into()));
    drop(first);
    comes_in_again(&stage).await;
}

#[tokio::test]
async fn who_sends_no_whole_request_in_time_is_cut_off() {
    let stage = Stage::new(&["--request-timeout=200ms"]).await;
    for sent in ["", "GET /v1/games HT", "GET /v1/games HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut tcp = TcpStream::connect(stage.address).await.expect("a listener");
        tcp.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "kept open after {sent:?}");
    }
}

#[tokio::test]
async fn who_comes_when_it_was_told_to_is_not_refused_twice() {
    for (options, expected) in [
        (["--connect-burst=1", "--connect-rate=1"], (503, "gateway_throttled")),
        (
            ["--connect-burst-per-address=1", "--connect-rate-per-address=1"],
            (429, "address_throttled"),
        ),
    ] {
        let stage = Stage::new(&options).await;
        let _first = stage.spectator().await;
        let mut waits = Vec::new();
        for _ in 0..3 {
            let (status, seconds, body) = refusal(&stage).await;
            assert_eq!((status, body["code"].as_str().expect("a code")), expected);
            let millis = body["retry_after_ms"].as_u64().expect("a wait");
            assert_eq!(seconds, millis.div_ceil(1000));
            waits.push(Duration::from_millis(millis));
        }
        assert!(waits.is_sorted(), "{waits:?}");
        tokio::time::sleep(waits[2]).await;
        for _ in 0..3 {
            assert!(Socket::try_connect(stage.address, None).await.is_ok(), "{waits:?}");
        }
    }
}

#[tokio::test]
async fn a_proxys_word_on_who_asks_is_taken_and_nobody_elses() {
    let stage =
        Stage::new(&["--connections-per-address-max=1", "--trusted-proxy=127.0.0.0/8"]).await;
    let comes = |from| Socket::try_connect_with(stage.address, from);
    let _one = comes(&[("X-Forwarded-For", "203.0.113.1")]).await.expect("a place");
    let _other = comes(&[("X-Forwarded-For", "203.0.113.2")]).await.expect("a place");
    for same in ["203.0.113.1", "8.8.8.8, 203.0.113.1", "203.0.113.1:99, 127.0.0.1"] {
        let (status, _, body) = refusal_with(&stage, &[("X-Forwarded-For", same)]).await;
        assert_eq!((status, &body["code"]), (429, &"address_full".into()), "{same}");
    }
    let stage = Stage::new(&["--connections-per-address-max=1"]).await;
    let _one = stage.spectator().await;
    for header in ["X-Forwarded-For", "Forwarded"] {
        assert_eq!(refusal_with(&stage, &[(header, "for=203.0.113.1")]).await.0, 429);
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_429_but_health_is_always_told() {
    let stage = Stage::new(&["--request-burst=2", "--request-rate=1"]).await;
    for _ in 0..2 {
        assert_eq!(call(&stage, "GET", "/v1/games", "").await.0, 200);
    }
    let (status, head, body) = call(&stage, "GET", "/v1/games", "").await;
    assert_eq!(status, 429);
    assert!(head.contains("\r\nretry-after: "), "{head}");
    assert!(body.contains("requests_throttled"), "{body}");
    assert_eq!(call(&stage, "GET", "/healthz", "").await.0, 200);
    stage.spectator().await;
}
