//! The routes that are no WebSocket.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{Stage, open};

/// Status, head and body.
pub(crate) async fn call(
    stage: &Stage,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    call_at(stage.address, method, path, body).await
}

/// The same at this gateway.
async fn call_at(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    let (status, head, body) = call_with(address, method, path, &[], body).await;
    (status, head, String::from_utf8_lossy(&body).into_owned())
}

/// The same with these headers, and the body as it came.
pub(crate) async fn call_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String, Vec<u8>) {
    let mut tcp = TcpStream::connect(address).await.expect("a listener");
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "Content-Type: application/json\r\n";
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    tcp.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.expect("answered");
    let head_ends = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(head_ends + 4);
    let head = String::from_utf8(answer).expect("text");
    let status = head.split(' ').nth(1).expect("a status").parse();
    (status.expect("a number"), head.to_lowercase(), body)
}

pub(crate) async fn get(stage: &Stage, path: &str) -> (u16, Value) {
    get_at(stage.address, path).await
}

pub(crate) async fn get_at(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, _, body) = call_at(address, "GET", path, "").await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[tokio::test]
async fn guests_get_a_token_that_the_gateway_takes() {
    let stage = Stage::new(&[]).await;
    let (status, _, body) = call(&stage, "POST", "/v1/guest", r#"{"name":" Nok "}"#).await;
    assert_eq!(status, 200);
    let guest: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(guest["name"], "Nok");
    let mut client = stage.spectator().await;
    client.send(json!({ "type": "hello", "token": guest["token"] })).await;
    let welcome = client.expect("welcome").await;
    assert_eq!(welcome["player"], guest["player"]);

    for bad in ["", "{}", r#"{"name":7}"#, r#"{"name":"x","admin":true}"#] {
        let (status, _, body) = call(&stage, "POST", "/v1/guest", bad).await;
        assert!((400..500).contains(&status), "{bad}: {status}");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["code"], "bad_request");
    }
    let long = json!({ "name": "x".repeat(25) }).to_string();
    let (status, _, _) = call(&stage, "POST", "/v1/guest", &long).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn tables_can_be_read_without_a_socket() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let (status, snapshot) = get(&stage, &format!("/v1/tables/{table}")).await;
    assert_eq!(status, 200);
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["view"]["you"], Value::Null);
    nok.subscribe(&table).await;
    nok.expect("snapshot").await;
    assert_eq!(get(&stage, &format!("/v1/tables/{table}")).await.1, snapshot);
    for unknown in ["019ab3c4-5d6e-7f80-9123-456789abcdef", "7"] {
        let (status, problem) = get(&stage, &format!("/v1/tables/{unknown}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("unknown_table")));
    }
    assert_eq!(get(&stage, "/v1/tables").await, (200, json!({ "tables": [] })));
}

#[tokio::test]
async fn the_page_is_served_and_anything_else_is_json() {
    let stage = Stage::new(&[]).await;
    for path in ["/", "/t/019ab3c4-5d6e-7f80-9123-456789abcdef"] {
        let (status, head, body) = call(&stage, "GET", path, "").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/html"), "{head}");
        assert!(head.contains("content-security-policy: default-src 'self'"), "{head}");
        assert!(body.to_lowercase().contains("<!doctype html>"));
    }
    let (status, head, _) = call(&stage, "GET", "/assets/app.js", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/javascript"), "{head}");
    for path in ["/nothing", "/assets/../Cargo.toml", "/assets/nothing.js", "/v1"] {
        let (status, problem) = get(&stage, path).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{path}");
    }
    let (status, _, body) = call(&stage, "DELETE", "/v1/tables", "").await;
    assert_eq!(status, 405);
    assert!(body.contains("method_not_allowed"));
}

#[tokio::test]
async fn health_is_told() {
    let stage = Stage::new(&[]).await;
    assert_eq!(get(&stage, "/healthz").await.0, 200);
    // Ready once the list of tables is there.
    while get(&stage, "/readyz").await.0 != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&stage, "/metrics").await.0, 200);
}
