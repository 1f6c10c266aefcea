//! Who is let in, and who is shown the door before a WebSocket is there.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::socket::Socket;
use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(30);

async fn refusal(stage: &Stage) -> (u16, u64, Value) {
    let refused = Socket::try_connect(stage.address, None).await;
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
