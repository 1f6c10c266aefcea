//! Takes connections and serves HTTP/1.1 on them, until told to stop. In the place of `axum::serve`, which lets a
//! client take any time to send a request.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::client_address::Peer;
use super::patient::Patient;

/// The largest head of a request; also the least that hyper takes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long to wait when the system has no more sockets: some must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// To send the head of a request.
    pub head: Duration,
    /// To take anything of what is sent.
    pub slow: Duration,
}

/// Serves until `stopping`, then until the last request is answered.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    times: Times,
    stopping: CancellationToken,
) {
    let mut http = http1::Builder::new();
    // The timer starts when a head is awaited, so it also ends connections that are kept alive for nothing.
    http.timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(HEAD_BYTES_MAX);
    let requests = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let peer = Peer(peer.ip().to_canonical());
                requests.spawn(serve_one(
                    http.clone(),
                    (socket, times),
                    peer,
                    router.clone(),
                    stopping.clone(),
                ));
            }
            Err(error) if is_of_one_connection(error.kind()) => {
                debug!(%error, "a connection was gone before it was taken");
            }
            Err(error) => {
                warn!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    requests.close();
    requests.wait().await;
}

async fn serve_one(
    http: http1::Builder,
    (socket, times): (TcpStream, Times),
    peer: Peer,
    router: Router,
    stopping: CancellationToken,
) {
    // A lone frame must not wait for the one after it.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "a socket keeps its delay");
    }
    let routed = TowerToHyperService::new(router);
    // Said with each request: to layer the router would build every route anew for every connection.
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        routed.call(request)
    });
    let serving = http
        .serve_connection(TokioIo::new(Patient::new(socket, times.slow)), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

fn is_of_one_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}
