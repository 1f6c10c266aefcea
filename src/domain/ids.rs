//! Who and where: a type per identity and per position, so that no two integers can be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID of version 7, whose first 48 bits tell the table's date.
    #[error("a table id is a UUID of version 7, as in 019ab3c4-5d6e-7f80-9123-456789abcdef")]
    NotUuidV7,
    /// A character, or a length, that would not survive as one subject token or header value.
    #[error("a {what} has 1 to {max} characters out of {allowed}")]
    BadToken {
        /// Which identifier was meant.
        what: &'static str,
        /// The longest that is taken, in bytes.
        max: usize,
        /// The characters that are taken.
        allowed: &'static str,
    },
}

/// One running instance of a game. A UUID of version 7, so the id tells when the table was opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(Uuid);

impl TableId {
    /// A new id from the time and 10 random bytes.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
    }

    /// When the table was opened, by the clock of whoever made the id.
    pub fn opened_at(self) -> Timestamp {
        let (high, _) = self.0.as_u64_pair();
        Timestamp::from_millis(high >> 16)
    }

    /// The shard this table's subjects belong to: the low 64 bits of the id, modulo the number of shards.
    pub fn shard(self, shards: std::num::NonZeroU16) -> u16 {
        let (_, low) = self.0.as_u64_pair();
        u16::try_from(low % u64::from(shards.get())).expect("a remainder of a u16 fits")
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TableId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Only the hyphenated form, so that a table has one spelling in subjects and object keys.
        match Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 7 && text.len() == 36 => Ok(Self(id)),
            Ok(_) | Err(_) => Err(IdError::NotUuidV7),
        }
    }
}

// As text in every format: MessagePack would otherwise carry 16 raw bytes that no operator can read.
impl Serialize for TableId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Declares an identifier that is a short text out of a closed set of characters.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let is_allowed: fn(char) -> bool = $is_allowed;
                if text.is_empty() || text.len() > $max || !text.chars().all(is_allowed) {
                    return Err(IdError::BadToken { what: $what, max: $max, allowed: $allowed });
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token!(
    /// Which rules a table plays by, as in `liap-tui`. One subject token.
    Kind,
    "kind",
    32,
    "a-z 0-9 -",
    |c| matches!(c, 'a'..='z' | '0'..='9' | '-')
);

token!(
    /// The account that sits in a seat: the `sub` of a token. Never part of a subject.
    PlayerId,
    "player id",
    128,
    "printable characters without spaces",
    |c| !c.is_whitespace() && !c.is_control()
);

token!(
    /// Chosen by the client for each command, so that a command sent again gets its first verdict.
    CommandId,
    "command id",
    64,
    "A-Z a-z 0-9 _ -",
    |c| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-')
);

token!(
    /// One worker process.
    WorkerId,
    "worker id",
    64,
    "A-Z a-z 0-9 _ -",
    |c| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-')
);

/// A numbered place at a table, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seat(pub u8);

impl Seat {
    /// For indexing arrays that are in seat order.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose eyes something is shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Viewer {
    /// The player in this seat.
    Seated(Seat),
    /// Anyone else.
    Spectator,
}

impl Viewer {
    /// The seat, unless a spectator.
    pub fn seat(self) -> Option<Seat> {
        match self {
            Self::Seated(seat) => Some(seat),
            Self::Spectator => None,
        }
    }
}

/// Number of a commit at its table: 1, 2, 3 … without gaps. 0 stands before the first commit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TableSeq(u64);

impl TableSeq {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);

    /// From a number that was read from the wire.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// As a number, for the wire and for logs.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the commit after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The event log's own number of a message: shared by all tables of a shard, so it has gaps per table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StreamSeq(u64);

impl StreamSeq {
    /// Before the first message of a subject: what an append to an empty subject follows.
    pub const ZERO: Self = Self(0);

    /// From a number that the log gave.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// As a number, for headers and logs.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This many milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to here; 0 if `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_id_tells_when_it_was_made_and_has_one_spelling() {
        let now = Timestamp::from_millis(1_795_000_000_123);
        let id = TableId::new(now, [7; 10]);
        assert_eq!(id.opened_at(), now);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().replace('-', "").parse::<TableId>(), Err(IdError::NotUuidV7));
        assert_eq!(
            "9f8b1c9e-0000-4000-8000-000000000000".parse::<TableId>(),
            Err(IdError::NotUuidV7)
        );
    }

    #[test]
    fn a_token_that_would_split_a_subject_is_refused() {
        for bad in ["", "a.b", "a b", "*", ">", &"x".repeat(65)] {
            assert!(bad.parse::<CommandId>().is_err(), "{bad:?} was taken");
        }
        assert!("liap-tui".parse::<Kind>().is_ok());
        assert!("Liap".parse::<Kind>().is_err());
    }

    #[test]
    fn ids_are_text_in_messagepack_too() {
        let id = TableId::new(Timestamp::from_millis(1), [1; 10]);
        let bytes = rmp_serde::to_vec_named(&id).expect("an id encodes");
        assert_eq!(rmp_serde::from_slice::<String>(&bytes).expect("as text"), id.to_string());
        assert_eq!(rmp_serde::from_slice::<TableId>(&bytes).expect("as id"), id);
    }
}
