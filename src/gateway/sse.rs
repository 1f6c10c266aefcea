//! A table as server-sent events: for spectators behind proxies that let no WebSocket through. The same frames, from
//! the same outbox.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use litemap::LiteMap;
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Permit;
use super::client_address::Client;
use super::connection::Presence;
use super::http::{Shared, archived, problem, refused, unavailable, unknown_table};
use super::mailbox::{ConnectionId, Mailbox};
use super::metrics;
use super::outbox::Next;
use super::served::Served;
use super::subscriber::Join;
use super::token::{Bearer, TokenError};
use super::wire::{Frame, Wire};
use crate::domain::{TableId, TableSeq};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Deliver, ServerFrame};

/// What is handed over before the outbox is asked again.
const BATCH_BYTES: usize = 64 * 1024;
/// The least that a client waits that lost its stream, and over how long such clients are spread.
const RETRY_MS: u64 = 1000;
/// Where a browser says what it has, when it comes back by itself.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The last commit that the client has.
    cursor: Option<TableSeq>,
    #[serde(default)]
    deliver: Deliver,
}

/// `GET /v1/tables/{id}/stream`.
pub(super) async fn stream(
    State(shared): State<Shared>,
    Extension(Client(client)): Extension<Client>,
    Path(table): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(table) = table.parse::<TableId>() else { return unknown_table() };
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, "bad_request", error.body_text());
        }
    };
    let Ok(cursor) = last_event_id(&headers) else {
        let message = "Last-Event-ID has to be the id of an event of ours";
        return problem(StatusCode::BAD_REQUEST, "bad_request", message);
    };
    let cursor = cursor.or(wanted.cursor);
    let bearer = match bearer(&shared.served, &headers).await {
        Ok(bearer) => bearer,
        Err(error) => return unauthorized(error),
    };
    let jitter = u64::from_le_bytes(shared.served.entropy.bytes());
    let permit = match shared.admission.admit(client, Instant::now(), jitter) {
        Ok(permit) => permit,
        Err(refusal) => return refused(&refusal),
    };
    let kept = (permit, shared.connections.token());
    let viewer = Viewing { client, table, cursor, deliver: wanted.deliver, bearer };
    let mut events = Box::pin(Events::new(shared.served, viewer, kept));
    // A browser does not come back to an answer of another status: so nothing is promised before the table is there.
    let first = poll_fn(|cx| events.as_mut().poll_chunk(cx)).await;
    // A table that is in the archive comes with its end.
    match events.unsubscribed.as_deref().filter(|_| !events.has_begun) {
        Some("archived") => return archived(),
        Some("unavailable") => return unavailable(),
        Some(_unknown) => return unknown_table(),
        None => {}
    }
    let mut begin = format!("retry: {}\n\n", RETRY_MS + jitter % RETRY_MS).into_bytes();
    begin.extend_from_slice(&first.unwrap_or_default());
    events.begin = Some(begin.into());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For nginx, which else holds back what is small.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// The cursor of a client that comes back.
///
/// # Errors
/// If it is none of ours.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<TableSeq>, ()> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.parse().ok());
    id.map(|id| Some(TableSeq::new(id))).ok_or(())
}

async fn bearer(served: &Served, headers: &HeaderMap) -> Result<Option<Bearer>, TokenError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    let Some((scheme, token)) = token else { return Err(TokenError::Malformed) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Malformed);
    }
    match served.tokens.check(token.trim(), served.clock.now()) {
        Err(TokenError::UnknownKey) => {
            served.tokens.check_anew(token.trim(), served.clock).await.map(Some)
        }
        checked => checked.map(Some),
    }
}

fn unauthorized(error: TokenError) -> Response {
    metrics::token_refused(error.reason());
    if let TokenError::KeysUnavailable { .. } = error {
        let message = "whether your token is good cannot be known now";
        let problem = problem(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", message);
        return ([(header::RETRY_AFTER, "1")], problem).into_response();
    }
    let problem = problem(StatusCode::UNAUTHORIZED, error.reason(), "this token is not taken");
    ([(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))], problem).into_response()
}

/// Who wants to see what.
struct Viewing {
    client: IpAddr,
    table: TableId,
    cursor: Option<TableSeq>,
    deliver: Deliver,
    bearer: Option<Bearer>,
}

/// What a frame of ours begins with.
#[derive(Deserialize)]
struct Head<'a> {
    r#type: &'a str,
    seq: Option<u64>,
    reason: Option<&'a str>,
}

/// The body of an answer. Asked for more only when the socket takes it: until then the outbox conflates.
struct Events {
    served: Arc<Served>,
    mailbox: Arc<Mailbox>,
    presence: Presence,
    deliver: Deliver,
    /// Written before anything else.
    begin: Option<Bytes>,
    timer: Pin<Box<Sleep>>,
    quiet_until: Instant,
    throttled_until: Option<Instant>,
    /// When the token is believed no more.
    ends_at: Option<Instant>,
    /// Why nothing more comes of the table.
    unsubscribed: Option<String>,
    /// Whether there is a table to be seen.
    has_begun: bool,
    has_ended: bool,
    _kept: (Permit, TaskTrackerToken),
}

