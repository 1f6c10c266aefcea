//! `/healthz`, `/readyz` and `/metrics` of the roles that serve no players.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::runtime::health::{self, Readiness};

/// Where a role without players answers its operator.
#[derive(Args, Clone, Debug)]
pub(super) struct AdminConfig {
    /// Serve /healthz, /readyz and /metrics here, as in 127.0.0.1:9100. Without it they are not served.
    #[arg(long, env = "TABLECAST_ADMIN_BIND")]
    admin_bind: Option<SocketAddr>,
}

/// Serves until stopped. Called once the role is connected, so being reachable is being ready.
pub(super) async fn serve(
    config: &AdminConfig,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(bind) = config.admin_bind else {
        stop.cancelled().await;
        return Ok(());
    };
    let listener =
        TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
    info!("admin endpoint on http://{}", listener.local_addr()?);
    let readiness = Readiness::new();
    readiness.set_ready();
    let router: Router = health::routes(readiness, metrics);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
        .context("the admin endpoint has failed")
}
