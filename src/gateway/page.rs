//! The web page, served from the binary: nothing is fetched from anywhere else, and nothing has to be installed.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::http::not_found;

/// Only what this gateway serves itself is loaded, run or connected to.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $content_type:ident) => {
        Asset {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../web/", $name)),
        }
    };
}

const INDEX: Asset = asset!("index.html", HTML);

/// Everything under `/assets/`.
const ASSETS: &[Asset] = &[
    asset!("app.js", SCRIPT),
    asset!("chess-board.js", SCRIPT),
    asset!("chess-pieces.svg", SVG),
    asset!("chess.css", CSS),
    asset!("chess.js", SCRIPT),
    asset!("clock.js", SCRIPT),
    asset!("connection.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("generic-game.js", SCRIPT),
    asset!("icon.svg", SVG),
    asset!("identity.js", SCRIPT),
    asset!("liap-log.js", SCRIPT),
    asset!("liap-parts.js", SCRIPT),
    asset!("liap-prompt.js", SCRIPT),
    asset!("liap-tui.css", CSS),
    asset!("liap-tui.js", SCRIPT),
    asset!("lobby.js", SCRIPT),
    asset!("new-game.js", SCRIPT),
    asset!("pieces.js", SCRIPT),
    asset!("pieces.svg", SVG),
    asset!("style.css", CSS),
    asset!("table.js", SCRIPT),
];

/// `/`, and `/t/<table>`: the page finds its table in its own address.
pub(super) async fn index(headers: HeaderMap) -> Response {
    respond(&INDEX, &headers)
}

/// `/assets/<name>`.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => respond(asset, &headers),
        None => not_found().await,
    }
}

/// Names do not change with the content, so a browser asks each time, and mostly hears "as before".
fn respond(asset: &Asset, request: &HeaderMap) -> Response {
    let etag = etag(asset.bytes);
    let is_known =
        request.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(
            |known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag),
        );
    let headers = [
        // Weak: the same content may come compressed.
        (header::ETAG, &*format!("W/{etag}")),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_TYPE, asset.content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        asset.bytes.into_response()
    };
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("our own headers are ASCII");
        response.headers_mut().insert(name, value);
    }
    response
}

fn etag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let served: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_served = name == INDEX.name || served.contains(&name.as_str());
            if name == "README.md" {
                continue;
            }
            assert!(is_served, "web/{name} is not in ASSETS");
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let first = respond(&INDEX, &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut again = HeaderMap::new();
        again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(respond(&INDEX, &again).status(), StatusCode::NOT_MODIFIED);
    }
}
