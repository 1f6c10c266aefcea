use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::domain::Timestamp;
use crate::gateway::token::{Claims, Policy, SigningKey, TokenError, Tokens};
use crate::runtime::clock::Clock;

const SET: &str = include_str!("../../../../tests/support/keys/jwks.json");
const ED_1: &[u8] = include_bytes!("../../../../tests/support/keys/ed-1.private.pem");
const ED_2: &[u8] = include_bytes!("../../../../tests/support/keys/ed-2.private.pem");
const RSA_1: &[u8] = include_bytes!("../../../../tests/support/keys/rsa-1.private.pem");

/// A real server whose answer can be changed, or taken away; and the tokens that depend on it.
struct Scene {
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    jwks: Arc<Jwks>,
    tokens: Tokens,
    tasks: JoinSet<()>,
}

fn set_of(kids: &[&str]) -> String {
    let mut set: Value = serde_json::from_str(SET).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.retain(|key| kids.contains(&key["kid"].as_str().unwrap()));
    set.to_string()
}

impl Scene {
    async fn new(answer: Option<String>, max_age: Duration) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let (now, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let route = get(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = now.lock().unwrap().clone().ok_or(StatusCode::BAD_GATEWAY);
            async move { answer }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let router = Router::new().route("/jwks.json", route);
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let jwks = Jwks::new(url.parse().unwrap(), max_age).unwrap();
        let tokens = Tokens::with(None, vec![], Some(Arc::clone(&jwks)), Policy::default());
        Self { answer, asked, jwks, tokens, tasks }
    }

    fn start(&mut self) {
        self.tasks.spawn(Arc::clone(&self.jwks).run(CancellationToken::new()));
    }

    fn answer(&self, answer: Option<String>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for the next attempt to have ended.
    async fn attempted(&self) {
        let mut states = self.jwks.known.subscribe();
        let before = states.borrow_and_update().attempts;
        states.wait_for(|known| known.attempts > before).await.unwrap();
    }

    /// As if the last attempt had been long ago.
    fn forget_last_attempt(&self) {
        self.jwks.known.send_modify(|known| known.attempted_at = None);
    }

    async fn check_anew(&self, token: &str) -> Result<(), TokenError> {
        self.tokens.check_anew(token, Clock::System).await.map(|_| ())
    }

    fn check(&self, token: &str) -> Result<(), TokenError> {
        self.tokens.check(token, Clock::System.now()).map(|_| ())
    }
}

fn token(pem: &[u8], kid: Option<&str>) -> String {
    let exp = Clock::System.now().as_millis() / 1000 + 3600;
    let claims = Claims { sub: Some("nok".to_owned()), exp: Some(exp), ..Claims::default() };
    SigningKey::from_pem(pem, kid.map(str::to_owned)).unwrap().sign(&claims).unwrap()
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_token_is_checked_with_the_key_that_it_names() {
    let mut scene = Scene::new(Some(SET.to_owned()), LONG).await;
    let ed = token(ED_1, Some("ed-1"));
    assert_eq!(scene.check(&ed), Err(TokenError::UnknownKey));
    scene.start();
    assert_eq!(scene.check_anew(&ed).await, Ok(()));
    for (pem, kid) in [(RSA_1, Some("rsa-1")), (ED_2, Some("ed-2")), (ED_2, None)] {
        assert_eq!(scene.check(&token(pem, kid)), Ok(()));
    }
    // A key under another's name is not the other.
    assert_eq!(scene.check(&token(ED_2, Some("ed-1"))), Err(TokenError::NotOurs));
    assert_eq!(scene.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_at_once_and_an_old_one_ends_with_the_set() {
    let mut scene = Scene::new(Some(set_of(&["ed-1"])), LONG).await;
    scene.start();
    let (old, new) = (token(ED_1, Some("ed-1")), token(ED_2, Some("ed-2")));
    assert_eq!(scene.check_anew(&old).await, Ok(()));
    scene.answer(Some(set_of(&["ed-1", "ed-2"])));
    assert_eq!(scene.check(&new), Err(TokenError::UnknownKey));
    // Not again so soon, whoever asks.
    assert!(matches!(
        scene.check_anew(&new).await,
        Err(TokenError::KeysUnavailable { retry_after }) if retry_after <= GAP
    ));
    assert_eq!(scene.asked(), 1);
    scene.forget_last_attempt();
    // Many at once are one request.
    let many = (0..50).map(|_| scene.check_anew(&new));
    let answers = futures_util::future::join_all(many).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(scene.asked(), 2);
    assert_eq!(scene.check(&old), Ok(()));
    scene.answer(Some(set_of(&["ed-2"])));
    scene.forget_last_attempt();
    let nobodys = token(RSA_1, Some("rsa-1"));
    assert_eq!(scene.check_anew(&nobodys).await, Err(TokenError::NotOurs));
    // The key is gone from the set, so its tokens are tokens by an unknown key.
    assert_eq!(scene.check(&old), Err(TokenError::UnknownKey));
    assert_eq!(scene.check(&new), Ok(()));
}

#[tokio::test]
async fn an_outage_keeps_the_keys_and_calls_no_token_bad() {
    let mut scene = Scene::new(None, LONG).await;
    scene.start();
    let (first, second) = (token(ED_1, Some("ed-1")), token(ED_2, Some("ed-2")));
    // Down from the start: nothing is known, so nothing is bad.
    assert!(matches!(scene.check_anew(&first).await, Err(TokenError::KeysUnavailable { .. })));
    scene.answer(Some(set_of(&["ed-1"])));
    scene.forget_last_attempt();
    assert_eq!(scene.check_anew(&first).await, Ok(()));
    for broken in
        [None, Some("<html>".to_owned()), Some("{}".to_owned()), Some("x".repeat(300_000))]
    {
        scene.answer(broken);
        scene.forget_last_attempt();
        assert!(matches!(scene.check_anew(&second).await, Err(TokenError::KeysUnavailable { .. })));
        assert_eq!(scene.check(&first), Ok(()));
    }
}

#[tokio::test]
async fn the_set_is_fetched_again_when_it_has_grown_old() {
    let mut scene = Scene::new(Some(set_of(&["ed-1"])), Duration::from_millis(20)).await;
    scene.start();
    scene.attempted().await;
    scene.answer(Some(set_of(&["ed-2"])));
    // One may be under way with the old answer.
    scene.attempted().await;
    scene.attempted().await;
    assert_eq!(scene.check(&token(ED_2, Some("ed-2"))), Ok(()));
    assert_eq!(scene.check(&token(ED_1, Some("ed-1"))), Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn a_set_takes_part_in_nothing_but_public_keys() {
    let mut scene = Scene::new(Some(SET.to_owned()), LONG).await;
    scene.start();
    scene.check_anew(&token(ED_1, Some("ed-1"))).await.unwrap();
    let secret = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let now = Timestamp::from_millis(Clock::System.now().as_millis());
    let identity = crate::domain::Identity { player: "p".parse().unwrap(), name: "P".to_owned() };
    let (hmac, _) = Tokens::new(&secret).issue(&identity, now, LONG);
    // It can be no key of the set, so nothing is fetched for it.
    assert_eq!(scene.check(&hmac), Err(TokenError::NotOurs));
}
