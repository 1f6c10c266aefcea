//! One socket: the only loop that reads and writes it.

mod outgoing;

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use litemap::LiteMap;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::action::{Action, Ask, Incoming};
use super::mailbox::{ConnectionId, Mailbox};
use super::metrics;
use super::outbox::Hold;
use super::served::Served;
use super::session::Session;
use super::subscriber::Join;
use super::table_feed::Feed;
use super::token::{Bearer, TokenError};
use super::wire::{Frame, Wire};
use super::ws::codec::{Decoder, Message};
use super::ws::socket::{Socket, with_read_buffer};
use crate::domain::TableId;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::ServerFrame;

/// Own frames that may wait before nothing more is read that could cause more of them.
const OWN_FRAMES_MAX: usize = 256;

/// Serves a socket until either side closes it. `early` is what came before it was one.
pub(super) async fn run(
    stream: TcpStream,
    early: Bytes,
    wire: Wire,
    client: IpAddr,
    request: Arc<str>,
    served: Arc<Served>,
) {
    metrics::connected();
    let _counted = CountedUntilDropped;
    let mut connection = Connection::new(stream, wire, client, request, served);
    let begun = connection.on_bytes(&mut early.to_vec());
    // A view of the buffer that the request was read into.
    drop(early);
    let ending = match begun {
        Ok(()) => connection.serve().await,
        Err(ending) => ending,
    };
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
    /// The client said goodbye.
    Left(Option<u16>),
    /// The client is gone.
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
    decoder: Decoder,
    socket: Socket,
    timer: Pin<Box<Sleep>>,
    /// Since when the socket has taken nothing of what waits for it.
    blocked_since: Option<Instant>,
    throttled_until: Option<Instant>,
    /// As the outbox was last told.
    held_up: Option<Hold>,
    /// Whether the client takes the answers to what it sends.
    may_read: bool,
    /// The name of the request that opened the socket.
    request: Arc<str>,
    served: Arc<Served>,
}

/// Where else this connection is known. All of it is left on drop, so that not even a panic leaves a
/// ghost behind.
pub(super) struct Presence {
    /// Whose.
    pub(super) mailbox: Arc<Mailbox>,
    /// Where.
    pub(super) served: Arc<Served>,
    /// The tables it follows.
    pub(super) feeds: LiteMap<TableId, Arc<Feed>>,
}

impl Presence {
    fn leave_all(&mut self) {
        self.served.registry.remove(self.mailbox.connection);
        self.served.board.unwatch(&self.mailbox);
        for (_, feed) in std::mem::take(&mut self.feeds) {
            feed.leave(self.mailbox.connection);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave_all();
    }
}

/// What there is to be done for a connection, beside looking into its outbox.
struct Due {
    timer: bool,
    write: bool,
    answer: Option<Answer>,
    read: bool,
}

impl Connection {
    fn new(
        stream: TcpStream,
        wire: Wire,
        client: IpAddr,
        request: Arc<str>,
        served: Arc<Served>,
    ) -> Self {
        let id = ConnectionId(served.next_connection.fetch_add(1, Ordering::Relaxed));
        let mailbox = Arc::new(Mailbox::new(id, wire, Some(client), served.outbox));
        let (limits, tokens) = (served.session, served.tokens.clone());
        let session = Session::new(wire.format(), limits, tokens, Instant::now());
        mailbox.push_own(&session.welcome(served.clock.now()));
        served.registry.add(&mailbox);
        Self {
            timer: Box::pin(sleep_until(session.wake_at())),
            decoder: Decoder::new(limits.frame_bytes_max, wire == Wire::JsonDeflated),
            socket: Socket::new(stream, served.send_buffer),
            session,
            presence: Presence {
                mailbox: Arc::clone(&mailbox),
                served: Arc::clone(&served),
                feeds: LiteMap::with_capacity(1),
            },
            mailbox,
            asked: FuturesUnordered::new(),
            blocked_since: None,
            throttled_until: None,
            held_up: None,
            may_read: true,
            request,
            served,
        }
    }

    async fn serve(&mut self) -> Ending {
        loop {
            let due = poll_fn(|cx| self.poll_due(cx)).await;
            if let Err(ending) = self.on_due(due) {
                return ending;
            }
        }
    }

