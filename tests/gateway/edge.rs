//! What every HTTP answer has in common.

use serde_json::Value;

use crate::http::call_with;
use crate::stage::Stage;

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.split_once(": ").filter(|(other, _)| *other == name);
    head.lines().find_map(value).map(|(_, value)| value)
}

#[tokio::test]
async fn a_request_has_a_name_of_the_clients_choice_or_ours() {
    let stage = Stage::new(&[]).await;
    let id_of = async |given: &str| {
        let (_, head, _) =
            call_with(stage.address, "GET", "/v1/nothing", &[("X-Request-Id", given)], "").await;
        header(&head, "x-request-id").expect("a name").to_owned()
    };
    assert_eq!(id_of("cart-7_b.2").await, "cart-7_b.2");
    let long = "x".repeat(65);
    for bad in ["", "a b", "a\"b", "{}", &long] {
        let ours = id_of(bad).await;
        assert!(ours.len() == 16 && ours.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ours}");
    }
    assert_ne!(id_of("").await, id_of("").await);
}

#[tokio::test]
async fn pages_of_allowed_sites_may_read_answers_and_no_others() {
    let stage = Stage::new(&["--allow-origin=https://play.example"]).await;
    let ask = async |method, origin| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        let (status, head, _) = call_with(stage.address, method, "/v1/games", &headers, "").await;
        let allowed = header(&head, "access-control-allow-origin").map(str::to_owned);
        (status, allowed, header(&head, "access-control-allow-methods").is_some())
    };
    let (good, evil) = ("https://play.example", "https://evil.example");
    assert_eq!(ask("GET", good).await, (200, Some(good.to_owned()), false));
    assert_eq!(ask("OPTIONS", good).await, (204, Some(good.to_owned()), true));
    assert_eq!(ask("GET", evil).await, (200, None, false));
    assert_eq!(ask("OPTIONS", evil).await, (403, None, false));
}

#[tokio::test]
async fn what_is_long_is_compressed_for_those_who_ask_for_it() {
    let stage = Stage::new(&[]).await;
    let mut lengths = Vec::new();
    for (accepted, encoding) in [("gzip", Some("gzip")), ("identity", None)] {
        for path in ["/assets/app.js", "/v1/openapi.json"] {
            let headers = [("Accept-Encoding", accepted)];
            let (status, head, body) = call_with(stage.address, "GET", path, &headers, "").await;
            assert_eq!((status, header(&head, "content-encoding")), (200, encoding), "{path}");
            lengths.push(body.len());
        }
    }
    assert!(lengths[0] < lengths[2] && lengths[1] < lengths[3], "{lengths:?}");
}

#[tokio::test]
async fn the_routes_are_described() {
    let stage = Stage::new(&[]).await;
    let (status, head, body) = call_with(stage.address, "GET", "/v1/openapi.json", &[], "").await;
    assert_eq!((status, header(&head, "content-type")), (200, Some("application/json")));
    let described: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(described["openapi"], "3.1.0");
}
