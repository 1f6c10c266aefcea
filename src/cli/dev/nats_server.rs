//! A `nats-server` of one's own: a child process that ends with this one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tracing::info;

use crate::bus::durability::Durability;

/// The first version with everything that is needed.
const VERSION_MIN: (u32, u32) = (2, 12);
/// How long a start may take; with a million stored games it is some 3 s.
const START_MAX: Duration = Duration::from_secs(30);

/// There is no option for it on the server's command line.
const WRITE_AT_ONCE: &str = "jetstream { sync_interval: always }\n";

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(in crate::cli) struct NatsServer {
    child: Child,
    /// Where clients connect.
    pub(in crate::cli) url: String,
}

/// What the server writes about its ports.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts a server on a free port of the loopback interface, its files under `dir`. It writes as the
    /// durability class asks of one server.
    pub(in crate::cli) async fn start(
        binary: Option<&Path>,
        dir: &Path,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let binary = find(binary)?;
        let version = version(&binary).await?;
        std::fs::create_dir_all(dir).with_context(|| {
            format!("cannot write under {}: choose another --data-dir", dir.display())
        })?;
        let ports = tempfile::tempdir_in(dir)?;
        let mut command = dies_with_us(&binary);
        command
            .args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir"])
            .arg(dir)
            .arg("--ports_file_dir")
            .arg(ports.path())
            .arg("--log")
            .arg(dir.join("nats-server.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is for us: the server must outlive the last append.
            .process_group(0)
            .kill_on_drop(true);
        if durability == Durability::Strict {
            let settings = dir.join("strict.conf");
            std::fs::write(&settings, WRITE_AT_ONCE)?;
            command.arg("-c").arg(settings);
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, url: String::new() };
        server.url = server.wait_for_port(ports.path()).await.with_context(|| {
            format!("nats-server has not started: see {}", dir.join("nats-server.log").display())
        })?;
        info!(nats.url = %server.url, "nats-server {version} has started");
        Ok(server)
    }

    async fn wait_for_port(&mut self, ports_dir: &Path) -> anyhow::Result<String> {
        let until = Instant::now() + START_MAX;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            for file in std::fs::read_dir(ports_dir)? {
                // A file that is still being written does not parse yet.
                let text = std::fs::read(file?.path())?;
                if let Ok(ports) = serde_json::from_slice::<Ports>(&text)
                    && let Some(url) = ports.nats.first()
                {
                    return Ok(url.clone());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no port after {} s", START_MAX.as_secs())
    }

    /// Stops the server and waits for it, so that its files are whole.
    pub(in crate::cli) async fn stop(mut self) {
        let pid = self.child.id().map(|pid| pid.to_string());
        if let Some(pid) = pid {
            // `Child::kill` is SIGKILL, and the server closes its files on SIGTERM.
            Command::new("kill").args(["-TERM", &pid]).status().await.ok();
        }
        tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await.ok();
    }
}

/// A command that is killed when this process is, if the system has `setpriv` (util-linux).
pub(in crate::cli) fn dies_with_us(binary: &Path) -> Command {
    if find_on_path("setpriv").is_none() {
        return Command::new(binary);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(binary);
    command
}

pub(in crate::cli) fn find(binary: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(binary) = binary {
        return Ok(binary.to_owned());
    }
    find_on_path("nats-server")
        .or_else(|| Some(PathBuf::from(".tools/bin/nats-server")).filter(|path| path.is_file()))
        .context(
            "there is no nats-server on PATH: install 2.12 or newer, run `make tools`, name one with \
             --nats-server, or use a running one with --nats-url",
        )
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "PATH is no configuration of ours")]
    let path = std::env::var("PATH").ok()?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

async fn version(binary: &Path) -> anyhow::Result<String> {
    let output = Command::new(binary).arg("--version").output().await;
    let output = output.with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().rsplit('v').next().unwrap_or_default().to_owned();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        bail!("{} is version {version}, {major}.{minor} or newer is needed", binary.display());
    }
    Ok(version)
}
