//! One WebSocket connection to some gateway.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// A gateway that does not answer a connection within this is passed over.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// How often a client asks whether the gateway is there, and how long it waits for any sign of it.
pub(crate) const PING_EVERY: Duration = Duration::from_millis(1_500);
const SILENCE_MAX: Duration = Duration::from_millis(4_500);

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    heard: Instant,
}

/// A frame as it came, and what any client reads of it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) head: Head,
}

/// What any client reads of a frame.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) r#type: String,
    #[serde(default)]
    pub(crate) table: Option<String>,
    #[serde(default)]
    pub(crate) seq: Option<u64>,
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) seat: Option<u8>,
    #[serde(default)]
    pub(crate) recovered: Option<bool>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) retry_after_ms: Option<u64>,
    /// Looked at only if it is the newest.
    #[serde(default)]
    pub(crate) view: Option<Box<RawValue>>,
}

impl Client {
    /// Connects, and says who it is if it has a token.
    pub(crate) async fn connect(
        address: std::net::SocketAddr,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        timeout(CONNECT_WAIT, Self::welcomed(address, token)).await?
    }

    async fn welcomed(address: std::net::SocketAddr, token: Option<&str>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "tablecast.v1.json".parse()?);
        let (socket, _) = client_async(request, tcp).await?;
        let mut client = Self { socket, heard: Instant::now() };
        client.welcome().await?;
        if let Some(token) = token {
            client.send(&json!({ "type": "hello", "token": token })).await?;
            client.welcome().await?;
        }
        Ok(client)
    }

    async fn welcome(&mut self) -> anyhow::Result<()> {
        let frame = self.next().await?;
        if frame.head.r#type != "welcome" {
            bail!("a connection begins with {}", frame.head.r#type);
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        let sent = self.socket.send(Message::text(frame.to_string()));
        timeout(SILENCE_MAX, sent).await?.context("the gateway is gone")
    }

    /// The next frame. An error if the gateway is gone, or says nothing any more. Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Frame> {
        loop {
            let next = timeout_at(self.heard + SILENCE_MAX, self.socket.next()).await?;
            let message = next.context("the gateway is gone")??;
            self.heard = Instant::now();
            if let Message::Text(text) = message {
                // A copy: the text is a part of a buffer that would be kept with it.
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                let head = serde_json::from_slice(&bytes)?;
                return Ok(Frame { bytes, head });
            }
        }
    }
}
