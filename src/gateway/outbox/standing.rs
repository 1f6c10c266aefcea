//! How a connection stands, for whoever looks after it. Pure.

use tokio::time::Instant;

/// What holds frames up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Hold {
    /// The socket does not take what was handed to it.
    Socket,
    /// The table has sent as many frames as it may.
    TableRate,
    /// The connection was sent as many frames as it may be.
    FrameRate,
    /// The connection was sent as many bytes as it may be.
    ByteRate,
}

impl Hold {
    /// Every one of them.
    pub(in crate::gateway) const ALL: [Self; 4] =
        [Self::Socket, Self::TableRate, Self::FrameRate, Self::ByteRate];

    /// As metrics and operators name it.
    pub(in crate::gateway) fn label(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::TableRate => "table_rate",
            Self::FrameRate => "frame_rate",
            Self::ByteRate => "byte_rate",
        }
    }
}

/// Frames wait that should be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Behind {
    /// Without a break since then.
    pub since: Instant,
    /// What holds them up now.
    pub hold: Hold,
}

/// The socket does not take what was handed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Blocked {
    /// It has taken nothing since then.
    pub since: Instant,
    /// What was handed to it.
    pub frames: u32,
    /// The same in bytes.
    pub bytes: u32,
}

/// How one connection stands. Small: every connection has one.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Standing {
    /// Frames that gave way to a newer snapshot, ever.
    pub conflated: u32,
    /// Frames of the client that were answered with `throttled`, ever.
    pub throttled_in: u32,
    /// How often frames had to wait for a token, ever.
    pub throttled_out: u32,
    /// Whether frames wait that should be out.
    pub behind: Option<Behind>,
    /// Whether the socket does not take what was handed to it.
    pub blocked: Option<Blocked>,
    /// Whether the log says that the connection is behind.
    pub is_reported: bool,
}

impl Standing {
    /// The connection has looked: this holds its frames up, or nothing does. `handed` are frames and bytes that the
    /// socket has not taken.
    pub(in crate::gateway) fn set(
        &mut self,
        hold: Option<Hold>,
        (frames, bytes): (usize, usize),
        now: Instant,
    ) {
        let since = self.behind.map_or(now, |behind| behind.since);
        self.behind = hold.map(|hold| Behind { since, hold });
        self.blocked = (hold == Some(Hold::Socket)).then(|| Blocked {
            since: now,
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        });
    }
}
