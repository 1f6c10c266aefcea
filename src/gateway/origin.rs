//! Which pages of other sites may talk to a gateway: browsers say where a page comes from, and nobody else does.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::http::problem;
use super::metrics;

/// An origin that is allowed, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`.
    Any,
    /// As browsers write it: scheme, host, and the port unless it is the scheme's own.
    One(String),
}

/// The text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an origin is wanted, as in https://play.example.com (no path), or * for all")]
pub struct NoOrigin;

impl FromStr for AllowedOrigin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (scheme, authority) = parts(text).ok_or(NoOrigin)?;
        Ok(Self::One(format!("{scheme}://{authority}")))
    }
}

/// The scheme of an origin, and its host and port without the port that goes without saying.
fn parts(origin: &str) -> Option<(String, String)> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let has_more = authority.contains(['/', '?', '#', '@', '*', ' ']);
    let is_web = matches!(scheme.as_str(), "http" | "https");
    if authority.is_empty() || has_more || !is_web {
        return None;
    }
    let authority = without_default_port(&scheme, authority);
    Some((scheme, authority))
}

fn without_default_port(scheme: &str, authority: &str) -> String {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase()
}

/// The origins that are allowed beside a gateway's own.
#[derive(Clone, Debug)]
pub(super) struct AllowedOrigins(Arc<[AllowedOrigin]>);

impl AllowedOrigins {
    /// These.
    pub(super) fn new(allowed: &[AllowedOrigin]) -> Self {
        Self(allowed.into())
    }

    /// Whether a request with these headers may be served. One without an origin comes from no page of
    /// another site; one whose origin is its own host comes from a page of ours.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Some((scheme, authority)) = origin.to_str().ok().and_then(parts) else {
            return self.0.contains(&AllowedOrigin::Any);
        };
        let host = headers.get(header::HOST).map(HeaderValue::to_str);
        if let Some(Ok(host)) = host
            && without_default_port(&scheme, host) == authority
        {
            return true;
        }
        let origin = format!("{scheme}://{authority}");
        self.0.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::One(one) => *one == origin,
        })
    }
}

/// Refuses pages of other sites before anything else is looked at. Browsers apply no rule of their own to
/// `WebSocket`.
pub(super) async fn guard(
    State(allowed): State<AllowedOrigins>,
    request: Request,
    next: Next,
) -> Response {
    if allowed.allow(request.headers()) {
        return next.run(request).await;
    }
    metrics::origin_refused();
    let message = "pages of this origin may not connect: an operator allows it with --allow-origin";
    problem(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(options: &[&str], origin: Option<&str>, host: &str) -> bool {
        let options: Vec<_> = options.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        AllowedOrigins::new(&options).allow(&headers)
    }

    #[test]
    fn our_own_page_and_clients_that_are_none_are_allowed() {
        assert!(is_allowed(&[], None, "game.example"));
        for (origin, host) in [
            ("https://game.example", "game.example"),
            ("https://game.example", "game.example:443"),
            ("https://Game.Example:443", "game.example"),
            ("http://127.0.0.1:8420", "127.0.0.1:8420"),
            ("http://[::1]:8420", "[::1]:8420"),
        ] {
            assert!(is_allowed(&[], Some(origin), host), "{origin} at {host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_not_unless_they_are_named() {
        let evil = [
            "https://evil.example",
            "https://game.example.evil.example",
            "https://game.example:8443",
            "https://evil.example/https://game.example",
            "https://game.example@evil.example",
            "null",
            "",
        ];
        for origin in evil {
            assert!(
                !is_allowed(&["https://play.example"], Some(origin), "game.example"),
                "{origin}"
            );
            assert!(is_allowed(&["*"], Some(origin), "game.example"), "{origin}");
        }
        let options = ["https://play.example", "http://localhost:3000"];
        for origin in ["https://play.example", "http://localhost:3000"] {
            assert!(is_allowed(&options, Some(origin), "game.example"), "{origin}");
        }
        assert!(!is_allowed(&options, Some("http://play.example"), "game.example"));
    }

    #[test]
    fn an_option_is_an_origin() {
        for bad in ["play.example", "https://", "https://play.example/", "ftp://x", "https://*.x"] {
            assert_eq!(bad.parse::<AllowedOrigin>(), Err(NoOrigin), "{bad}");
        }
    }
}
