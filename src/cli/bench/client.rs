//! A WebSocket client that speaks the JSON protocol, one frame at a time.

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::domain::TableId;
use crate::protocol::frame::Format;

#[derive(Debug)]
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Connects to a gateway's `/ws`, and says who it is if it has a token.
    pub(super) async fn connect(address: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        let offer = Format::Json.subprotocol().parse()?;
        request.headers_mut().insert("sec-websocket-protocol", offer);
        // Without the no-delay flag, a frame waits for the acknowledgement of the one before it.
        let (socket, _) = connect_async_with_config(request, None, true).await?;
        let mut client = Self { socket };
        client.expect("welcome").await?;
        if let Some(token) = token {
            client.send(&json!({"type": "hello", "token": token})).await?;
            client.expect("welcome").await?;
        }
        Ok(client)
    }

    pub(super) async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.socket.send(Message::text(frame.to_string())).await.context("the gateway is gone")
    }

    /// The next frame of a type; others before it are passed over.
    pub(super) async fn expect(&mut self, expected: &str) -> anyhow::Result<Value> {
        loop {
            let message = self.socket.next().await.context("the gateway is gone")??;
            let Message::Text(text) = message else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text)?;
            match frame["type"].as_str() {
                Some(found) if found == expected => return Ok(frame),
                Some("rejected" | "error") => bail!("expected {expected}, got {frame}"),
                _ => {}
            }
        }
    }

    /// Follows a table; returns once its snapshot is here.
    pub(super) async fn subscribe(&mut self, table: TableId) -> anyhow::Result<()> {
        self.send(&json!({"type": "subscribe", "table": table})).await?;
        self.expect("snapshot").await?;
        Ok(())
    }
}

/// A guest's token from a gateway.
pub(super) async fn guest_token(address: &str, name: &str) -> anyhow::Result<String> {
    let response = reqwest::Client::new()
        .post(format!("http://{address}/v1/guest"))
        .json(&json!({"name": name}))
        .send()
        .await?
        .error_for_status()?;
    let guest: Value = response.json().await?;
    Ok(guest["token"].as_str().context("a guest has a token")?.to_owned())
}
