//! Tokens and origins over a real socket: renewal, expiry, keys at a URL, seats, pages of other sites.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tablecast::domain::Seat;
use tablecast::gateway::{Claims, SeatClaim, SigningKey};
use tablecast::runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use crate::http::call;
use crate::socket::Socket;
use crate::stage::{SECRET, Stage, id_of, open};

const TOKEN_EXPIRED: u16 = 4003;
const BAD_TOKEN: u16 = 4503;
const ED_1: &[u8] = include_bytes!("../support/keys/ed-1.private.pem");

fn claims(player: Option<&str>, ttl_s: i64) -> Claims {
    let now = Clock::System.now().as_millis() / 1000;
    let sub = player.map(str::to_owned);
    Claims { sub, exp: now.checked_add_signed(ttl_s), ..Claims::default() }
}

fn signed(claims: &Claims) -> String {
    let secret = SECRET.parse().expect("long enough");
    SigningKey::of_secret(&secret).sign(claims).expect("signs")
}

async fn hello(socket: &mut Socket, token: &str) {
    socket.send(json!({ "type": "hello", "token": token })).await;
}

#[tokio::test]
async fn a_token_can_be_renewed_over_the_open_socket_and_ends_it_when_it_is_not() {
    let stage = Stage::new(&["--ping-interval", "1h"]).await;
    let (mut renewed, mut left) = (stage.spectator().await, stage.spectator().await);
    let began = Instant::now();
    // Good for a second, and believed for as long as clocks may differ.
    let short = signed(&claims(Some("nok"), 1));
    hello(&mut left, &short).await;
    left.expect("welcome").await;
    hello(&mut renewed, &short).await;
    let before = renewed.expect("welcome").await;
    hello(&mut renewed, &signed(&claims(Some("nok"), 3600))).await;
    let after = renewed.expect("welcome").await;
    assert!(before["expires_at"].as_u64() < after["expires_at"].as_u64(), "{after}");
    // No ping is due for an hour, so it is the token's own appointment that closes.
    assert_eq!(left.closed().await, TOKEN_EXPIRED);
    assert!(began.elapsed() < Duration::from_secs(3600));
    renewed.send(json!({ "type": "ping", "data": 1 })).await;
    renewed.expect("pong").await;
    // Another's token, or an old one, renews nothing.
    hello(&mut renewed, &signed(&claims(Some("eve"), 3600))).await;
    assert_eq!(renewed.expect("error").await["code"], "already_identified");
    hello(&mut renewed, &signed(&claims(Some("nok"), -3600))).await;
    assert_eq!(renewed.closed().await, TOKEN_EXPIRED);
}

