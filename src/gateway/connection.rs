//! One socket: the only loop that reads and writes it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::action::{Action, Ask, Incoming};
use super::breaker::{Breaker, BusState};
use super::commands::Dispatcher;
use super::hub::Hub;
use super::lobby::Board;
use super::mailbox::{ConnectionId, Mailbox};
use super::metrics;
use super::outbox::{Next, OutboxLimits};
use super::session::{Session, SessionLimits};
use super::socket::{fault_of, message, write};
use super::subscriber::Join;
use super::table_feed::Feed;
use super::token::{Bearer, TokenError, Tokens};
use crate::domain::TableId;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{BusStatus, Format, ServerFrame};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// What is written before the socket is flushed once: enough to fill a packet or two.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 64 * 1024;
/// Own frames that may wait before nothing more is read that could cause more of them.
const OWN_FRAMES_MAX: usize = 256;
/// How long a closing socket has to take what is left and to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// What all connections of a gateway share.
#[derive(Debug)]
pub(super) struct Served {
    /// This process, as owners of tables know it.
    pub gateway: Arc<str>,
    /// The followed tables.
    pub hub: Arc<Hub>,
    /// The list of tables.
    pub board: Arc<Board>,
    /// Where commands go.
    pub dispatcher: Arc<Dispatcher>,
    /// Whether the bus can be reached, which clients are told.
    pub breaker: Arc<Breaker>,
    /// For guests' ids.
    pub entropy: Entropy,
    /// Who is who.
    pub tokens: Tokens,
    /// What one session may do.
    pub session: SessionLimits,
    /// What one outbox may hold.
    pub outbox: OutboxLimits,
    /// How long a socket may take nothing.
    pub slow_timeout: Duration,
    /// The time for clients.
    pub clock: Clock,
    /// When to tell clients to go elsewhere.
    pub shutdown: CancellationToken,
    /// The number of the next connection.
    pub next_connection: AtomicU64,
}

/// Serves a socket until either side closes it.
pub(super) async fn run(socket: WebSocket, format: Format, served: Arc<Served>) {
    metrics::connected();
    let _counted = CountedUntilDropped;
    let id = ConnectionId(served.next_connection.fetch_add(1, Ordering::Relaxed));
    let mailbox = Arc::new(Mailbox::new(id, format, served.outbox));
    let (limits, tokens) = (served.session, served.tokens.clone());
    let (sink, stream) = socket.split();
    let mut connection = Connection {
        session: Session::new(format, limits, tokens, Instant::now()),
        presence: Presence {
            mailbox: Arc::clone(&mailbox),
            board: Arc::clone(&served.board),
            feeds: BTreeMap::new(),
        },
        mailbox,
        asked: FuturesUnordered::new(),
        batch: VecDeque::new(),
        writing_since: None,
        throttled_until: None,
        sink,
        stream,
        bus_states: served.breaker.states(),
        served,
    };
    let ending = connection.serve().await;
    connection.end(ending).await;
}

struct CountedUntilDropped;

