//! Whether a process lives, whether it may be sent work, and its metrics, over HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// Whether a role may be sent work. Shared by whoever finds out and whoever is asked.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<&'static str>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some("starting"))))
    }
}

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Send work.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// Send no work, for this reason.
    pub fn set_unready(&self, reason: &'static str) {
        self.set(Some(reason));
    }

    fn set(&self, reason: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why no work may be sent; nothing if it may.
    pub fn reason(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes<S: Clone + Send + Sync + 'static>(
    readiness: Readiness,
    metrics: PrometheusHandle,
) -> Router<S> {
    let ready = move || std::future::ready(ready(readiness.reason()));
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || std::future::ready(exposition(&metrics))))
}

fn ready(reason: Option<&'static str>) -> Response {
    match reason {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn exposition(metrics: &PrometheusHandle) -> Response {
    // Without this, histograms that nobody asks for would keep every sample.
    metrics.run_upkeep();
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    ([content_type], metrics.render()).into_response()
}