    /// The inputs, and why each exists:
    ///
    /// - the timer: pings, a mute or slow client, a throttle that lets go;
    /// - the write: a socket that took less than there was takes something again;
    /// - the bell: somebody left a frame in the outbox, or the gateway stops;
    /// - answers: a worker's verdict on a command;
    /// - the read: the client's frames, unless it does not take the answers to those before.
    ///
    /// All are asked each time, so that a busy one cannot hide another.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let wake_at = self.wake_at();
        if self.timer.deadline() != wake_at {
            self.timer.as_mut().reset(wake_at);
        }
        let timer = self.timer.as_mut().poll(cx).is_ready();
        let write = self.blocked_since.is_some() && self.socket.poll_writable(cx).is_ready();
        let rung = self.mailbox.poll_rung(cx).is_ready();
        let answer = match self.asked.is_empty() {
            true => None,
            false => match self.asked.poll_next_unpin(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => None,
            },
        };
        let read = self.may_read && self.socket.poll_readable(cx).is_ready();
        if timer || write || rung || answer.is_some() || read {
            return Poll::Ready(Due { timer, write, answer, read });
        }
        Poll::Pending
    }

    fn on_due(&mut self, due: Due) -> Result<(), Ending> {
        if due.timer {
            self.on_timer()?;
        }
        if due.read {
            with_read_buffer(|buffer| {
                let length = self.socket.read(buffer).map_err(|_gone| Ending::Gone)?;
                self.on_bytes(&mut buffer[..length])
            })?;
        }
        if let Some(answer) = due.answer {
            self.on_answer(answer)?;
        }
        self.write(due.write)
    }

    fn wake_at(&self) -> Instant {
        let slow_at = self.blocked_since.map(|since| since + self.served.slow_timeout);
        [slow_at, self.throttled_until]
            .into_iter()
            .flatten()
            .fold(self.session.wake_at(), Instant::min)
    }

    fn on_timer(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let is_slow = |since| now.duration_since(since) >= self.served.slow_timeout;
        if self.blocked_since.is_some_and(is_slow) {
            return Err(Ending::Closed(CloseCode::SlowConsumer));
        }
        self.throttled_until.take_if(|until| *until <= now);
        if now < self.session.wake_at() {
            return Ok(());
        }
        self.socket.rest();
        self.mailbox.lock().rest();
        let actions = self.session.on_time(now);
        self.perform(actions)
    }

    fn on_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Ending> {
        // Taken out meanwhile: what it finds goes to the rest of the connection.
        let mut decoder = std::mem::take(&mut self.decoder);
        let taken = decoder.take(bytes, |message| match self.on_message(message) {
            Ok(()) => ControlFlow::Continue(()),
            Err(ending) => ControlFlow::Break(ending),
        });
        self.decoder = decoder;
        match taken {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(ending)) => Err(ending),
            Err(fault) => Err(Ending::Closed(fault.code())),
        }
    }

    fn on_answer(&mut self, answer: Answer) -> Result<(), Ending> {
        match answer {
            Answer::Verdict(table, frame) => {
                self.mailbox.reply(&frame);
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

    fn on_message(&mut self, message: Message<'_>) -> Result<(), Ending> {
        metrics::received();
        let incoming = match message {
            Message::Text(text) => Incoming::Text(text),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            Message::Ping(payload) => {
                self.mailbox.lock().push_own(Frame::pong(payload));
                Incoming::Control
            }
            Message::Pong => Incoming::Control,
            Message::Close(code) => return Err(Ending::Left(code)),
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
                    if let ServerFrame::Welcome { player: Some(player), .. } = &frame {
                        self.mailbox.identify(player);
                    }
                    self.mailbox.reply(&frame);
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
                    if self.blocked_since.is_none() {
                        self.mailbox.lock().push_own(Frame::PING);
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
        let (dispatcher, request) =
            (Arc::clone(&self.served.dispatcher), Arc::clone(&self.request));
        let asked = async move { Answer::Verdict(table, dispatcher.ask(ask, request).await) };
        self.asked.push(Box::pin(asked));
    }
}