impl Events {
    fn new(served: Arc<Served>, viewing: Viewing, kept: (Permit, TaskTrackerToken)) -> Self {
        metrics::streaming();
        let id = ConnectionId(served.next_connection.fetch_add(1, Ordering::Relaxed));
        let mailbox = Arc::new(Mailbox::new(id, Wire::Json, Some(viewing.client), served.outbox));
        let presence = Presence {
            mailbox: Arc::clone(&mailbox),
            served: Arc::clone(&served),
            feeds: LiteMap::new(),
        };
        let (now, wall) = (Instant::now(), served.clock.now());
        let ends_at = viewing.bearer.as_ref().and_then(|bearer| {
            let left = bearer.ends_at().as_millis().saturating_sub(wall.as_millis());
            now.checked_add(Duration::from_millis(left))
        });
        let mut events = Self {
            quiet_until: now + served.session.ping_interval,
            timer: Box::pin(sleep_until(now)),
            deliver: viewing.deliver,
            begin: None,
            throttled_until: None,
            ends_at,
            unsubscribed: None,
            has_begun: false,
            has_ended: false,
            _kept: kept,
            served,
            mailbox,
            presence,
        };
        events.join(viewing);
        events
    }

    fn join(&mut self, viewing: Viewing) {
        self.served.registry.add(&self.mailbox);
        let join = Join {
            mailbox: Arc::clone(&self.mailbox),
            player: viewing.bearer.map(|bearer| bearer.identity.player),
            cursor: viewing.cursor,
            deliver: viewing.deliver,
        };
        let feed = self.served.hub.join(viewing.table, &join);
        self.presence.feeds.insert(viewing.table, feed);
    }

    /// What there is to write, or that there will be nothing more.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            let rung = self.mailbox.poll_rung(cx);
            let now = Instant::now();
            let mut out = Vec::new();
            self.fill(&mut out, now);
            let closing = self.mailbox.lock().closing();
            if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
                self.end(CloseCode::TokenExpired, &mut out);
            } else if let Some(code) = closing {
                self.end(code, &mut out);
            }
            self.has_ended |= self.unsubscribed.is_some();
            if out.is_empty() && self.quiet_until <= now {
                out.extend_from_slice(b": still here\n\n");
            }
            if !out.is_empty() {
                self.quiet_until = now + self.served.session.ping_interval;
                return Poll::Ready(Some(out.into()));
            }
            if rung.is_ready() {
                continue;
            }
            let wake_at = [self.throttled_until, self.ends_at].into_iter().flatten();
            self.timer.as_mut().reset(wake_at.fold(self.quiet_until, Instant::min));
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Takes what may go out now from the outbox.
    fn fill(&mut self, out: &mut Vec<u8>, now: Instant) {
        let throttled_until = self.throttled_until.take();
        let mut sent = 0;
        while out.len() < BATCH_BYTES {
            let next = self.mailbox.lock().next(now);
            match next {
                Next::Send(frame, then) => {
                    for frame in [Some(frame), then].into_iter().flatten() {
                        self.write(&frame, out);
                        sent += 1;
                    }
                }
                Next::SnapshotDue(table) => match self.presence.feeds.get(&table) {
                    Some(feed) => feed.resolve(&self.mailbox),
                    None => self.mailbox.lock().unfollow(table),
                },
                // Nobody asks for it here.
                Next::LobbyDue => {}
                Next::WaitUntil(until, hold) => {
                    // Looked at again before its time, it is the same wait.
                    if throttled_until != Some(until) {
                        metrics::throttled_out(hold);
                        let mut outbox = self.mailbox.lock();
                        let throttled = &mut outbox.standing().throttled_out;
                        *throttled = throttled.saturating_add(1);
                    }
                    self.throttled_until = Some(until);
                    break;
                }
                Next::Nothing => break,
            }
        }
        self.served.sent.increment(sent);
    }

    fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let payload = frame.payload();
        // JSON of ours has no line breaks, and its names no escapes.
        let head: Head<'_> = match serde_json::from_slice(&payload) {
            Ok(head) => head,
            Err(_control_frame) => return,
        };
        self.has_begun |= head.r#type == "subscribed";
        if head.r#type == "unsubscribed" {
            self.unsubscribed = Some(head.reason.unwrap_or_default().to_owned());
        }
        // The id says what the client has. Who draws views has a commit only with the snapshot after it.
        let is_whole = match self.deliver {
            Deliver::Events => matches!(head.r#type, "commit" | "snapshot"),
            Deliver::Views => head.r#type == "snapshot",
        };
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(head.r#type.as_bytes());
        if let Some(seq) = head.seq.filter(|_| is_whole) {
            out.extend_from_slice(format!("\nid: {seq}").as_bytes());
        }
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\n\n");
    }

    /// The last word.
    fn end(&mut self, code: CloseCode, out: &mut Vec<u8>) {
        metrics::closed(code);
        self.has_ended = true;
        let frame = if code == CloseCode::Restart {
            let goodbye = self.served.goodbye();
            if let ServerFrame::Goodbye { reconnect_after_ms } = goodbye {
                out.extend_from_slice(format!("retry: {reconnect_after_ms}\n").as_bytes());
            }
            goodbye
        } else {
            let message = "this stream ends: ask for another one".to_owned();
            ServerFrame::Error { code: code.reason(), message, retry_after_ms: None }
        };
        self.write(&Frame::of(Wire::Json, &frame), out);
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(begin) = self.begin.take() {
            return Poll::Ready(Some(Ok(begin)));
        }
        self.poll_chunk(cx).map(|chunk| chunk.map(Ok))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        metrics::streamed();
    }
}
