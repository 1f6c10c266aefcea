//! `tablecast gateway`.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::net::{TcpListener, TcpSocket};

use super::relay::RelayArgs;
use super::{Role, print};
use crate::bus::connect::NatsConfig;
use crate::gateway::{self, GatewayConfig};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Options of `tablecast gateway`.
#[derive(Args, Debug)]
pub(super) struct GatewayArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(flatten)]
    gateway: GatewayConfig,
}

pub(super) async fn run(args: GatewayArgs, role: Role) -> anyhow::Result<()> {
    if let Err(mistake) = args.gateway.validate() {
        super::usage_error(&mistake.to_string());
    }
    let catalog = match args.relay.add_to(role.catalog.clone()) {
        Ok(catalog) => catalog,
        Err(mistake) => super::usage_error(&mistake.to_string()),
    };
    let Some(bus) = role.connect(&args.nats, "tablecast gateway").await? else {
        return Ok(());
    };
    let Role { metrics, stop, .. } = role;
    let listener = listen(&args.gateway)?;
    print::line(&format!("page: http://{}/", listener.local_addr()?))?;
    let time = (Clock::System, Entropy::from_os());
    gateway::run(args.gateway, listener, bus, catalog, time, metrics, stop).await?;
    Ok(())
}

/// Connections that may wait to be accepted. A storm fills a short queue within a few ms, and whoever finds it full tries again
/// a whole second later. The system has the last word (`net.core.somaxconn`).
const BACKLOG: u32 = 16_384;

/// Binds where the config says, so that the caller knows the port before anything is served.
pub(super) fn listen(config: &GatewayConfig) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(config.bind, config.port);
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!("cannot listen on {address}: choose another with --bind and --port")
    })
}
