//! Commits of tables that a game server which is not ours publishes: already split into what everybody sees
//! and what each seat sees. JSON or MessagePack; kept as JSON text, so that a frame is made by splicing.

mod check;
mod progress;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use progress::{Numbered, Progress, Refused, Sitter};

use crate::domain::{Closing, PlayerId, Seat, TableSeq, Timestamp};

/// The version of the payload. A reader refuses a higher one.
pub const VERSION: u8 = 1;

/// How many seats a relayed table may have, and how high its seats may count.
pub const SEATS_MAX: u8 = 64;

/// Why a message is no commit of a relayed table.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Not the JSON that is expected. Where, and not what stands there, which may be secret.
    #[error("{part} is not that of a relayed commit, from line {line} column {column} on")]
    Json {
        /// Which part.
        part: &'static str,
        /// From its beginning, or from that of the message.
        line: usize,
        /// In bytes.
        column: usize,
    },
    /// Not MessagePack that could be written as JSON.
    #[error("not MessagePack that has a form in JSON")]
    MessagePack,
    /// Neither format has objects that begin like this.
    #[error("neither a JSON object nor a MessagePack map")]
    Neither,
    /// Written for something newer.
    #[error("the relayed commit has version {found}, this binary reads up to {VERSION}")]
    Version {
        /// What the message says.
        found: u64,
    },
    /// A seat that no table has.
    #[error("seat {found}: a relayed table has seats 0 to {}", SEATS_MAX - 1)]
    Seat {
        /// What the message says.
        found: u8,
    },
}

/// One commit as its server published it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Its number, if the server counts.
    pub seq: Option<TableSeq>,
    /// When it was decided, if the server says.
    pub at: Option<Timestamp>,
    /// What everybody sees.
    pub public: Events,
    /// What one seat sees beside that, by seat, rising.
    pub seats: Vec<(Seat, Events)>,
    /// Who sits where from now on.
    pub players: Vec<Sitting>,
    /// The state after this commit, from which a snapshot can begin.
    pub state: Option<Keyframe>,
    /// How the table ended, if this is its last commit.
    pub ended: Option<Ending>,
}

/// Events as JSON text: what stands between the brackets of their array. Empty if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events(Box<str>);

impl Events {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each event as an object.
    pub fn values(&self) -> Vec<Map<String, Value>> {
        let events = serde_json::from_str(&format!("[{}]", self.0));
        events.expect("events were checked when they were read")
    }
}

impl From<Events> for Box<str> {
    fn from(events: Events) -> Self {
        events.0
    }
}

/// One seat, and who sits there from now on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sitting {
    /// Which.
    pub seat: Seat,
    /// The `sub` of the player's token; nothing if the seat is free.
    #[serde(default)]
    pub player: Option<PlayerId>,
    /// As shown to others.
    #[serde(default)]
    pub name: Option<String>,
}

/// A state, as JSON texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyframe {
    /// What everybody sees.
    pub public: Option<Box<str>>,
    /// What one seat sees beside that, by seat, rising.
    pub seats: Vec<(Seat, Box<str>)>,
}

/// How a table ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ending {
    /// Why.
    pub closing: Option<Closing>,
    /// Who won, rising.
    pub winners: Vec<Seat>,
    /// Final score by seat.
    pub scores: Vec<i64>,
}

/// The shape of the payload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    v: Option<u64>,
    seq: Option<TableSeq>,
    at: Option<Timestamp>,
    #[serde(borrow)]
    public: Option<&'a RawValue>,
    #[serde(borrow)]
    seats: Option<BTreeMap<Seat, &'a RawValue>>,
    players: Option<Vec<Sitting>>,
    #[serde(borrow)]
    state: Option<State<'a>>,
    ended: Option<Ending>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State<'a> {
    #[serde(borrow)]
    public: Option<&'a RawValue>,
    #[serde(borrow)]
    seats: Option<BTreeMap<Seat, &'a RawValue>>,
}

