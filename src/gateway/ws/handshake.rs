//! The opening handshake (RFC 6455, section 4): from a request to a bare socket.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::super::http::problem;
use super::super::patient::Patient;
use super::super::wire::Wire;
use crate::protocol::frame::Format;

/// What is answered to an offer of permessage-deflate: no message depends on the one before it.
const DEFLATE: HeaderValue = HeaderValue::from_static(
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
);
/// The same to a client that names the largest window there is: it may insist on hearing that.
const DEFLATE_IN_FULL: HeaderValue = HeaderValue::from_static(
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
);
/// 16 bytes in base64.
const KEY_BYTES: usize = 24;

/// A request that asks to become a WebSocket.
#[derive(Debug)]
pub(in crate::gateway) struct Handshake {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    protocols: Vec<String>,
    /// The answer to the first offer of permessage-deflate that we can keep to.
    deflate: Option<HeaderValue>,
}

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Refused {
    /// It does not ask for that.
    #[error(
        "this address speaks WebSocket: ask with `Connection: upgrade` and `Upgrade: websocket`"
    )]
    NoUpgrade,
    /// Another version of the protocol.
    #[error("this address speaks version 13 of WebSocket")]
    Version,
    /// The key is not one.
    #[error("Sec-WebSocket-Key has to be 16 bytes in base64")]
    Key,
    /// Over HTTP/2 it would be another handshake.
    #[error("WebSocket is spoken here over HTTP/1.1 only, with GET")]
    Http,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::NoUpgrade | Self::Version => (StatusCode::UPGRADE_REQUIRED, "not_a_websocket"),
            Self::Key | Self::Http => (StatusCode::BAD_REQUEST, "bad_handshake"),
        };
        let how = [
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        ];
        (how, problem(status, code, self.to_string())).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Handshake {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        if parts.version != Version::HTTP_11 || parts.method != Method::GET {
            return Err(Refused::Http);
        }
        let headers = &parts.headers;
        if !lists(headers, &header::CONNECTION, "upgrade")
            || !lists(headers, &header::UPGRADE, "websocket")
        {
            return Err(Refused::NoUpgrade);
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refused::Version);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let key = key.filter(|key| key.len() == KEY_BYTES).ok_or(Refused::Key)?;
        let accept = HeaderValue::try_from(derive_accept_key(key));
        let accept = accept.map_err(|_invalid| Refused::Key)?;
        let protocols = items(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned);
        let protocols = protocols.collect();
        let deflate = items(headers, &header::SEC_WEBSOCKET_EXTENSIONS).find_map(answer);
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Refused::Http)?;
        Ok(Self { on_upgrade, accept, protocols, deflate })
    }
}

impl Handshake {
    /// What is to be spoken: the first offer that we know, or, where nothing is offered, JSON.
    ///
    /// # Errors
    /// The answer to a client none of whose sub-protocols we know.
    pub(in crate::gateway) fn wire(&self, may_deflate: bool) -> Result<Wire, Box<Response>> {
        let known = self
            .protocols
            .iter()
            .find_map(|offer| Format::ALL.into_iter().find(|format| offer == format.subprotocol()));
        match known {
            Some(Format::MessagePack) => Ok(Wire::MessagePack),
            None if !self.protocols.is_empty() => {
                let ours = Format::ALL.map(Format::subprotocol).join(", ");
                let message = format!("none of the offered sub-protocols is spoken here: {ours}");
                let status = StatusCode::BAD_REQUEST;
                Err(Box::new(problem(status, "unknown_subprotocol", message)))
            }
            Some(Format::Json) | None if self.deflate.is_some() && may_deflate => {
                Ok(Wire::JsonDeflated)
            }
            Some(Format::Json) | None => Ok(Wire::Json),
        }
    }

    /// The answer that makes the connection a WebSocket, and what it becomes.
    pub(in crate::gateway) fn accept(self, wire: Wire) -> (Response, Upgrading) {
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if !self.protocols.is_empty() {
            let protocol = HeaderValue::from_static(wire.format().subprotocol());
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if wire == Wire::JsonDeflated
            && let Some(deflate) = self.deflate
        {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate);
        }
        (response, Upgrading(self.on_upgrade))
    }
}

/// A connection that is about to be a WebSocket: once the answer has been written.
#[derive(Debug)]
pub(in crate::gateway) struct Upgrading(OnUpgrade);

impl Upgrading {
    /// The socket, and what the client sent before it had the answer. Nothing if it is gone.
    pub(in crate::gateway) async fn finish(self) -> Option<(TcpStream, Bytes)> {
        let upgraded = self.0.await.ok()?;
        let parts = upgraded.downcast::<TokioIo<Patient>>();
        // A listener of another kind would be a mistake of ours, found by the first connection.
        let parts = parts.expect("a gateway serves sockets of this kind only");
        Some((parts.io.into_inner().into_inner(), parts.read_buf))
    }
}

/// The items of a header that is a list, or comes several times.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(wanted))
}

/// What is answered to an offer that is taken.
fn answer(offer: &str) -> Option<HeaderValue> {
    let names_window = offer.contains("server_max_window_bits");
    is_good_offer(offer).then_some(if names_window { DEFLATE_IN_FULL } else { DEFLATE })
}

/// Whether permessage-deflate is offered in a way that we can keep to: we do not make windows smaller.
fn is_good_offer(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    parts.next() == Some("permessage-deflate")
        && parts.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter, None),
            };
            match (name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None)
                | ("client_max_window_bits", None)
                | ("server_max_window_bits", Some("15")) => true,
                ("client_max_window_bits", Some(bits)) => {
                    bits.parse().is_ok_and(|bits| (8..=15).contains(&bits))
                }
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_a_window_hears_of_it() {
        let named = answer("permessage-deflate; server_max_window_bits=15").unwrap();
        assert!(named.to_str().unwrap().ends_with("; server_max_window_bits=15"));
        assert_eq!(answer("permessage-deflate"), Some(DEFLATE));
        assert_eq!(answer("permessage-deflate; server_max_window_bits=14"), None);
    }

    #[test]
    fn an_offer_that_we_cannot_keep_to_is_not_taken() {
        for good in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=\"15\"",
        ] {
            assert!(is_good_offer(good), "{good}");
        }
        for bad in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; colour=blue",
            "permessage-deflate; server_no_context_takeover=1",
        ] {
            assert!(!is_good_offer(bad), "{bad}");
        }
    }
}
