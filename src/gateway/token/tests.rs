use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const LEEWAY: Duration = Duration::from_millis(claims::LEEWAY_MS);

const ED_PRIVATE: &[u8] = include_bytes!("../../../tests/support/keys/ed-1.private.pem");
const ED_PUBLIC: &[u8] = include_bytes!("../../../tests/support/keys/ed-1.public.pem");
const ED_2_PRIVATE: &[u8] = include_bytes!("../../../tests/support/keys/ed-2.private.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../../../tests/support/keys/rsa-1.private.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../../tests/support/keys/rsa-1.public.pem");

fn secret() -> TokenSecret {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

fn tokens() -> Tokens {
    Tokens::new(&secret())
}

/// With the secret and both public keys.
fn with_policy(policy: Policy) -> Tokens {
    let keys = [ED_PUBLIC, RSA_PUBLIC].map(|pem| CheckingKey::from_pem(pem).unwrap());
    Tokens::with(Some(&secret()), keys.into(), None, policy)
}

fn nok() -> Identity {
    Identity { player: "guest-1".parse().unwrap(), name: "Nok".to_owned() }
}

fn claims() -> Claims {
    let exp = NOW.as_millis() / 1000 + 3600;
    Claims { sub: Some("nok".to_owned()), exp: Some(exp), ..Claims::default() }
}

fn signed(claims: &Claims) -> String {
    SigningKey::of_secret(&secret()).sign(claims).unwrap()
}

#[test]
fn a_token_names_its_player_until_it_expires() {
    let (token, expires_at) = tokens().issue(&nok(), NOW, HOUR);
    let bearer = tokens().check(&token, NOW).unwrap();
    assert_eq!(bearer.identity, nok());
    assert_eq!(bearer.expires_at, expires_at);
    let end = bearer.ends_at().as_millis();
    assert!(tokens().check(&token, Timestamp::from_millis(end - 1)).is_ok());
    assert_eq!(tokens().check(&token, bearer.ends_at()), Err(TokenError::Expired));
}

#[test]
fn every_algorithm_is_taken_with_its_own_key() {
    let tokens = with_policy(Policy::default());
    let keys = [
        SigningKey::of_secret(&secret()),
        SigningKey::from_pem(ED_PRIVATE, None).unwrap(),
        SigningKey::from_pem(RSA_PRIVATE, Some("any".to_owned())).unwrap(),
    ];
    for key in keys {
        let token = key.sign(&claims()).unwrap();
        assert_eq!(tokens.check(&token, NOW).unwrap().identity.player.as_str(), "nok");
        // One bit of what is signed.
        let (said, signature) = token.rsplit_once('.').unwrap();
        let other = signed(&Claims { sub: Some("eve".to_owned()), ..claims() });
        let claims = other.split('.').nth(1).unwrap();
        let header = said.split('.').next().unwrap();
        let forged = format!("{header}.{claims}.{signature}");
        assert_eq!(tokens.check(&forged, NOW), Err(TokenError::NotOurs));
    }
    let unknown = SigningKey::from_pem(ED_2_PRIVATE, None).unwrap().sign(&claims()).unwrap();
    assert_eq!(tokens.check(&unknown, NOW), Err(TokenError::NotOurs));
}

#[test]
fn a_token_of_another_secret_or_none_is_not_taken() {
    let other = Tokens::new(&TokenSecret::random());
    let (token, _) = other.issue(&nok(), NOW, HOUR);
    assert_eq!(tokens().check(&token, NOW), Err(TokenError::NotOurs));
    // {"alg":"none"} with the claims of a good one.
    let (token, _) = tokens().issue(&nok(), NOW, HOUR);
    let claims = token.split('.').nth(1).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    assert_eq!(tokens().check(&unsigned, NOW), Err(TokenError::Malformed));
    for none in ["", ".", "..", "a.b.c", "eyJhbGciOiJIUzI1NiJ9"] {
        assert_eq!(tokens().check(none, NOW), Err(TokenError::Malformed), "{none:?}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic: HS256, with the bytes of the public key as the secret.
    for public in [ED_PUBLIC, RSA_PUBLIC] {
        let text = std::str::from_utf8(public).unwrap();
        for text in [text, text.trim_end()] {
            let forger = SigningKey::of_secret(&text.parse().unwrap());
            let forged = forger.sign(&claims()).unwrap();
            let keys = vec![CheckingKey::from_pem(public).unwrap()];
            let tokens = Tokens::with(None, keys, None, Policy::default());
            assert_eq!(tokens.check(&forged, NOW), Err(TokenError::NotOurs));
        }
    }
    // A symmetric key in a public set is everyone's.
    let symmetric = json!({ "kty": "oct", "alg": "HS256", "kid": "1", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY" });
    assert!(CheckingKey::from_jwk(&symmetric).is_none());
    // An RSA key that is said to be for another algorithm, or not for signatures, is for nothing here.
    for (name, value) in [("alg", "RS512"), ("alg", "HS256"), ("alg", "EdDSA"), ("use", "enc")] {
        let set: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/support/keys/jwks.json")).unwrap();
        let mut key = set["keys"][2].clone();
        assert!(CheckingKey::from_jwk(&key).is_some());
        key[name] = value.into();
        assert!(CheckingKey::from_jwk(&key).is_none(), "{name} {value}");
    }
}

#[test]
fn a_header_that_names_another_algorithm_than_the_keys_is_not_taken() {
    let tokens = with_policy(Policy::default());
    let ed = SigningKey::from_pem(ED_PRIVATE, None).unwrap().sign(&claims()).unwrap();
    let rsa = SigningKey::from_pem(RSA_PRIVATE, None).unwrap().sign(&claims()).unwrap();
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    let rest = |token: &str| token.split_once('.').unwrap().1.to_owned();
    for (a, b) in [(&ed, &rsa), (&rsa, &ed), (&signed(&claims()), &rsa), (&ed, &signed(&claims()))]
    {
        let mixed = format!("{}.{}", header(a), rest(b));
        assert_eq!(tokens.check(&mixed, NOW), Err(TokenError::NotOurs));
    }
}

#[test]
fn issuer_and_audience_are_asked_for() {
    let policy = Policy {
        issuer: Some("https://accounts.example".to_owned()),
        audience: vec!["tablecast".to_owned(), "games".to_owned()],
    };
    let ours = with_policy(policy);
    let check = |iss: Option<&str>, aud: Option<Audience>| {
        let claims = Claims { iss: iss.map(str::to_owned), aud, ..claims() };
        ours.check(&signed(&claims), NOW).map(|_| ())
    };
    let one = |name: &str| Some(Audience::One(name.to_owned()));
    let good = Some("https://accounts.example");
    assert_eq!(check(good, one("games")), Ok(()));
    let many = Audience::Many(vec!["shop".to_owned(), "tablecast".to_owned()]);
    assert_eq!(check(good, Some(many)), Ok(()));
    assert_eq!(check(good, one("shop")), Err(TokenError::WrongAudience));
    assert_eq!(check(good, Some(Audience::Many(vec![]))), Err(TokenError::WrongAudience));
    assert_eq!(check(good, None), Err(TokenError::WrongAudience));
    assert_eq!(check(None, one("games")), Err(TokenError::WrongIssuer));
    assert_eq!(check(Some("https://evil.example"), one("games")), Err(TokenError::WrongIssuer));
    // What we issue, we take.
    let (token, _) = ours.issue(&nok(), NOW, HOUR);
    assert!(ours.check(&token, NOW).is_ok());
    // Without a name of our own, a token that is for somebody is not for us.
    let claims = Claims { aud: one("shop"), ..claims() };
    assert_eq!(tokens().check(&signed(&claims), NOW), Err(TokenError::WrongAudience));
}

#[test]
fn times_names_and_missing_claims_are_told_apart() {
    let secs = NOW.as_millis() / 1000;
    let check = |claims: Claims| tokens().check(&signed(&claims), NOW).map(|_| ());
    let leeway = LEEWAY.as_secs();
    assert_eq!(check(Claims { nbf: Some(secs + leeway), ..claims() }), Ok(()));
    assert_eq!(check(Claims { nbf: Some(secs + leeway + 1), ..claims() }), Err(TokenError::NotYet));
    assert_eq!(check(Claims { exp: Some(secs - leeway), ..claims() }), Err(TokenError::Expired));
    assert_eq!(check(Claims { exp: Some(u64::MAX), ..claims() }), Ok(()));
    assert_eq!(check(Claims { exp: None, ..claims() }), Err(TokenError::Malformed));
    assert_eq!(check(Claims { sub: None, ..claims() }), Err(TokenError::NoPlayer));
    let spaced = Claims { sub: Some("a b".to_owned()), ..claims() };
    assert_eq!(check(spaced), Err(TokenError::NoPlayer));
    let hidden = Claims { name: Some("\u{202e}kon".to_owned()), ..claims() };
    assert_eq!(check(hidden), Err(TokenError::BadName));
}

#[test]
fn a_seat_token_is_a_player_of_that_seats_own() {
    let table = TableId::new(NOW, [7; 10]);
    let tc = Some(SeatClaim { table, seat: Seat(2) });
    let nobody = Claims { sub: None, tc: tc.clone(), ..claims() };
    let bearer = tokens().check(&signed(&nobody), NOW).unwrap();
    assert_eq!(bearer.seat, Some(SeatBound { table, seat: Seat(2) }));
    assert_eq!(bearer.identity.player.as_str(), format!("seat@{table}.2"));
    assert_eq!(bearer.identity.name, "Seat 2");
    // Not the account itself: what that holds at other seats is not this token's.
    let nok = Claims { tc, ..claims() };
    let bearer = tokens().check(&signed(&nok), NOW).unwrap();
    assert_eq!(bearer.identity.player.as_str(), format!("nok@{table}.2"));
    assert_eq!(bearer.identity.name, "nok");
    // A limit that we do not know could be one that we would not keep.
    let key = jsonwebtoken::EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    for tc in
        [json!({ "table": table }), json!({ "table": table, "seat": 1, "until": 5 }), json!(7)]
    {
        let claims = json!({ "sub": "nok", "exp": claims().exp, "tc": tc });
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(tokens().check(&token, NOW), Err(TokenError::Malformed), "{tc}");
    }
}

#[test]
fn only_guests_get_their_tokens_renewed() {
    let ours = with_policy(Policy::default());
    let (token, expires_at) = ours.issue(&nok(), NOW, HOUR);
    assert_eq!(ours.check_guest(&token, NOW), Some(nok()));
    assert_eq!(ours.check_guest(&token, expires_at.plus_millis(60_000)), None);
    assert_eq!(ours.check_guest(&signed(&claims()), NOW), None);
    let theirs = Claims { sub: Some("guest-1".to_owned()), ..claims() };
    let theirs = SigningKey::from_pem(ED_PRIVATE, None).unwrap().sign(&theirs).unwrap();
    assert!(ours.check(&theirs, NOW).is_ok());
    assert_eq!(ours.check_guest(&theirs, NOW), None);
}

#[test]
fn keys_are_what_they_are_said_to_be_and_never_printed() {
    assert_eq!("short".parse::<TokenSecret>(), Err(SecretTooShort));
    assert_eq!(format!("{:?}", TokenSecret::random()), "TokenSecret(redacted)");
    for private in [ED_PRIVATE, RSA_PRIVATE] {
        assert_eq!(CheckingKey::from_pem(private).unwrap_err(), KeyError::IsPrivate);
        let printed = format!("{:?}", SigningKey::from_pem(private, None).unwrap());
        assert_eq!(printed, "SigningKey(redacted)");
    }
    for public in [ED_PUBLIC, RSA_PUBLIC] {
        assert_eq!(SigningKey::from_pem(public, None).unwrap_err(), KeyError::NotPrivate);
    }
    for none in
        [&b""[..], b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
    {
        assert_eq!(CheckingKey::from_pem(none).unwrap_err(), KeyError::NotPublic);
    }
}
