//! What goes out of a connection: from its outbox to its socket, and the last word.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use super::super::metrics;
use super::super::outbox::{FeedId, Hold, Next};
use super::super::wire::Frame;
use super::super::ws::socket::Written;
use super::{Connection, Ending, OWN_FRAMES_MAX};
use crate::domain::TableId;
use crate::protocol::close::CloseCode;

/// What is handed to the socket before the outbox is asked again: what is there can be neither replaced nor
/// overtaken.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 64 * 1024;
/// Batches in a row that a socket is written, before others have their turn.
const BATCHES: usize = 8;
/// How long a closing socket has to take what is left and to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Writes what may go out now, unless the socket takes nothing.
    pub(super) fn write(&mut self, is_writable: bool) -> Result<(), Ending> {
        self.forget_dropped()?;
        if self.blocked_since.is_some() && !is_writable {
            return Ok(());
        }
        for _ in 0..BATCHES {
            let filled = self.fill();
            let written = self.socket.write().map_err(|_gone| Ending::Gone)?;
            match written {
                Written::All => self.blocked_since = None,
                // It still reads, however slowly.
                Written::Some => self.blocked_since = Some(Instant::now()),
                Written::Nothing => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                }
            }
            self.note(filled, written);
            if written != Written::All || filled != Filled::Some {
                return Ok(());
            }
        }
        self.mailbox.ring();
        Ok(())
    }

    /// Leaves in the outbox what holds its frames up, for operators. Only what is new: most writes hold up nothing.
    fn note(&mut self, filled: Filled, written: Written) {
        let hold = match (written, filled) {
            (Written::Some | Written::Nothing, _) => Some(Hold::Socket),
            (Written::All, Filled::Throttled(hold)) => Some(hold),
            (Written::All, Filled::All) => None,
            // It goes on at once.
            (Written::All, Filled::Some) => return,
        };
        let is_news = hold != self.held_up || written == Written::Some;
        if is_news {
            self.held_up = hold;
            let handed = self.socket.waiting();
            self.mailbox.lock().standing().set(hold, handed, Instant::now());
        }
    }

    /// What others have decided about this connection.
    fn forget_dropped(&mut self) -> Result<(), Ending> {
        let mut outbox = self.mailbox.lock();
        self.may_read = outbox.own_waiting() < OWN_FRAMES_MAX;
        let dropped = outbox.take_dropped();
        let closing = outbox.closing();
        drop(outbox);
        self.forget(dropped);
        closing.map_or(Ok(()), |code| Err(Ending::Closed(code)))
    }

    fn forget(&mut self, dropped: Vec<(TableId, FeedId)>) {
        for (table, feed) in dropped {
            // The client may follow the table again by now, through another feed.
            if self.presence.feeds.get(&table).is_some_and(|other| other.id == feed)
                && let Some(feed) = self.presence.feeds.remove(&table)
            {
                feed.leave(self.mailbox.connection);
                self.session.on_dropped(table);
            }
        }
    }

    /// Takes what may go out now from the outbox, as far as the socket has room.
    fn fill(&mut self) -> Filled {
        let now = Instant::now();
        let throttled_until = self.throttled_until.take();
        let before = self.socket.waiting().0;
        let mut outbox = self.mailbox.lock();
        let filled = loop {
            let (frames, bytes) = self.socket.waiting();
            if frames >= BATCH_FRAMES || bytes >= BATCH_BYTES {
                break Filled::Some;
            }
            match outbox.next(now) {
                Next::Send(frame, then) => {
                    self.socket.push(frame);
                    then.into_iter().for_each(|then| self.socket.push(then));
                }
                Next::SnapshotDue(table) => {
                    // A feed's lock comes before an outbox's.
                    drop(outbox);
                    match self.presence.feeds.get(&table) {
                        Some(feed) => feed.resolve(&self.mailbox),
                        None => self.mailbox.lock().unfollow(table),
                    }
                    outbox = self.mailbox.lock();
                }
                Next::LobbyDue => {
                    drop(outbox);
                    let frame = self.served.board.frame(self.mailbox.wire);
                    outbox = self.mailbox.lock();
                    outbox.owe(frame.len());
                    self.socket.push(frame);
                }
                Next::WaitUntil(until, hold) => {
                    // Looked at again before its time, it is the same wait.
                    if throttled_until != Some(until) {
                        metrics::throttled_out(hold);
                        let throttled = &mut outbox.standing().throttled_out;
                        *throttled = throttled.saturating_add(1);
                    }
                    self.throttled_until = Some(until);
                    break Filled::Throttled(hold);
                }
                Next::Nothing => break Filled::All,
            }
        };
        self.may_read = outbox.own_waiting() < OWN_FRAMES_MAX;
        // What was the end of a table is on its way.
        let dropped = outbox.take_dropped();
        drop(outbox);
        self.forget(dropped);
        self.served.sent.increment((self.socket.waiting().0 - before) as u64);
        filled
    }

    /// Lets go of everything, and says why if it is we who close.
    pub(super) async fn end(&mut self, ending: Ending) {
        self.presence.leave_all();
        let goodbye = match ending {
            Ending::Gone => return,
            Ending::Left(code) => Frame::close_echo(code),
            Ending::Closed(code) => {
                metrics::closed(code);
                debug!(reason = code.reason(), "closing a connection");
                Frame::close(code)
            }
        };
        if !matches!(ending, Ending::Closed(CloseCode::SlowConsumer | CloseCode::PingTimeout)) {
            // What the client was told before must not be lost: a worker's verdict to the restart of a gateway,
            // the answer to one frame to the fault in the next, or to a goodbye that came with it.
            self.fill();
        }
        if ending == Ending::Closed(CloseCode::Restart) {
            self.socket.push(Frame::of(self.mailbox.wire, &self.served.goodbye()));
        }
        self.socket.push(goodbye);
        let said = async {
            self.socket.flush().await?;
            self.socket.shut();
            // A socket dropped with unread frames in it is reset, and the reason lost on its way.
            self.socket.drain().await;
            Ok::<(), io::Error>(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_PATIENCE, said).await {
            debug!(%error, "the client was gone before it could be told why");
        }
    }
}

/// How much of what may go out was taken from the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// All of it.
    All,
    /// As much as the socket has room for.
    Some,
    /// As much as may go out for now.
    Throttled(Hold),
}
