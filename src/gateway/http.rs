//! The routes of a gateway: a table of contents, and the few that are not a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, Json, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::{self, Served};
use super::hub::Known;
use super::page;
use super::token::{NAME_CHARS_MAX, shown_name};
use crate::catalog::Catalog;
use crate::domain::{Identity, Kind, PlayerId, TableId, Timestamp};
use crate::protocol::frame::{Format, LobbyEntry};

/// The largest body that any route takes.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// What one socket's reader starts with; it grows with the frames that come.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// A batch of frames goes out in one write.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// What the routes share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// What all connections share.
    pub served: Arc<Served>,
    /// Connections, so that shutdown can wait for them.
    pub connections: TaskTracker,
    /// The games that can be opened here.
    pub catalog: Catalog,
    /// How long a guest's token is good; nothing if there are no guests.
    pub guest_ttl: Option<Duration>,
}

/// All routes but those of the health of the process.
pub(super) fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/ws", get(ws))
        .route("/v1/guest", post(guest))
        .route("/v1/games", get(games))
        .route("/v1/tables", get(tables))
        .route("/v1/tables/{id}", get(table))
        .route("/", get(page::index))
        .route("/t/{*table}", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// An answer that is not what was asked for.
#[derive(Debug, Serialize)]
struct Problem {
    /// A stable name for programs, in snake case.
    code: &'static str,
    /// For people.
    message: String,
}

fn problem(status: StatusCode, code: &'static str, message: impl Into<String>) -> Response {
    let message = message.into();
    (status, Json(Problem { code, message })).into_response()
}

/// Anything that is no route.
pub(super) async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

async fn method_not_allowed() -> Response {
    let message = "this address does not take that method";
    problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn ws(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    let mut upgrade = upgrade;
    let mut offered = upgrade.requested_protocols().peekable();
    let has_offer = offered.peek().is_some();
    let known = offered.find_map(|offer| {
        let mut formats = Format::ALL.into_iter();
        formats.find(|format| offer.as_bytes() == format.subprotocol().as_bytes())
    });
    drop(offered);
    let format = match known {
        Some(format) => {
            upgrade.set_selected_protocol(HeaderValue::from_static(format.subprotocol()));
            format
        }
        None if has_offer => {
            let ours = Format::ALL.map(Format::subprotocol).join(", ");
            let message = format!("none of the offered sub-protocols is spoken here: {ours}");
            return problem(StatusCode::BAD_REQUEST, "unknown_subprotocol", message);
        }
        None => Format::Json,
    };
    let frame_bytes_max = shared.served.session.frame_bytes_max;
    upgrade
        .max_message_size(frame_bytes_max)
        .max_frame_size(frame_bytes_max)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(move |socket| {
            let serving = connection::run(socket, format, Arc::clone(&shared.served));
            shared.connections.track_future(serving)
        })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestRequest {
    name: String,
}

#[derive(Debug, Serialize)]
struct Guest {
    token: String,
    player: PlayerId,
    name: String,
    expires_at: Timestamp,
}

async fn guest(
    State(shared): State<Shared>,
    request: Result<Json<GuestRequest>, JsonRejection>,
) -> Response {
    let Some(ttl) = shared.guest_ttl else {
        let message = "this gateway gives no guest tokens";
        return problem(StatusCode::FORBIDDEN, "guests_off", message);
    };
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => {
            return problem(rejection.status(), "bad_request", rejection.body_text());
        }
    };
    let Some(name) = shown_name(&request.name) else {
        let message = format!("a name has 1 to {NAME_CHARS_MAX} characters that can be shown");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_name", message);
    };
    let player = format!("guest-{:032x}", u128::from_le_bytes(shared.served.entropy.bytes()));
    let identity =
        Identity { player: player.parse().expect("hexadecimal digits make an id"), name };
    let now = shared.served.clock.now();
    let (token, expires_at) = shared.served.tokens.issue(&identity, now, ttl);
    let Identity { player, name } = identity;
    let guest = Guest { token, player, name, expires_at };
    ([(header::CACHE_CONTROL, "no-store")], Json(guest)).into_response()
}

#[derive(Debug, Serialize)]
struct Games {
    games: Vec<GameLine>,
}

#[derive(Debug, Serialize)]
struct GameLine {
    kind: Kind,
    rules: u32,
    bots: bool,
}

async fn games(State(shared): State<Shared>) -> Response {
    let games = shared.catalog.rules().filter(|rules| !rules.is_relayed()).map(|rules| GameLine {
        kind: rules.kind().clone(),
        rules: rules.rules_version(),
        bots: rules.has_bots(),
    });
    Json(Games { games: games.collect() }).into_response()
}

#[derive(Debug, Serialize)]
struct Tables {
    tables: Vec<LobbyEntry>,
}

async fn tables(State(shared): State<Shared>) -> Response {
    let tables = shared.served.board.tables();
    let fresh = [(header::CACHE_CONTROL, "no-store")];
    (fresh, Json(Tables { tables })).into_response()
}

async fn table(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Ok(table) = id.parse::<TableId>() else {
        return unknown_table();
    };
    match shared.served.hub.spectator_snapshot(table).await {
        Ok(Known::Table(snapshot)) => json(snapshot),
        Ok(Known::Archived) => {
            let message = "the table is over and in the archive";
            problem(StatusCode::GONE, "archived", message)
        }
        Ok(Known::Unknown) => unknown_table(),
        Err(error) => {
            warn!(table.id = %table, %error, "table {table} cannot be read");
            let message = "the table cannot be read now";
            let problem = problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
            ([(header::RETRY_AFTER, "1")], problem).into_response()
        }
    }
}

fn unknown_table() -> Response {
    problem(StatusCode::NOT_FOUND, "unknown_table", "there is no such table")
}

fn json(body: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
