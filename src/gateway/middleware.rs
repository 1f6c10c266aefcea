//! What is done around every request: who asks and how often, under which name it is logged, from which pages it may
//! come, how long it may take, and what becomes of a panic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, error, info_span};

use super::admission::Admission;
use super::client_address::{Client, Peer, Proxies};
use super::http::{WS, problem, refused};
use super::metrics;
use super::origin::AllowedOrigins;
use crate::runtime::entropy::Entropy;

/// The name of a request, in and out.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name of what a request is a part of (W3C Trace Context), in.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// A longer name is not taken: it would be in every line of the log.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// What pages of other sites may send, and see.
const CORS_METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const CORS_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, last-event-id, traceparent, x-request-id",
);
const CORS_EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");
const CORS_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What is needed around a request.
#[derive(Clone, Debug)]
pub(super) struct Around {
    /// Who asks too often.
    pub admission: Arc<Admission>,
    /// Whose word is taken on who asks.
    pub proxies: Proxies,
    /// Whose pages may ask.
    pub origins: AllowedOrigins,
    /// For names and jitter.
    pub entropy: Entropy,
    /// How long an answer may take to begin.
    pub answer_timeout: Duration,
}

/// The name of a request, for whatever comes of it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub Arc<str>);

/// The outermost layer.
pub(super) async fn around(
    State(around): State<Around>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let client = around.proxies.client(peer, request.headers());
    let id = around.request_id(request.headers());
    let span = info_span!(
        "request",
        request.id = %id,
        trace.id = trace_id(request.headers()),
        client = %client.0,
        method = %request.method(),
        path = request.uri().path(),
    );
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let answer = async {
        let cors = around.cors(request.headers());
        let mut response = around.answer(request, next, client).await;
        response.headers_mut().extend(cors);
        let id = HeaderValue::from_str(&id).expect("only what a header can carry is taken");
        response.headers_mut().insert(X_REQUEST_ID, id);
        let (status, took) = (response.status(), began.elapsed());
        metrics::answered(status, took);
        debug!(status = status.as_u16(), took_ms = took.as_secs_f64() * 1e3, "answered");
        response
    };
    answer.instrument(span).await
}

impl Around {
    /// The client's own name for its request if it can be used, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        let is_good = |id: &&str| {
            let is_short = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len());
            is_short
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match given.filter(is_good) {
            Some(given) => given.into(),
            None => format!("{:016x}", u64::from_le_bytes(self.entropy.bytes())).into(),
        }
    }

    /// What tells a browser that a page of this origin may read the answer; nothing if it may not.
    fn cors(&self, headers: &HeaderMap) -> HeaderMap {
        let mut cors = HeaderMap::new();
        let Some(origin) = headers.get(header::ORIGIN) else { return cors };
        cors.insert(header::VARY, HeaderValue::from_static("origin"));
        if self.origins.allow(headers) {
            cors.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            cors.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, CORS_EXPOSED);
        }
        cors
    }

    async fn answer(&self, request: Request, next: Next, Client(client): Client) -> Response {
        if request.uri().path() != WS {
            // Connections that are to stay have a pace of their own.
            let jitter = u64::from_le_bytes(self.entropy.bytes());
            let admitted = self.admission.admit_request(client, Instant::now(), jitter);
            if let Err(refusal) = admitted {
                return refused(&refusal);
            }
        }
        if is_preflight(&request) {
            return self.preflight(request.headers());
        }
        let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
        match timeout(self.answer_timeout, answering).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let panic = text.or_else(|| panic.downcast_ref::<&str>().copied());
                error!(panic, "a request has failed by a fault of ours");
                metrics::request_failed("panic");
                let message = "a fault of ours: the log of this gateway says more";
                problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
            Err(_elapsed) => {
                metrics::request_failed("timeout");
                let problem = problem(
                    StatusCode::GATEWAY_TIMEOUT,
                    "timed_out",
                    "what was asked for cannot be had now",
                );
                ([(header::RETRY_AFTER, "1")], problem).into_response()
            }
        }
    }

    /// A browser asks whether a page may ask.
    fn preflight(&self, headers: &HeaderMap) -> Response {
        if !self.origins.allow(headers) {
            metrics::origin_refused();
            let message =
                "pages of this origin may not ask: an operator allows it with --allow-origin";
            return problem(StatusCode::FORBIDDEN, "origin_not_allowed", message);
        }
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE),
        ];
        (StatusCode::NO_CONTENT, allowed).into_response()
    }
}

fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The trace that a request is a part of.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let parent = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = parent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_good = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && is_hex(flags, 2)
        && trace.bytes().any(|byte| byte != b'0');
    is_good.then_some(trace)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::num::NonZeroU32;
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use tokio_util::sync::CancellationToken;

    use super::super::admission::{AdmissionLimits, Pace};
    use super::super::client_address::ProxyHeader;
    use super::*;

    async fn ask(path: &str) -> Response {
        let plenty = Pace::new(NonZeroU32::MAX, NonZeroU32::MAX);
        let limits = AdmissionLimits {
            connections_max: 1,
            per_address_max: 1,
            connects: plenty,
            address_connects: plenty,
            address_requests: plenty,
        };
        let state = Around {
            admission: Admission::new(limits, CancellationToken::new(), Instant::now()),
            proxies: Proxies::new(&[], ProxyHeader::Forwarded),
            origins: AllowedOrigins::new(&[]),
            entropy: Entropy::from_seed([0; 32]),
            answer_timeout: Duration::from_secs(10),
        };
        let router: Router = Router::new()
            .route("/broken", get(broken))
            .route("/slow", get(std::future::pending::<()>))
            .route("/noted", get(async || tracing::warn!("noted")))
            .layer(from_fn_with_state(state, around));
        let request = Request::get(path)
            .extension(Peer([127, 0, 0, 1].into()))
            .header(X_REQUEST_ID, "cart-7")
            .header(TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let request = request.body(Body::empty()).unwrap();
        TowerToHyperService::new(router).call(request).await.unwrap()
    }

    async fn broken() {
        panic!("broken")
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_a_wait_without_end_are_answered() {
        let broken = ask("/broken").await;
        assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(broken.headers().contains_key(X_REQUEST_ID));
        let slow = ask("/slow").await;
        assert_eq!(slow.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(slow.headers().contains_key(header::RETRY_AFTER));
    }

    /// What is logged while this is the thread's default.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_logged_of_a_request_has_its_name() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        let guard = tracing::subscriber::set_default(log.finish());
        let answer = ask("/noted").await;
        drop(guard);
        assert_eq!(answer.headers()[X_REQUEST_ID], "cart-7");
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let noted = lines.lines().find(|line| line.contains("noted"));
        let noted = noted.unwrap_or_else(|| panic!("not logged: {lines}"));
        assert!(noted.contains("request.id=cart-7"), "{noted}");
        assert!(noted.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{noted}");
    }

    #[test]
    fn only_a_trace_that_is_one_is_taken() {
        let id = |parent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, parent.parse().unwrap());
            trace_id(&headers).map(str::to_owned)
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(id(&format!("01-{trace}-00f067aa0ba902b7-01-more")).as_deref(), Some(trace));
        for bad in [
            "",
            "00",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{trace}-00f067aa0ba902b7"),
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
