//! Three NATS servers by the configuration that an operator would start from, or one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::jetstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::nats_server::binary;
use crate::options::Class;
use crate::process::{Process, Signal};

/// How long a cluster may take to be ready, from nothing.
const START_WAIT: Duration = Duration::from_secs(60);

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) client: SocketAddr,
    cluster: SocketAddr,
    monitoring: SocketAddr,
    directory: PathBuf,
    process: Option<Process>,
}

/// All servers.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    config: PathBuf,
    admin: Option<async_nats::Client>,
}

impl Cluster {
    /// Starts so many servers and waits until they keep streams.
    pub(crate) async fn start(
        count: usize,
        class: Class,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats");
        let config = folder.join(match class {
            Class::Dev => "server.conf",
            Class::Standard => "cluster/standard.conf",
            Class::Strict => "cluster/strict.conf",
        });
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push(Node::new(number, directory).await?);
        }
        let mut cluster = Self { nodes, config, admin: None };
        for index in 0..count {
            cluster.spawn(index)?;
        }
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Addresses for clients, separated by commas.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://{}", node.client)).collect()
    }

    /// A connection of the test's own, past all proxies.
    pub(crate) async fn client(&self) -> anyhow::Result<async_nats::Client> {
        self.connect(&self.urls()).await
    }

    /// A connection to one server and no other.
    pub(crate) async fn client_of(&self, index: usize) -> anyhow::Result<async_nats::Client> {
        self.connect(&self.urls()[index..=index]).await
    }

    async fn connect(&self, urls: &[String]) -> anyhow::Result<async_nats::Client> {
        let urls: Vec<async_nats::ServerAddr> =
            urls.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
        let options = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            .request_timeout(Some(Duration::from_secs(2)))
            .ping_interval(Duration::from_secs(1))
            .subscription_capacity(65_536);
        Ok(options.connect(urls).await?)
    }

    /// The server that leads the events of shard 0.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let info = self.events().await.ok()?;
        let name = info.cluster?.leader?;
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Whether every server is up and has all that is stored.
    pub(crate) async fn is_healthy(&self) -> bool {
        for node in &self.nodes {
            if node.process.is_none() || !node.is_healthy().await {
                return false;
            }
        }
        if self.nodes.len() == 1 {
            return true;
        }
        let Ok(info) = self.events().await else { return false };
        let Some(cluster) = info.cluster else { return false };
        cluster.leader.is_some()
            && cluster.replicas.len() + 1 == self.nodes.len()
            && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
    }

    pub(crate) async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.nodes[index].process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    pub(crate) async fn signal(&mut self, index: usize, signal: Signal) -> anyhow::Result<()> {
        match &self.nodes[index].process {
            Some(process) => process.signal(signal).await,
            None => Ok(()),
        }
    }

    /// Asks a server to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, index: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.nodes[index].process.take() {
            process.signal(Signal::Terminate).await?;
            process.exit(Duration::from_secs(20)).await.context("a NATS server does not stop")?;
        }
        Ok(())
    }

    /// Starts a server, on the ports and the directory that it had.
    pub(crate) fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let routes: Vec<String> =
            self.nodes.iter().map(|node| format!("nats://{}", node.cluster)).collect();
        let is_cluster = self.nodes.len() > 1;
        let node = &mut self.nodes[index];
        let mut args = vec![
            "-c".to_owned(),
            self.config.display().to_string(),
            "--addr=127.0.0.1".to_owned(),
            format!("--port={}", node.client.port()),
            format!("--http_port={}", node.monitoring.port()),
            format!("--store_dir={}", node.directory.join("jetstream").display()),
            format!("--log={}", node.directory.join("server.log").display()),
            format!("--name={}", node.name),
        ];
        if is_cluster {
            args.extend([
                format!("--cluster=nats://{}", node.cluster),
                format!("--routes={}", routes.join(",")),
                // A client that learns of the other servers would go round its proxy.
                "--no_advertise=true".to_owned(),
            ]);
        }
        let log = node.directory.join("stderr.log");
        node.process = Some(Process::start(&binary(), &args, &log)?);
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WAIT;
        loop {
            let mut healthy = 0;
            for node in &mut self.nodes {
                healthy += usize::from(node.is_healthy().await);
                let ended = node.process.as_mut().is_some_and(Process::has_ended);
                ensure!(!ended, "{} ended, see {}", node.name, node.directory.display());
            }
            if healthy == self.nodes.len() {
                break;
            }
            ensure!(Instant::now() < deadline, "{healthy} NATS servers became healthy");
            sleep(Duration::from_millis(50)).await;
        }
        let client = self.client().await?;
        let context = jetstream::new(client.clone());
        while let Err(error) = context.query_account().await {
            if Instant::now() > deadline {
                bail!("the cluster elects no leader: {error}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.admin = Some(client);
        Ok(())
    }

    async fn events(&self) -> anyhow::Result<jetstream::stream::Info> {
        let client = self.admin.clone().context("the cluster has been started")?;
        let context = jetstream::new(client);
        let stream = timeout(Duration::from_secs(2), context.get_stream("EVENTS_0")).await??;
        Ok(stream.cached_info().clone())
    }
}

impl Node {
    async fn new(number: usize, directory: &Path) -> anyhow::Result<Self> {
        let name = format!("n{number}");
        let directory = directory.join(&name);
        std::fs::create_dir_all(&directory)?;
        let (client, cluster, monitoring) = (free().await?, free().await?, free().await?);
        Ok(Self { name, client, cluster, monitoring, directory, process: None })
    }

    /// As the server says of itself: streams included.
    async fn is_healthy(&self) -> bool {
        let asked = async {
            let mut socket = TcpStream::connect(self.monitoring).await?;
            socket.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(answer.contains(" 200 "))
        };
        matches!(timeout(Duration::from_secs(1), asked).await, Ok(Ok(true)))
    }
}

/// A port that was free a moment ago. The servers of a cluster must know each other's before they start.
async fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
