//! Every reason for which we close a socket. 4000 to 4499: come back. 4500 to 4999: do not. Under 2000: WebSocket's own,
//! for clients that do not speak it.

/// A WebSocket close code of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The gateway stops; another one, or this one in a moment, takes over.
    Restart,
    /// The socket took nothing for too long.
    SlowConsumer,
    /// No sign of life within the announced time.
    PingTimeout,
    /// The token has expired: come back with a new one.
    TokenExpired,
    /// A fault of ours.
    Internal,
    /// Too many frames that are not of the protocol.
    BadFrames,
    /// A frame over the announced size.
    FrameTooBig,
    /// Text where the sub-protocol says binary, or the other way round.
    WrongFormat,
    /// The token is not ours, or not yet valid.
    BadToken,
    /// Frames kept coming in spite of `throttled` answers.
    Flood,
    /// Not WebSocket.
    ProtocolError,
    /// Text that is not UTF-8.
    NotUtf8,
}

impl CloseCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Restart => 4000,
            Self::SlowConsumer => 4001,
            Self::PingTimeout => 4002,
            Self::TokenExpired => 4003,
            Self::Internal => 4004,
            Self::BadFrames => 4500,
            Self::FrameTooBig => 4501,
            Self::WrongFormat => 4502,
            Self::BadToken => 4503,
            Self::Flood => 4504,
            Self::ProtocolError => 1002,
            Self::NotUtf8 => 1007,
        }
    }

    /// The text beside the number, and the metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::SlowConsumer => "slow_consumer",
            Self::PingTimeout => "ping_timeout",
            Self::TokenExpired => "token_expired",
            Self::Internal => "internal",
            Self::BadFrames => "bad_frames",
            Self::FrameTooBig => "frame_too_big",
            Self::WrongFormat => "wrong_format",
            Self::BadToken => "bad_token",
            Self::Flood => "flood",
            Self::ProtocolError => "protocol_error",
            Self::NotUtf8 => "not_utf8",
        }
    }
}
