//! A `nats-server` of a test's own: a free port, a store that vanishes with it.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use tablecast::bus::Bus;
use tablecast::bus::connect::{NatsConfig, connect};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to say where it listens.
const START_WAIT: Duration = Duration::from_secs(20);

/// Whether the server has an event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JetStream {
    On,
    Off,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct NatsServer {
    /// For `--nats-url`. Stays the same over restarts.
    pub(crate) url: String,
    port: u16,
    store: TempDir,
    jetstream: JetStream,
    child: Option<Child>,
}

/// The options of a role, as its command line would have them.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    nats: NatsConfig,
}

impl NatsServer {
    /// Options for this server, and more of them.
    pub(crate) fn config(&self, more: &[&str]) -> NatsConfig {
        let named = ["test", "--nats-url", &self.url];
        Options::parse_from(named.iter().chain(more)).nats
    }

    /// A connection with the streams in place.
    pub(crate) async fn bus(&self, more: &[&str]) -> Bus {
        let connected = connect(&self.config(more), "test").await;
        connected.expect("the server is there, with JetStream")
    }

    /// A server with JetStream.
    pub(crate) async fn start() -> Self {
        Self::start_with(JetStream::On).await
    }

    /// A server with or without JetStream.
    pub(crate) async fn start_with(jetstream: JetStream) -> Self {
        let mut server = Self {
            url: String::new(),
            port: 0,
            store: tempfile::tempdir().expect("a directory for the store"),
            jetstream,
            child: None,
        };
        server.spawn().await;
        server
    }

    /// Ends the server without a goodbye. Its store stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Ends the server as an operator does. Its store stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            let sent = Command::new("kill").args(["-TERM", &pid]).status();
            assert!(sent.expect("`kill` runs").success(), "the server is gone already");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Starts the server again, on the same port and store.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }

    async fn spawn(&mut self) {
        let ports = self.store.path().join("ports");
        std::fs::create_dir_all(&ports).expect("a directory in the store");
        let port = match self.port {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let mut command = Command::new(binary());
        command
            .args(["--addr", "127.0.0.1", "--port", &port])
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("--log")
            .arg(self.store.path().join("server.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.jetstream == JetStream::On {
            command.arg("--jetstream").arg("--store_dir").arg(self.store.path().join("jetstream"));
        }
        self.child = Some(command.spawn().expect("the server starts"));
        self.url = self.listening(&ports).await;
        let (_, port) = self.url.rsplit_once(':').expect("a URL with a port");
        self.port = port.parse().expect("a port is a number");
    }

    /// The server writes a file with its URLs once it takes connections.
    async fn listening(&mut self, ports: &Path) -> String {
        #[derive(serde::Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let child = self.child.as_mut().expect("just started");
        let file = ports.join(format!("{}_{}.ports", file_stem(&binary()), child.id()));
        let deadline = Instant::now() + START_WAIT;
        loop {
            if let Ok(text) = std::fs::read(&file)
                && let Ok(Ports { nats }) = serde_json::from_slice(&text)
            {
                return nats.into_iter().next().expect("a server has a URL");
            }
            let ended = child.try_wait().expect("our own child can be asked");
            let log = self.store.path().join("server.log");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the server did not start:\n{}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn file_stem(path: &Path) -> String {
    let name = path.file_name().expect("a binary has a name");
    name.to_string_lossy().into_owned()
}

/// The server to test with: named, else on the path, else what `make tools` has fetched.
pub(crate) fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line")]
    let named = std::env::var("TABLECAST_TEST_NATS_SERVER").ok();
    if let Some(named) = named {
        return named.into();
    }
    #[expect(clippy::disallowed_methods, reason = "tests have no command line")]
    let path = std::env::var("PATH").unwrap_or_default();
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .chain([fetched])
        .find(|candidate| candidate.is_file())
        .expect("no nats-server: run `make tools`, or name one in TABLECAST_TEST_NATS_SERVER")
}