impl Relayed {
    /// Reads a payload. Its first byte tells its format, whatever its headers say: an object begins with `{`
    /// in JSON, and never in MessagePack.
    ///
    /// # Errors
    /// If it is poison.
    pub fn decode(payload: &[u8]) -> Result<Self, RelayError> {
        let json = as_json(payload)?;
        match serde_json::from_slice::<Payload<'_>>(&json) {
            Ok(payload) => payload.check(),
            Err(error) => Err(newer(&json).unwrap_or_else(|| wrong("the message", &error))),
        }
    }
}

/// A payload as it was published, for operators: with everything secret. Nothing if it is no object.
pub fn unchecked(payload: &[u8]) -> Option<Value> {
    serde_json::from_slice(&as_json(payload).ok()?).ok()
}

fn as_json(payload: &[u8]) -> Result<Cow<'_, [u8]>, RelayError> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => Ok(Cow::Borrowed(payload)),
        // A map of up to 15 entries, of up to 65,535, of more.
        Some(0x80..=0x8f | 0xde | 0xdf) => {
            let value = super::from_msgpack::<Value>(payload).ok();
            let json = value.and_then(|value| serde_json::to_vec(&value).ok());
            json.map(Cow::Owned).ok_or(RelayError::MessagePack)
        }
        Some(_) | None => Err(RelayError::Neither),
    }
}

fn wrong(part: &'static str, error: &serde_json::Error) -> RelayError {
    RelayError::Json { part, line: error.line(), column: error.column() }
}

/// What is newer need not have the shape we know.
fn newer(json: &[u8]) -> Option<RelayError> {
    #[derive(Deserialize)]
    struct Head {
        v: u64,
    }
    let Head { v } = serde_json::from_slice(json).ok()?;
    (v > u64::from(VERSION)).then_some(RelayError::Version { found: v })
}

impl Payload<'_> {
    fn check(self) -> Result<Relayed, RelayError> {
        if let Some(found) = self.v.filter(|v| *v > u64::from(VERSION)) {
            return Err(RelayError::Version { found });
        }
        let players = self.players.unwrap_or_default();
        let winners = self.ended.iter().flat_map(|ended| &ended.winners);
        players.iter().map(|sitting| &sitting.seat).chain(winners).try_for_each(seat)?;
        let state = self.state.map(State::check).transpose()?;
        Ok(Relayed {
            seq: self.seq,
            at: self.at,
            public: self.public.map(events).transpose()?.unwrap_or_default(),
            seats: by_seat(self.seats, events)?,
            players,
            state,
            ended: self.ended,
        })
    }
}

impl State<'_> {
    fn check(self) -> Result<Keyframe, RelayError> {
        let public = self.public.map(value).transpose()?;
        Ok(Keyframe { public, seats: by_seat(self.seats, value)? })
    }
}

fn by_seat<T>(
    seats: Option<BTreeMap<Seat, &RawValue>>,
    part: fn(&RawValue) -> Result<T, RelayError>,
) -> Result<Vec<(Seat, T)>, RelayError> {
    let seats = seats.into_iter().flatten();
    let checked = seats.map(|(number, raw)| {
        seat(&number)?;
        Ok((number, part(raw)?))
    });
    checked.collect()
}

fn seat(seat: &Seat) -> Result<(), RelayError> {
    if seat.0 < SEATS_MAX { Ok(()) } else { Err(RelayError::Seat { found: seat.0 }) }
}

fn events(array: &RawValue) -> Result<Events, RelayError> {
    let text = array.get();
    serde_json::from_str::<check::Events>(text)
        .map_err(|error| wrong("a list of events", &error))?;
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    Ok(Events(one_line(inside.unwrap_or_default().trim())))
}

/// JSON without line breaks: in a text they are escaped, and between other things they mean nothing. Server-sent
/// events end where a line does.
fn one_line(json: &str) -> Box<str> {
    json.replace(['\n', '\r'], " ").into()
}

fn value(value: &RawValue) -> Result<Box<str>, RelayError> {
    serde_json::from_str::<check::Plain>(value.get()).map_err(|error| wrong("a state", &error))?;
    Ok(one_line(value.get()))
}

#[cfg(test)]
mod tests;
