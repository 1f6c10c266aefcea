//! An echo server on this layer, which is what the Autobahn test suite wants to talk to: `make autobahn`.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::future::poll_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::accept;
use super::super::wire::{Frame, Wire};
use super::codec::{Decoder, Message};
use super::handshake::Handshake;
use super::socket::{Socket, with_read_buffer};

/// The largest message of the suite is 16 MiB.
const BYTES_MAX: usize = 16 << 20;
const SEND_BUFFER: usize = 64 << 10;

async fn ws(State(connections): State<TaskTracker>, handshake: Handshake) -> Response {
    let wire = handshake.wire(true).expect("no sub-protocol is offered");
    let (response, upgrading) = handshake.accept(wire);
    connections.spawn(async move {
        if let Some((stream, early)) = upgrading.finish().await {
            // Fails if the client is gone, as in some cases it is.
            echo(stream, early, wire).await.ok();
        }
    });
    response
}

async fn echo(stream: TcpStream, early: Bytes, wire: Wire) -> std::io::Result<()> {
    let mut socket = Socket::new(stream, SEND_BUFFER);
    let mut decoder = Decoder::new(BYTES_MAX, wire == Wire::JsonDeflated);
    let mut goodbye = answer(&mut socket, &mut decoder, &mut early.to_vec(), wire);
    while goodbye.is_none() {
        socket.flush().await?;
        poll_fn(|cx| socket.poll_readable(cx)).await;
        goodbye = with_read_buffer(|buffer| {
            let length = socket.read(buffer)?;
            std::io::Result::Ok(answer(&mut socket, &mut decoder, &mut buffer[..length], wire))
        })?;
    }
    goodbye.into_iter().for_each(|frame| socket.push(frame));
    socket.flush().await?;
    socket.shut();
    tokio::time::timeout(Duration::from_secs(1), socket.drain()).await.ok();
    Ok(())
}

/// The last frame, if it is time for it.
fn answer(
    socket: &mut Socket,
    decoder: &mut Decoder,
    bytes: &mut [u8],
    wire: Wire,
) -> Option<Frame> {
    let taken = decoder.take(bytes, |message| {
        let echo = match message {
            Message::Text(text) => Frame::encode(wire, |out| out.extend_from_slice(text)),
            Message::Binary(bytes) => {
                Frame::encode(Wire::MessagePack, |out| out.extend_from_slice(bytes))
            }
            Message::Ping(payload) => Frame::pong(payload),
            Message::Pong => return ControlFlow::Continue(()),
            Message::Close(code) => return ControlFlow::Break(Frame::close_echo(code)),
        };
        socket.push(echo);
        ControlFlow::Continue(())
    });
    match taken {
        Ok(flow) => flow.break_value(),
        Err(fault) => Some(Frame::close(fault.code())),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves until it is killed, at the address in TABLECAST_ECHO: `make autobahn` does that"]
async fn serve() {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let address = std::env::var("TABLECAST_ECHO").expect("an address in TABLECAST_ECHO");
    let address: SocketAddr = address.parse().expect("an address and a port");
    let listener = TcpListener::bind(address).await.expect("a free port");
    let router = Router::new().route("/", get(ws)).with_state(TaskTracker::new());
    let patience = Duration::from_secs(60);
    let times = accept::Times { head: patience, slow: patience };
    accept::serve(listener, router, times, CancellationToken::new()).await;
}