#[tokio::test]
async fn issuer_and_audience_are_asked_for() {
    let options = ["--token-issuer", "https://a.example", "--token-audience", "games"];
    let stage = Stage::new(&options).await;
    let mut nok = stage.spectator().await;
    hello(&mut nok, &signed(&claims(Some("nok"), 60))).await;
    assert_eq!(nok.closed().await, BAD_TOKEN);
    // What the gateway itself gives to guests is good.
    let (status, _, guest) = call(&stage, "POST", "/v1/guest", r#"{"name":"Nok"}"#).await;
    assert_eq!(status, 200);
    let guest: Value = serde_json::from_str(&guest).expect("JSON");
    let mut nok = stage.spectator().await;
    hello(&mut nok, guest["token"].as_str().expect("a token")).await;
    assert_eq!(nok.expect("welcome").await["player"], guest["player"]);
}

#[tokio::test]
async fn a_guest_stays_the_same_player_with_a_renewed_token() {
    let stage = Stage::new(&[]).await;
    let ask = async |body: Value| {
        let (status, _, body) = call(&stage, "POST", "/v1/guest", &body.to_string()).await;
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    let (_, guest) = ask(json!({ "name": "Nok" })).await;
    let (status, again) = ask(json!({ "name": "Noi", "token": guest["token"] })).await;
    assert_eq!((status, &again["player"], &again["name"]), (200, &guest["player"], &json!("Noi")));
    let (_, other) = ask(json!({ "name": "Nok" })).await;
    assert_ne!(other["player"], guest["player"]);
    for bad in ["", "x.y.z", &stage.token("Nok"), &signed(&claims(Some("guest-1"), -60))] {
        let (status, problem) = ask(json!({ "name": "Nok", "token": bad })).await;
        assert_eq!((status, &problem["code"]), (422, &json!("bad_token")), "{bad}");
    }
}

#[tokio::test]
async fn keys_at_a_url_are_waited_for_and_an_outage_is_no_bad_token() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let answer: Arc<Mutex<Option<&str>>> = Arc::default();
    let now = Arc::clone(&answer);
    let route = get(move || {
        let answer = now.lock().expect("whole").ok_or(StatusCode::SERVICE_UNAVAILABLE);
        async move { answer }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
    let serving = axum::serve(listener, Router::new().route("/keys", route));
    let mut serves = JoinSet::new();
    serves.spawn(serving.into_future());
    // It starts although the keys cannot be had, and asks again before long.
    let stage = Stage::new(&["--jwks-url", &url, "--jwks-max-age", "50ms"]).await;
    let signer = SigningKey::from_pem(ED_1, Some("ed-1".to_owned())).expect("a key");
    let token = signer.sign(&claims(Some("nok"), 3600)).expect("signs");
    let mut nok = stage.spectator().await;
    // A command that comes behind the hello is judged after it.
    hello(&mut nok, &token).await;
    nok.send(json!({ "type": "open", "id": "o1", "kind": "hidden-number" })).await;
    let error = nok.expect("error").await;
    assert_eq!(error["code"], "keys_unavailable");
    assert!(error["retry_after_ms"].as_u64() > Some(0), "{error}");
    assert_eq!(nok.expect("rejected").await["code"], "not_identified");
    *answer.lock().expect("whole") = Some(include_str!("../support/keys/jwks.json"));
    loop {
        hello(&mut nok, &token).await;
        let frame = nok.next().await.expect("no close");
        if frame["type"] == "welcome" {
            assert_eq!(frame["player"], "nok");
            break;
        }
        assert!(["keys_unavailable", "throttled"].contains(&frame["code"].as_str().unwrap_or("")));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The secret's tokens are good beside it.
    stage.player("Somchai").await;
}

#[tokio::test]
async fn a_seat_token_takes_its_seat_and_shows_it_only_then() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let (table, other) = (open(&mut nok).await, open(&mut nok).await);
    let tc = |seat| Some(SeatClaim { table: id_of(&table), seat: Seat(seat) });
    let token = signed(&Claims { tc: tc(1), ..claims(None, 3600) });
    let mut guest = stage.spectator().await;
    hello(&mut guest, &token).await;
    assert_eq!(guest.expect("welcome").await["name"], "Seat 1");
    // The token alone shows nothing: the seat is nobody's by the log.
    assert_eq!(guest.subscribe(&table).await["seat"], Value::Null);
    let snapshot = guest.expect("snapshot").await;
    assert_eq!(snapshot["view"]["you"], Value::Null);
    let command = |id: &str, table: &str, command: Value| json!({ "type": "command", "id": id, "table": table, "command": command });
    let elsewhere = command("1", &other, json!({ "type": "table.sit" }));
    let in_another = command("2", &table, json!({ "type": "table.sit", "seat": 0 }));
    let opening = json!({ "type": "open", "id": "3", "kind": "hidden-number" });
    for refused in [elsewhere, in_another, opening] {
        guest.send(refused).await;
        assert_eq!(guest.expect("rejected").await["code"], "seat_only");
    }
    guest.send(command("4", &table, json!({ "type": "table.sit" }))).await;
    // Once it is in the log; the verdict may come before or after.
    assert_eq!(guest.until("subscribed").await["seat"], 1);
    assert_eq!(guest.until("snapshot").await["view"]["you"], 1);
    // Whoever shows the token again is the same player; one for a seat that another holds shows nothing.
    let mut again = stage.spectator().await;
    hello(&mut again, &token).await;
    again.expect("welcome").await;
    assert_eq!(again.subscribe(&table).await["seat"], 1);
    let mut late = stage.spectator().await;
    let of_nok = Claims { tc: tc(0), ..claims(Some("player-Nok"), 3600) };
    hello(&mut late, &signed(&of_nok)).await;
    late.expect("welcome").await;
    assert_eq!(late.subscribe(&table).await["seat"], Value::Null);
    late.send(command("5", &table, json!({ "type": "table.sit" }))).await;
    let rejected = late.until("rejected").await;
    assert_eq!(rejected["code"], "seat_taken", "the table itself says no");
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_before_the_upgrade() {
    let stage = Stage::new(&["--allow-origin", "https://play.example"]).await;
    let own = format!("http://{}", stage.address);
    for allowed in [own.as_str(), "https://play.example"] {
        let headers = [("Origin", allowed)];
        Socket::try_connect_with(stage.address, &headers).await.expect("upgraded");
    }
    for refused in ["https://evil.example", "http://play.example", "null"] {
        let headers = [("Origin", refused)];
        let Err(tungstenite::Error::Http(answer)) =
            Socket::try_connect_with(stage.address, &headers).await
        else {
            panic!("{refused} was let in")
        };
        assert_eq!(answer.status(), 403);
        let body = answer.body().as_deref().unwrap_or_default();
        let problem: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(problem["code"], "origin_not_allowed");
    }
}
