use serde_json::json;

use super::*;
use crate::domain::Seat;
use crate::gateway::token::{Claims, Jwks, Policy, SigningKey, TokenSecret};

const WALL: Timestamp = Timestamp::from_millis(1_795_000_000_000);

struct Scene {
    session: Session,
    tokens: Tokens,
    now: Instant,
    wall: Timestamp,
}

fn rate(burst: u32, per_second: u32) -> Rate {
    Rate::per_second(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_second).unwrap())
}

impl Scene {
    fn new() -> Self {
        let tokens = Tokens::new(&TokenSecret::random());
        let limits = SessionLimits {
            frame_bytes_max: 1000,
            subscriptions_max: 2,
            commands_max: 3,
            rate: rate(20, 10),
            flood_rate: rate(80, 20),
            ping_interval: Duration::from_secs(20),
            hello_timeout: Duration::from_secs(30),
        };
        let now = Instant::now();
        Self {
            session: Session::new(Format::Json, limits, tokens.clone(), now),
            tokens,
            now,
            wall: WALL,
        }
    }

    fn token(&self, name: &str, ttl_s: u64) -> String {
        let identity = Identity { player: name.parse().unwrap(), name: name.to_owned() };
        let ttl = Duration::from_secs(ttl_s);
        self.tokens.issue(&identity, self.wall, ttl).0
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.wall = self.wall.plus_millis(millis);
    }

    fn send(&mut self, frame: &serde_json::Value) -> Vec<Action> {
        let text = frame.to_string();
        let message = Incoming::Text(text.as_bytes());
        self.session.on_message(message, self.now, self.wall)
    }

    fn hello(&mut self) {
        let token = self.token("nok", 3600);
        let actions = self.send(&json!({ "type": "hello", "token": token }));
        assert!(matches!(
            &actions[..],
            [Action::Reply(ServerFrame::Welcome { player: Some(_), .. })]
        ));
    }

    fn command(&mut self, id: &str, table: TableId) -> Vec<Action> {
        self.send(&json!({ "type": "command", "id": id, "table": table, "command": {} }))
    }
}

fn table(number: u8) -> TableId {
    TableId::new(WALL, [number; 10])
}

fn code_of(actions: &[Action]) -> &str {
    match actions {
        [Action::Reply(ServerFrame::Rejected { refusal, .. })] => &refusal.code,
        [Action::Reply(ServerFrame::Error { code, .. })] => code,
        [Action::Reply(ServerFrame::Unsubscribed { reason, .. })] => reason,
        other => panic!("{other:?}"),
    }
}