impl Drop for CountedUntilDropped {
    fn drop(&mut self) {
        metrics::disconnected();
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By us, for this reason.
    Closed(CloseCode),
    /// The client closed it, or is gone.
    Gone,
}

/// What the connection waited for.
enum Answer {
    /// A worker's verdict on a command.
    Verdict(Option<TableId>, ServerFrame),
    /// Whose token it is whose key was looked for.
    Found(Result<Bearer, TokenError>),
}

struct Connection {
    session: Session,
    mailbox: Arc<Mailbox>,
    presence: Presence,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// What the socket is to take before the outbox is asked again.
    batch: VecDeque<Message>,
    writing_since: Option<Instant>,
    throttled_until: Option<Instant>,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    bus_states: watch::Receiver<BusState>,
    served: Arc<Served>,
}

/// Where else this connection is known. All of it is left on drop, so that not even a panic leaves a
/// ghost behind.
struct Presence {
    mailbox: Arc<Mailbox>,
    board: Arc<Board>,
    feeds: BTreeMap<TableId, Arc<Feed>>,
}

impl Presence {
    fn leave_all(&mut self) {
        self.board.unwatch(&self.mailbox);
        for feed in std::mem::take(&mut self.feeds).into_values() {
            feed.leave(self.mailbox.connection);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave_all();
    }
}

impl Connection {
    /// The loop. Its inputs, and why each exists:
    ///
    /// - shutdown: the client is told to come back to another gateway;
    /// - the timer: pings, a mute or slow client, a throttle that lets go;
    /// - the write: the socket takes the batch at its own pace, while everything else goes on;
    /// - the bus: the client is told when it cannot be reached, and when it can again;
    /// - the bell: somebody left a frame in the outbox;
    /// - answers: a worker's verdict on a command;
    /// - the socket: the client's frames, unless it does not take the answers to those before.
    async fn serve(&mut self) -> Ending {
        let mailbox = Arc::clone(&self.mailbox);
        let shutdown = self.served.shutdown.clone();
        let mut shutdown = pin!(shutdown.cancelled());
        let mut timer = pin!(sleep_until(self.session.wake_at()));
        mailbox.push_own(&self.session.welcome(self.served.clock.now()));
        let bus = *self.bus_states.borrow_and_update();
        if bus.bus == BusStatus::Unavailable {
            mailbox.push_own(&bus.frame());
        }
        loop {
            let wake_at = self.wake_at();
            if timer.deadline() != wake_at {
                timer.as_mut().reset(wake_at);
            }
            let may_read = mailbox.lock().own_waiting() < OWN_FRAMES_MAX;
            let ended = tokio::select! {
                biased;
                () = &mut shutdown => Err(Ending::Closed(CloseCode::Restart)),
                () = &mut timer => self.on_timer(),
                written = write(&mut self.sink, &mut self.batch), if self.writing_since.is_some() => {
                    self.on_written(written)
                }
                Ok(()) = self.bus_states.changed() => {
                    mailbox.push_own(&self.bus_states.borrow_and_update().frame());
                    Ok(())
                }
                () = mailbox.rung() => { self.fill_batch(); Ok(()) }
                Some(answer) = self.asked.next(), if !self.asked.is_empty() => self.on_answer(answer),
                message = self.stream.next(), if may_read => self.on_message(message),
            };
            if let Err(ending) = ended {
                return ending;
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let slow_at = self.writing_since.map(|since| since + self.served.slow_timeout);
        [slow_at, self.throttled_until]
            .into_iter()
            .flatten()
            .fold(self.session.wake_at(), Instant::min)
    }

    fn on_timer(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let is_slow = |since| now.duration_since(since) >= self.served.slow_timeout;
        if self.writing_since.is_some_and(is_slow) {
            return Err(Ending::Closed(CloseCode::SlowConsumer));
        }
        if self.throttled_until.take_if(|until| *until <= now).is_some() {
            self.fill_batch();
        }
        let actions =
            if now >= self.session.wake_at() { self.session.on_time(now) } else { vec![] };
        self.perform(actions)
    }

    fn on_written(&mut self, written: Result<(), axum::Error>) -> Result<(), Ending> {
        self.writing_since = None;
        written.map_err(|_gone| Ending::Gone)?;
        self.fill_batch();
        Ok(())
    }

    fn on_answer(&mut self, answer: Answer) -> Result<(), Ending> {
        match answer {
            Answer::Verdict(table, frame) => {
                self.mailbox.push_own(&frame);
                let next = self.session.on_answered(table);
                self.perform(next)
            }
            Answer::Found(bearer) => {
                let actions =
                    self.session.on_found(bearer, Instant::now(), self.served.clock.now());
                self.perform(actions)
            }
        }
    }

    fn on_message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Ending> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(fault_of(error).map_or(Ending::Gone, Ending::Closed)),
            None => return Err(Ending::Gone),
        };
        metrics::received();
        let incoming = match &message {
            Message::Text(text) => Incoming::Text(text.as_bytes()),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) => Incoming::Control,
            Message::Close(_) => return Err(Ending::Gone),
        };
        let (now, wall) = (Instant::now(), self.served.clock.now());
        let actions = self.session.on_message(incoming, now, wall);
        self.perform(actions)
    }

