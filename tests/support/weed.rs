//! A SeaweedFS server of one test run: a real S3 store with signatures, on free ports and its own directory.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The bucket that exists.
pub(crate) const BUCKET: &str = "archive";
/// The keys that it takes.
pub(crate) const ACCESS_KEY: &str = "tablecast";
pub(crate) const SECRET_KEY: &str = "a-secret-of-the-tests";

/// A running server; stops with its last use.
#[derive(Debug)]
pub(crate) struct Weed {
    process: Child,
    endpoint: String,
    _directory: TempDir,
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Weed {
    /// Starts a server. Returns when its S3 port is open; the bucket may take a moment longer.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = free_ports();
        let flags = ["master", "filer", "volume", "admin", "s3"].iter().zip(&ports);
        let flags = flags.map(|(service, port)| format!("-{service}.port={port}"));
        let process = Command::new(binary())
            .arg("mini")
            .arg(format!("-dir={}", directory.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-webdav=false", "-admin.ui=false"])
            // These two would be taken at fixed numbers.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-bucket={BUCKET}"))
            .args(flags)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("weed is a program");
        let [.., s3] = ports;
        let weed =
            Self { process, endpoint: format!("http://127.0.0.1:{s3}"), _directory: directory };
        weed.wait_for(s3);
        weed
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn wait_for(&self, port: u16) {
        for _ in 0..600 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("weed does not listen on {}", self.endpoint);
    }
}

fn binary() -> PathBuf {
    let given = std::env::var_os("TABLECAST_TEST_WEED").map(PathBuf::from);
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/weed");
    let binary = given.unwrap_or(own);
    assert!(
        binary.exists(),
        "there is no {}: run `make tools`, or name the program in TABLECAST_TEST_WEED",
        binary.display()
    );
    binary
}

/// Ports for the services. Each also takes the port 10,000 above it, for gRPC.
fn free_ports() -> [u16; 5] {
    let pair = || loop {
        let low = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = low.local_addr().expect("bound").port();
        // Below what the system gives out by itself, or somebody may take the port above meanwhile.
        let candidate = 12_000 + port % 8_000;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free(candidate) && is_free(candidate + 10_000) {
            return candidate;
        }
    };
    let mut ports = [0; 5];
    for at in 0..ports.len() {
        ports[at] = std::iter::repeat_with(pair)
            .find(|port| !ports[..at].contains(port))
            .expect("there are thousands");
    }
    ports
}