fn asked(actions: &[Action]) -> &str {
    match actions {
        [Action::Ask(Ask::Command { id, .. })] => id.as_str(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_to_one_table_keep_their_order_and_tables_do_not_wait_for_each_other() {
    let mut scene = Scene::new();
    scene.hello();
    assert_eq!(asked(&scene.command("a", table(1))), "a");
    assert_eq!(scene.command("b", table(1)), []);
    assert_eq!(asked(&scene.command("c", table(2))), "c");
    assert_eq!(scene.session.on_answered(Some(table(2))), None);
    let next = scene.session.on_answered(Some(table(1))).unwrap();
    assert_eq!(asked(&[next]), "b");
    assert_eq!(scene.session.on_answered(Some(table(1))), None);
    assert_eq!(asked(&scene.command("d", table(1))), "d");
}

#[test]
fn a_command_too_many_is_busy_and_worth_another_try() {
    let mut scene = Scene::new();
    scene.hello();
    for id in ["a", "b", "c"] {
        scene.command(id, table(1));
    }
    let actions = scene.command("d", table(2));
    assert_eq!(code_of(&actions), "busy");
    scene.session.on_answered(Some(table(1)));
    assert_eq!(asked(&scene.command("e", table(2))), "e");
}

#[test]
fn a_table_too_many_is_not_followed_until_another_is_left() {
    let mut scene = Scene::new();
    for number in 1..=2 {
        let actions = scene.send(&json!({ "type": "subscribe", "table": table(number) }));
        assert!(matches!(actions[..], [Action::Follow { .. }]));
    }
    let third = json!({ "type": "subscribe", "table": table(3) });
    assert_eq!(code_of(&scene.send(&third)), "too_many");
    // One that is followed already is not one more.
    let again = json!({ "type": "subscribe", "table": table(2), "cursor": 5 });
    assert!(matches!(scene.send(&again)[..], [Action::Follow { .. }]));
    scene.session.on_dropped(table(1));
    assert!(matches!(scene.send(&third)[..], [Action::Follow { .. }]));
}

#[test]
fn nobody_plays_without_a_token() {
    let mut scene = Scene::new();
    assert_eq!(code_of(&scene.command("a", table(1))), "not_identified");
    let open = json!({ "type": "open", "id": "o", "kind": "chess" });
    assert_eq!(code_of(&scene.send(&open)), "not_identified");
}

#[test]
fn a_token_is_good_until_it_expires_and_can_be_renewed() {
    let mut scene = Scene::new();
    let token = scene.token("nok", 60);
    scene.send(&json!({ "type": "hello", "token": token }));
    scene.wait(Duration::from_secs(30));
    let token = scene.token("nok", 60);
    scene.send(&json!({ "type": "hello", "token": token }));
    scene.wait(Duration::from_secs(50));
    let actions = scene.session.on_time(scene.now);
    assert_eq!(actions, [Action::Ping]);
    scene.send(&json!({ "type": "ping" }));
    scene.wait(Duration::from_secs(20));
    let actions = scene.session.on_time(scene.now);
    assert_eq!(actions, [Action::Close(CloseCode::TokenExpired)]);
}

#[test]
fn another_players_token_does_not_change_whose_connection_it_is() {
    let mut scene = Scene::new();
    scene.hello();
    let token = scene.token("somchai", 60);
    let actions = scene.send(&json!({ "type": "hello", "token": token }));
    assert_eq!(code_of(&actions), "already_identified");
    assert_eq!(scene.session.identity().unwrap().name, "nok");
}

#[test]
fn a_mute_connection_and_a_silent_one_are_closed() {
    let mut scene = Scene::new();
    scene.wait(Duration::from_secs(20));
    assert_eq!(scene.session.wake_at(), scene.now);
    assert_eq!(scene.session.on_time(scene.now), [Action::Ping]);
    // A pong is a sign of life, but says nothing.
    scene.session.on_message(Incoming::Control, scene.now, scene.wall);
    scene.wait(Duration::from_secs(10));
    let closed = [Action::Close(CloseCode::PingTimeout)];
    assert_eq!(scene.session.on_time(scene.now), closed);

    let mut scene = Scene::new();
    scene.send(&json!({ "type": "watch_lobby" }));
    for _ in 0..2 {
        scene.wait(Duration::from_secs(20));
        assert_eq!(scene.session.on_time(scene.now), [Action::Ping]);
    }
    scene.wait(Duration::from_secs(20));
    assert_eq!(scene.session.on_time(scene.now), closed);
}

#[test]
fn a_flood_is_throttled_first_and_cut_off_then() {
    let mut scene = Scene::new();
    scene.hello();
    let mut throttled = 0;
    loop {
        let actions = scene.send(&json!({ "type": "ping" }));
        match &actions[..] {
            [Action::Reply(ServerFrame::Pong { .. })] => assert_eq!(throttled, 0),
            [Action::Reply(ServerFrame::Error { code: "throttled", retry_after_ms, .. })] => {
                assert!(retry_after_ms.is_some_and(|wait| wait > 0));
                throttled += 1;
            }
            [Action::Close(CloseCode::Flood)] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(throttled, 60);
}

#[test]
fn bad_frames_are_forgiven_in_time() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        assert_eq!(code_of(&scene.send(&json!("?"))), "malformed");
        scene.wait(Duration::from_millis(10));
    }
    let closed = [Action::Close(CloseCode::BadFrames)];
    assert_eq!(scene.send(&json!("?")), closed);
    scene.wait(Duration::from_secs(6));
    assert_eq!(code_of(&scene.send(&json!("?"))), "malformed");
}

#[test]
fn what_comes_while_a_key_is_looked_for_waits_in_its_order() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut scene = Scene::new();
    let url = "http://127.0.0.1:1/".parse().unwrap();
    let jwks = Jwks::new(url, Duration::from_secs(600)).unwrap();
    scene.session.tokens = Tokens::with(None, vec![], Some(jwks), Policy::default());
    let pem = include_bytes!("../../../tests/support/keys/ed-1.private.pem");
    let signer = SigningKey::from_pem(pem, Some("ed-1".to_owned())).unwrap();
    let exp = Some(WALL.as_millis() / 1000 + 60);
    let claims = Claims { sub: Some("nok".to_owned()), exp, ..Claims::default() };
    let token = signer.sign(&claims).unwrap();
    let hello = json!({ "type": "hello", "token": token });
    assert_eq!(scene.send(&hello), [Action::FindKey(token)]);
    assert_eq!(scene.command("a", table(1)), []);
    assert_eq!(scene.send(&json!({ "type": "subscribe", "table": table(2) })), []);
    // A ping measures the way, so it does not wait.
    let pong = scene.send(&json!({ "type": "ping" }));
    assert!(matches!(pong[..], [Action::Reply(ServerFrame::Pong { .. })]));

    let identity = Identity { player: "nok".parse().unwrap(), name: "nok".to_owned() };
    let bearer = Bearer { identity, expires_at: WALL.plus_millis(60_000), seat: None };
    let actions = scene.session.on_found(Ok(bearer), scene.now, scene.wall);
    assert!(
        matches!(
            &actions[..],
            [
                Action::Reply(ServerFrame::Welcome { expires_at: Some(_), .. }),
                Action::Ask(_),
                Action::Follow { .. }
            ]
        ),
        "{actions:?}"
    );
    // Nothing waits any more, and expiry is an appointment.
    scene.wait(Duration::from_secs(1));
    assert!(matches!(scene.send(&json!({ "type": "watch_lobby" }))[..], [Action::WatchLobby]));
    scene.session.ping_at = scene.now + Duration::from_secs(600);
    assert_eq!(scene.session.wake_at(), scene.now + Duration::from_secs(64));
}

#[test]
fn a_key_that_cannot_be_had_now_leaves_everything_as_it_was() {
    let mut scene = Scene::new();
    scene.hello();
    scene.session.held = Some(VecDeque::new());
    for _ in 0..HELD_MAX {
        scene.session.held.as_mut().unwrap().push_back(ClientFrame::WatchLobby);
    }
    // What waits is bounded, and what is over it is told so.
    assert_eq!(code_of(&scene.command("over", table(1))), "throttled");
    let retry_after = Duration::from_secs(3);
    let error = Err(TokenError::KeysUnavailable { retry_after });
    let actions = scene.session.on_found(error, scene.now, scene.wall);
    assert_eq!(code_of(&actions[..1]), "keys_unavailable");
    assert_eq!(actions.len(), 1 + HELD_MAX);
    assert_eq!(scene.session.identity().unwrap().name, "nok");
    assert_eq!(asked(&scene.command("a", table(1))), "a");
}

#[test]
fn a_seat_token_opens_nothing_and_plays_at_its_table_only() {
    let mut scene = Scene::new();
    let identity = Identity { player: "seat@t.1".parse().unwrap(), name: "Seat 1".to_owned() };
    let seat = Some(SeatBound { table: table(1), seat: Seat(1) });
    let bearer = Bearer { identity, expires_at: WALL.plus_millis(60_000), seat };
    scene.session.on_found(Ok(bearer), scene.now, scene.wall);
    let open = json!({ "type": "open", "id": "o", "kind": "chess" });
    assert_eq!(code_of(&scene.send(&open)), "seat_only");
    assert_eq!(code_of(&scene.command("a", table(2))), "seat_only");
    let sit = json!({ "type": "command", "id": "b", "table": table(1), "command": { "type": "table.sit" } });
    let actions = scene.send(&sit);
    let [Action::Ask(Ask::Command { command, .. })] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(command["seat"], 1);
    // Anyone may watch anything, as a spectator.
    let watch = json!({ "type": "subscribe", "table": table(2) });
    assert!(matches!(scene.send(&watch)[..], [Action::Follow { .. }]));
}
