//! Whether a process lives, whether it may be sent work, and its metrics, over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// Whether a role may be sent work: when each of its parts says so. Shared by whoever finds out and whoever
/// is asked.
#[derive(Clone, Debug)]
pub struct Readiness {
    part: &'static str,
    /// The reasons against it, by part.
    reasons: Arc<Mutex<BTreeMap<&'static str, &'static str>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { part: "role", reasons: Arc::default() }.part("role")
    }
}

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The say of one more part, which is not ready yet.
    #[must_use]
    pub fn part(&self, part: &'static str) -> Self {
        let part = Self { part, reasons: Arc::clone(&self.reasons) };
        part.set_unready("starting");
        part
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
        let mut reasons = self.lock();
        match reason {
            Some(reason) => reasons.insert(self.part, reason),
            None => reasons.remove(self.part),
        };
    }

    /// Why no work may be sent; nothing if it may.
    pub fn reason(&self) -> Option<&'static str> {
        self.lock().first_key_value().map(|(_, reason)| *reason)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, &'static str>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where [`routes`] are.
pub const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes<S: Clone + Send + Sync + 'static>(
    readiness: Readiness,
    metrics: PrometheusHandle,
) -> Router<S> {
    let ready = move || std::future::ready(ready(readiness.reason()));
    let [healthz, readyz, exposed] = PATHS;
    Router::new()
        .route(healthz, get(|| std::future::ready("ok\n")))
        .route(readyz, get(ready))
        .route(exposed, get(move || std::future::ready(exposition(&metrics))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_ready_when_each_of_its_parts_is() {
        let role = Readiness::new();
        let bus = role.part("bus");
        assert_eq!(role.reason(), Some("starting"));
        role.set_ready();
        assert_eq!(role.reason(), Some("starting"));
        bus.set_ready();
        assert_eq!(role.reason(), None);
        bus.set_unready("the bus cannot be reached");
        role.set_ready();
        assert_eq!(role.reason(), Some("the bus cannot be reached"));
    }
}
