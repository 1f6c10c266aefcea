//! Three `nats-server`s that know each other.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::context::AccountErrorKind;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::nats_server::binary;

/// How long a cluster may take to elect its first leader.
const START_WAIT: Duration = Duration::from_secs(60);

/// A running cluster. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// For `--nats-url`.
    pub(crate) urls: String,
    children: Vec<Child>,
    _store: TempDir,
}

impl Cluster {
    /// Three servers that keep streams.
    pub(crate) async fn start() -> Self {
        let store = tempfile::tempdir().expect("a directory for the stores");
        let ports = free_ports();
        let routes: Vec<String> =
            ports.iter().map(|[_, route]| format!("nats://127.0.0.1:{route}")).collect();
        let mut children = Vec::new();
        for (number, [port, route]) in ports.iter().enumerate() {
            let directory = store.path().join(format!("n{number}"));
            std::fs::create_dir_all(&directory).expect("a directory in the store");
            let child = Command::new(binary())
                .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
                .args(["--name", &format!("n{number}"), "--cluster_name", "test"])
                .args(["--cluster", &format!("nats://127.0.0.1:{route}")])
                .args(["--routes", &routes.join(",")])
                .arg("--jetstream")
                .arg("--store_dir")
                .arg(&directory)
                .arg("--log")
                .arg(directory.join("server.log"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            children.push(child.expect("the server starts"));
        }
        let urls: Vec<String> =
            ports.iter().map(|[port, _]| format!("nats://127.0.0.1:{port}")).collect();
        let cluster = Self { urls: urls.join(","), children, _store: store };
        cluster.until_ready().await;
        cluster
    }

    async fn until_ready(&self) {
        let deadline = Instant::now() + START_WAIT;
        let first = self.urls.split(',').next().expect("three");
        loop {
            let answer = match async_nats::connect(first).await {
                Ok(client) => async_nats::jetstream::new(client).query_account().await.err(),
                Err(_not_yet) => Some(AccountErrorKind::TimedOut.into()),
            };
            let Some(error) = answer else { return };
            assert!(Instant::now() < deadline, "the cluster elects no leader: {error}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A client's and a route's port for each, where nobody listened a moment ago: servers must know each other's
/// before they start.
fn free_ports() -> [[u16; 2]; 3] {
    // All at once, since a port that is let go may be given again.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: [[TcpListener; 2]; 3] = std::array::from_fn(|_| [free(), free()]);
    listeners.map(|pair| pair.map(|bound| bound.local_addr().expect("it is bound").port()))
}
