//! The routes of a gateway: a table of contents, and the few that are not a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Extension, Json, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;
use tracing::{Instrument, debug_span, warn};

use super::admission::{Admission, Refusal};
use super::client_address::Client;
use super::connection;
use super::hub::Known;
use super::middleware::{Around, RequestId, around as around_request};
use super::origin;
use super::page;
use super::served::Served;
use super::sse;
use super::token::{GUEST, NAME_CHARS_MAX, shown_name};
use super::ws::handshake::{Handshake, Refused};
use crate::catalog::Catalog;
use crate::domain::{Identity, Kind, PlayerId, TableId, Timestamp};
use crate::protocol::frame::LobbyEntry;
use crate::runtime::entropy::Entropy;

/// The largest body that any route takes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// What the routes share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// What all connections share.
    pub served: Arc<Served>,
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// Connections, so that shutdown can wait for them.
    pub connections: TaskTracker,
    /// The games that can be opened here.
    pub catalog: Catalog,
    /// How long a guest's token is good; nothing if there are no guests.
    pub guest_ttl: Option<Duration>,
}

/// Where connections that are to stay begin.
pub(super) const WS: &str = "/ws";

/// One route: its path, the method in small letters, and what it does.
type Route = (&'static str, &'static str, MethodRouter<Shared>);

/// The routes that are no WebSocket. `openapi.json` describes each.
fn table_of_routes() -> Vec<Route> {
    vec![
        ("/v1/guest", "post", post(guest)),
        ("/v1/games", "get", get(games)),
        ("/v1/tables", "get", get(tables)),
        ("/v1/tables/{id}", "get", get(table)),
        ("/v1/tables/{id}/stream", "get", get(sse::stream)),
        ("/v1/openapi.json", "get", get(openapi)),
        ("/", "get", get(page::index)),
        ("/t/{*table}", "get", get(page::index)),
        ("/assets/{name}", "get", get(page::asset)),
    ]
}

/// All routes but those of the health of the process.
pub(super) fn routes(shared: Shared, around: Around) -> Router {
    let guard = middleware::from_fn_with_state(around.origins.clone(), origin::guard);
    let plain = table_of_routes()
        .into_iter()
        .fold(Router::new(), |router, (path, _method, route)| router.route(path, route))
        // Not what comes by and by: that is to be there at once.
        .layer(CompressionLayer::new());
    Router::new()
        .route(WS, get(ws).route_layer(guard))
        .merge(plain)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(around, around_request))
        .with_state(shared)
}

async fn openapi() -> Response {
    json(Bytes::from_static(include_bytes!("openapi.json")))
}

/// An answer that is not what was asked for.
#[derive(Debug, Serialize)]
struct Problem {
    /// A stable name for programs, in snake case.
    code: &'static str,
    /// For people.
    message: String,
}

pub(super) fn problem(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
) -> Response {
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

/// Not now, and when.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let Refusal { reason, retry_after_ms } = *refusal;
    let status = if reason.is_clients_own() {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let seconds = retry_after_ms.div_ceil(1000).to_string();
    let body = serde_json::json!({
        "code": reason.code(),
        "message": reason.to_string(),
        "retry_after_ms": retry_after_ms,
    });
    (status, [(header::RETRY_AFTER, seconds)], Json(body)).into_response()
}

async fn ws(
    State(shared): State<Shared>,
    Extension(Client(client)): Extension<Client>,
    Extension(RequestId(id)): Extension<RequestId>,
    handshake: Result<Handshake, Refused>,
) -> Result<Response, Refused> {
    let handshake = handshake?;
    let served = shared.served;
    let wire = match handshake.wire(served.deflates) {
        Ok(wire) => wire,
        Err(problem) => return Ok(*problem),
    };
    let jitter = u64::from_le_bytes(served.entropy.bytes());
    let permit = match shared.admission.admit(client, Instant::now(), jitter) {
        Ok(permit) => permit,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let (response, upgrading) = handshake.accept(wire);
    // As all lines of a connection are: where those are not wanted, this costs nothing.
    let span = debug_span!("connection", request.id = %id, %client);
    let connection = async move {
        if let Some((stream, early)) = upgrading.finish().await {
            // Boxed: while one waits to be upgraded, it needs no room for a connection.
            Box::pin(connection::run(stream, early, wire, client, id, served)).await;
        }
        drop(permit);
    };
    shared.connections.spawn(connection.instrument(span));
    Ok(response)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestRequest {
    name: String,
    /// A guest's token that is still good: who shows it stays the same player.
    token: Option<String>,
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
    let (served, now) = (&shared.served, shared.served.clock.now());
    let player = match request.token.map(|token| served.tokens.check_guest(&token, now)) {
        Some(Some(guest)) => guest.player,
        Some(None) => {
            let message = "this is no guest's token, or it has expired: ask without it";
            return problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_token", message);
        }
        None => new_guest(&served.entropy),
    };
    let identity = Identity { player, name };
    let (token, expires_at) = served.tokens.issue(&identity, now, ttl);
    let Identity { player, name } = identity;
    let guest = Guest { token, player, name, expires_at };
    ([(header::CACHE_CONTROL, "no-store")], Json(guest)).into_response()
}

fn new_guest(entropy: &Entropy) -> PlayerId {
    let player = format!("{GUEST}{:032x}", u128::from_le_bytes(entropy.bytes()));
    player.parse().expect("hexadecimal digits make an id")
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
        Ok(Known::Archived(_)) => archived(),
        Ok(Known::Unknown) => unknown_table(),
        Err(error) => {
            warn!(table.id = %table, %error, "table {table} cannot be read");
            unavailable()
        }
    }
}

pub(super) fn archived() -> Response {
    problem(StatusCode::GONE, "archived", "the table is over and in the archive")
}

pub(super) fn unavailable() -> Response {
    let message = "the table cannot be read now";
    let problem = problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
    ([(header::RETRY_AFTER, "1")], problem).into_response()
}

pub(super) fn unknown_table() -> Response {
    problem(StatusCode::NOT_FOUND, "unknown_table", "there is no such table")
}

fn json(body: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::runtime::health;

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let health = health::PATHS.into_iter().map(|path| (path, "get"));
        let routes = table_of_routes().into_iter().map(|(path, method, _)| (path, method));
        let routed: BTreeSet<_> = routes
            .chain(health)
            .chain([(WS, "get")])
            .map(|(path, method)| (path.replace("{*", "{"), method.to_owned()))
            .collect();
        let openapi: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: BTreeSet<_> = openapi["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(described, routed);
    }
}