    fn perform(&mut self, actions: impl IntoIterator<Item = Action>) -> Result<(), Ending> {
        for action in actions {
            match action {
                Action::Reply(frame) => {
                    metrics::replied(&frame);
                    self.mailbox.push_own(&frame);
                }
                Action::Follow { table, cursor, deliver } => {
                    let join = Join {
                        mailbox: Arc::clone(&self.mailbox),
                        player: self.session.identity().map(|who| who.player.clone()),
                        cursor,
                        deliver,
                    };
                    let feed = self.served.hub.join(table, &join);
                    self.presence.feeds.insert(table, feed);
                }
                Action::Unfollow { table } => self.unfollow(table),
                Action::WatchLobby => self.served.board.watch(&self.mailbox),
                Action::UnwatchLobby => self.served.board.unwatch(&self.mailbox),
                Action::Ask(ask) => self.ask(ask),
                Action::FindKey(token) => {
                    let (tokens, clock) = (self.served.tokens.clone(), self.served.clock);
                    self.asked.push(Box::pin(async move {
                        Answer::Found(tokens.check_anew(&token, clock).await)
                    }));
                }
                Action::Ping => {
                    // Not behind what is being written: a socket that takes nothing needs no ping.
                    if self.writing_since.is_none() {
                        self.batch.push_back(Message::Ping(Bytes::new()));
                        self.writing_since = Some(Instant::now());
                    }
                }
                Action::Close(code) => return Err(Ending::Closed(code)),
            }
        }
        Ok(())
    }

    fn unfollow(&mut self, table: TableId) {
        if let Some(feed) = self.presence.feeds.remove(&table) {
            feed.leave(self.mailbox.connection);
        }
        self.mailbox.lock().unfollow(table);
    }

    fn ask(&mut self, ask: Ask) {
        let table = ask.table();
        let dispatcher = Arc::clone(&self.served.dispatcher);
        self.asked.push(Box::pin(async move { Answer::Verdict(table, dispatcher.ask(ask).await) }));
    }

    /// Takes what may go out now from the outbox, unless the socket is still busy with the last batch.
    fn fill_batch(&mut self) {
        let dropped = self.mailbox.lock().take_dropped();
        for (table, feed) in dropped {
            // The client may follow the table again by now, through another feed.
            if self.presence.feeds.get(&table).is_some_and(|other| other.id == feed) {
                self.presence.feeds.remove(&table);
                self.session.on_dropped(table);
            }
        }
        if self.writing_since.is_some() {
            return;
        }
        self.throttled_until = None;
        let now = Instant::now();
        let mut bytes = 0;
        while self.batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
            let next = self.mailbox.lock().next(now);
            match next {
                Next::Send(frame, then) => {
                    for frame in std::iter::once(frame).chain(then) {
                        bytes += frame.len();
                        self.batch.push_back(message(self.mailbox.format, frame));
                    }
                }
                Next::SnapshotDue(table) => match self.presence.feeds.get(&table) {
                    Some(feed) => feed.resolve(&self.mailbox),
                    None => self.mailbox.lock().unfollow(table),
                },
                Next::LobbyDue => {
                    let frame = self.served.board.frame(self.mailbox.format);
                    bytes += frame.len();
                    self.batch.push_back(message(self.mailbox.format, frame));
                }
                Next::WaitUntil(until) => {
                    metrics::throttled_out();
                    self.throttled_until = Some(until);
                    break;
                }
                Next::Nothing => break,
            }
        }
        if !self.batch.is_empty() {
            metrics::sent(self.batch.len());
            self.writing_since = Some(now);
        }
    }

    /// Lets go of everything, and says why if it is we who close.
    async fn end(mut self, ending: Ending) {
        self.presence.leave_all();
        let Ending::Closed(code) = ending else {
            timeout(CLOSE_PATIENCE, self.sink.close()).await.ok();
            return;
        };
        metrics::closed(code);
        debug!(reason = code.reason(), "closing a connection");
        let frame = Message::Close(Some(CloseFrame {
            code: code.code(),
            reason: Utf8Bytes::from_static(code.reason()),
        }));
        let goodbye = async {
            // A worker's verdict that has come must not be lost to the restart of a gateway.
            if code == CloseCode::Restart {
                write(&mut self.sink, &mut self.batch).await?;
                self.writing_since = None;
                self.fill_batch();
            }
            self.batch.push_back(frame);
            write(&mut self.sink, &mut self.batch).await?;
            // A socket dropped with unread frames in it is reset, and the reason lost on its way.
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok::<(), axum::Error>(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_PATIENCE, goodbye).await {
            debug!(%error, "the client was gone before it could be told why");
        }
    }
}
