//! A client for tests: sends values, receives values, in either sub-protocol.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Far more than anything here takes: a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    is_json: bool,
}

impl Socket {
    /// Connects with this sub-protocol, or with none, and takes the welcome.
    pub(crate) async fn connect(address: SocketAddr, offer: Option<&str>) -> (Self, Value) {
        let mut socket = Self::try_connect(address, offer).await.expect("upgraded");
        let welcome = socket.expect("welcome").await;
        (socket, welcome)
    }

    pub(crate) async fn try_connect(
        address: SocketAddr,
        offer: Option<&str>,
    ) -> Result<Self, tungstenite::Error> {
        let offer = offer.map(|offer| ("Sec-WebSocket-Protocol", offer));
        Self::try_connect_with(address, offer.as_slice()).await
    }

    /// With these headers beside those of every upgrade.
    pub(crate) async fn try_connect_with(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let tcp = TcpStream::connect(address).await.expect("a listener");
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        let (stream, response) = client_async(request, tcp).await?;
        let chosen = response.headers().get("Sec-WebSocket-Protocol");
        let is_json = chosen.is_none_or(|chosen| chosen == "tablecast.v1.json");
        Ok(Self { stream, is_json })
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        let message = if self.is_json {
            Message::text(frame.to_string())
        } else {
            Message::binary(rmp_serde::to_vec_named(&frame).expect("encodes"))
        };
        self.send_raw(message).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.stream.send(message).await.expect("sent");
    }

    /// The next frame of ours, or the code that the socket was closed with.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next());
            let message = next.await.expect("something comes in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    assert!(self.is_json, "text on a MessagePack socket");
                    return Ok(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    assert!(!self.is_json, "binary on a JSON socket");
                    return Ok(rmp_serde::from_slice(&bytes).expect("MessagePack"));
                }
                Some(Ok(Message::Close(Some(close)))) => return Err(close.code.into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(None))) | Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// The next frame, which is of this type.
    pub(crate) async fn expect(&mut self, r#type: &str) -> Value {
        let frame = self.next().await.expect("a frame");
        assert_eq!(frame["type"], r#type, "{frame}");
        frame
    }

    /// The next frame of this type; others are passed over.
    pub(crate) async fn until(&mut self, r#type: &str) -> Value {
        loop {
            let frame = self.next().await.expect("a frame");
            if frame["type"] == r#type {
                return frame;
            }
        }
    }

    /// The code with which the gateway closes the socket; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    pub(crate) async fn say(&mut self, id: &str, table: &str, number: u32) {
        let command = json!({ "type": "say", "number": number });
        let frame = json!({ "type": "command", "id": id, "table": table, "command": command });
        self.send(frame).await;
    }

    pub(crate) async fn subscribe(&mut self, table: &str) -> Value {
        self.send(json!({ "type": "subscribe", "table": table })).await;
        self.until("subscribed").await
    }
}
