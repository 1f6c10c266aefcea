//! What the archive holds: object keys, a row per game, and what an object says of itself in its footer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::envelope::{Message, VERSION};
use crate::domain::{Closing, Kind, Seat, StreamSeq, SummarySeat, TableId, TableSeq, Timestamp};

/// Version of rows and footers. A reader refuses a higher one.
pub const FORMAT: u32 = 1;

/// The folder of the batches as the archiver wrote them.
pub const LIVE: &str = "live";

/// A calendar day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    days_since_epoch: u64,
}

const MILLIS_PER_DAY: u64 = 86_400_000;

impl Date {
    /// The day on which a moment falls.
    pub fn of(at: Timestamp) -> Self {
        Self { days_since_epoch: at.as_millis() / MILLIS_PER_DAY }
    }

    /// Year, month and day, by Hinnant's algorithm: eras of 400 years that begin on 1 March.
    fn civil(self) -> (u64, u64, u64) {
        let days = self.days_since_epoch + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day)
    }

    fn from_civil(year: u64, month: u64, day: u64) -> Option<Self> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day)
        {
            return None;
        }
        let year = year - u64::from(month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let date = Self { days_since_epoch: era * 146_097 + day_of_era - 719_468 };
        // 30 February and its like come out as another day.
        (date.civil().2 == day).then_some(date)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A text that is not a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a date is written as in 2026-11-23")]
pub struct DateError;

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
            part.parse::<u64>().ok()
        };
        let date = number(4)
            .zip(number(2))
            .zip(number(2))
            .and_then(|((year, month), day)| Self::from_civil(year, month, day));
        date.filter(|_| parts.next().is_none()).ok_or(DateError)
    }
}

/// The name of a batch: a function of the position it starts at and of the stream alone.
///
/// That is what makes the archive exact: whoever archives from `first` on, however it cuts the batch, asks
/// the store for the same name, and the store gives a name to one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// The day of the batch's first completion marker.
    pub date: Date,
    /// When the shard's stream was created.
    pub epoch: Timestamp,
    /// Which shard.
    pub shard: u16,
    /// The stream position after the last one of the batch before.
    pub first: StreamSeq,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{LIVE}/date={}/{:013}-{:05}-{:020}.parquet",
            self.date,
            self.epoch.as_millis(),
            self.shard,
            self.first.get()
        )
    }
}

impl ObjectKey {
    /// Reads a key; nothing if an object of another kind has that name.
    pub fn parse(key: &str) -> Option<Self> {
        let (date, name) = key.strip_prefix(LIVE)?.strip_prefix("/date=")?.split_once('/')?;
        let mut numbers = name.strip_suffix(".parquet")?.split('-');
        let parsed = Self {
            date: date.parse().ok()?,
            epoch: Timestamp::from_millis(numbers.next()?.parse().ok()?),
            shard: numbers.next()?.parse().ok()?,
            first: StreamSeq::new(numbers.next()?.parse().ok()?),
        };
        // One spelling per key, or two names could stand for one position.
        (numbers.next().is_none() && parsed.to_string() == key).then_some(parsed)
    }
}

/// How much of a game the archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every commit.
    Archived,
    /// Some commits are missing or cannot be read.
    Incomplete,
    /// The result only: the commits were gone before anybody archived them.
    Lost,
}

impl Status {
    /// As in the column `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::Incomplete => "incomplete",
            Self::Lost => "lost",
        }
    }
}

/// One game of the archive: a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArchivedTable {
    /// Which table.
    pub table_id: TableId,
    /// Which rules.
    pub kind: Kind,
    /// Version of the rules.
    pub rules_version: u32,
    /// How much of it is here.
    pub status: Status,
    /// Why not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended.
    pub closing: Closing,
    /// When the table was opened.
    pub opened_at: Timestamp,
    /// When play began, if it did.
    pub started_at: Option<Timestamp>,
    /// When the table ended.
    pub ended_at: Timestamp,
    /// From the start to the end; nothing if play never began.
    pub duration_ms: Option<u64>,
    /// How many commits are here.
    pub commits: u64,
    /// Who played, by seat.
    pub players: Vec<SummarySeat>,
    /// Who won, rising.
    pub winners: Vec<Seat>,
    /// Final score by seat.
    pub scores: Vec<i64>,
    /// Stream positions of the messages among the commits that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<StreamSeq>,
    /// What happened, in order. Empty in a summary.
    pub events: Vec<ArchivedEvent>,
}

impl ArchivedTable {
    /// The commits as they were in the log, but for what they answered, of which the archive has less. Nothing if it
    /// does not have all of them.
    pub fn envelopes(&self) -> Option<Vec<OpaqueEnvelope>> {
        if self.status != Status::Archived {
            return None;
        }
        let mut events = self.events.iter().peekable();
        let mut at = self.opened_at;
        let mut envelopes = Vec::new();
        for number in 1..=self.commits {
            let seq = TableSeq::new(number);
            // A commit without events has no row.
            let mut cause = cause_of("claim");
            let mut happened = Vec::new();
            while let Some(event) = events.next_if(|event| event.seq == seq) {
                let mut fields: Map<String, Value> = serde_json::from_str(&event.data).ok()?;
                fields.insert("type".to_owned(), event.kind.clone().into());
                (at, cause) = (event.ts, cause_of(&event.actor));
                happened.push(fields);
            }
            let commit = OpaqueCommit { seq, at, cause, events: happened };
            let (table, kind) = (self.table_id, self.kind.clone());
            envelopes.push(OpaqueEnvelope { v: VERSION, table, kind, commit });
        }
        events.next().is_none().then_some(envelopes)
    }
}

/// What a commit answered, from [`ArchivedEvent::actor`]. A command has lost its id, and a rematch its table.
fn cause_of(actor: &str) -> Map<String, Value> {
    let (name, whose) = actor.split_once(':').unwrap_or((actor, ""));
    let fields = match name {
        "player" => {
            vec![("type", "command".into()), ("player", whose.into()), ("id", "archived".into())]
        }
        "bot" => vec![("type", name.into()), ("seat", whose.parse().unwrap_or(0_u8).into())],
        "clock" | "presence" => vec![("type", name.into())],
        _ => vec![("type", "claim".into())],
    };
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// One event of an archived game. Holds what was hidden during the game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedEvent {
    /// The commit it belongs to.
    pub seq: TableSeq,
    /// When it was decided.
    pub ts: Timestamp,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose doing: `player:<id>`, `bot:<seat>`, `clock`, `presence`, `claim`.
    pub actor: String,
    /// The event's other fields, as the text of a JSON object.
    #[serde(serialize_with = "as_json")]
    pub data: String,
}

/// Shows JSON text as JSON instead of as a text.
fn as_json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let value: &serde_json::value::RawValue =
        serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
    value.serialize(serializer)
}

/// What an object says of itself, beside its rows: the record of a commit to the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Footer {
    /// When the shard's stream was created.
    pub epoch: Timestamp,
    /// Which shard.
    pub shard: u16,
    /// The stream position after the last one of the object before.
    pub first: StreamSeq,
    /// Position of the last completion marker that this object accounts for.
    pub last: StreamSeq,
    /// Positions of the completion markers that could not be read.
    pub dead_letters: Vec<StreamSeq>,
    /// The tables, in the order of the rows.
    pub tables: Vec<FooterTable>,
}

/// A row as listed in the footer: enough to find it, and to bury the table's commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FooterTable {
    /// Which table.
    pub id: TableId,
    /// Which rules.
    pub kind: Kind,
    /// How much of it is here.
    pub status: Status,
    /// Number of its last commit.
    pub last_seq: TableSeq,
    /// Stream position of its last commit.
    pub last: StreamSeq,
}

/// Why a footer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// Not an object of ours.
    #[error("the footer has no readable {0}")]
    Missing(&'static str),
    /// Written by something newer.
    #[error("the object has format {0}, this binary reads up to {FORMAT}")]
    Format(u32),
}

impl Footer {
    /// As the key/value pairs of a Parquet footer.
    pub fn to_pairs(&self) -> [(&'static str, String); 7] {
        let json = "numbers, texts and ids have JSON";
        [
            ("tablecast.format", FORMAT.to_string()),
            ("tablecast.epoch", self.epoch.as_millis().to_string()),
            ("tablecast.shard", self.shard.to_string()),
            ("tablecast.first", self.first.get().to_string()),
            ("tablecast.last", self.last.get().to_string()),
            ("tablecast.dead_letters", serde_json::to_string(&self.dead_letters).expect(json)),
            ("tablecast.tables", serde_json::to_string(&self.tables).expect(json)),
        ]
    }

    /// From the key/value pairs of a Parquet footer.
    ///
    /// # Errors
    /// If the object is not one of ours, or of a newer format.
    pub fn from_pairs<'a>(pair: impl Fn(&str) -> Option<&'a str>) -> Result<Self, FooterError> {
        fn read<T: serde::de::DeserializeOwned>(
            key: &'static str,
            text: Option<&str>,
        ) -> Result<T, FooterError> {
            text.and_then(|text| serde_json::from_str(text).ok()).ok_or(FooterError::Missing(key))
        }
        let format: u32 = read("tablecast.format", pair("tablecast.format"))?;
        if format > FORMAT {
            return Err(FooterError::Format(format));
        }
        Ok(Self {
            epoch: read("tablecast.epoch", pair("tablecast.epoch"))?,
            shard: read("tablecast.shard", pair("tablecast.shard"))?,
            first: read("tablecast.first", pair("tablecast.first"))?,
            last: read("tablecast.last", pair("tablecast.last"))?,
            dead_letters: read("tablecast.dead_letters", pair("tablecast.dead_letters"))?,
            tables: read("tablecast.tables", pair("tablecast.tables"))?,
        })
    }
}

/// An [`Envelope`](super::envelope::Envelope) as the archiver reads it, whatever the game: every event an
/// object with a `type`. Unlike the typed form it keeps the fields that a newer writer added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpaqueEnvelope {
    /// The envelope's version.
    pub v: u8,
    /// Whose.
    pub table: TableId,
    /// Which rules.
    pub kind: Kind,
    /// What happened.
    pub commit: OpaqueCommit,
}

/// A commit of any game.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpaqueCommit {
    /// Its number at this table.
    pub seq: TableSeq,
    /// The owner's clock at the decision.
    pub at: Timestamp,
    /// What the decision answered.
    pub cause: Map<String, Value>,
    /// What happened, in order.
    pub events: Vec<Map<String, Value>>,
}

impl Message for OpaqueEnvelope {
    fn table(&self) -> TableId {
        self.table
    }
}

impl OpaqueCommit {
    /// The events as rows of the archive; nothing if one has no `type`.
    pub fn into_events(self) -> Option<Vec<ArchivedEvent>> {
        let actor = actor(&self.cause)?;
        let to_row = |mut event: Map<String, Value>| {
            let Value::String(kind) = event.remove("type")? else {
                return None;
            };
            Some(ArchivedEvent {
                seq: self.seq,
                ts: self.at,
                kind,
                actor: actor.clone(),
                data: Value::Object(event).to_string(),
            })
        };
        self.events.into_iter().map(to_row).collect()
    }
}

fn actor(cause: &Map<String, Value>) -> Option<String> {
    let kind = cause.get("type")?.as_str()?;
    match kind {
        "command" => Some(format!("player:{}", cause.get("player")?.as_str()?)),
        "bot" => Some(format!("bot:{}", cause.get("seat")?)),
        other => Some(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cause, Commit, Lifecycle, TableEvent};
    use crate::protocol::envelope::Envelope;

    fn date(text: &str) -> Date {
        text.parse().expect("a date")
    }

    #[test]
    fn a_date_is_the_utc_day() {
        assert_eq!(Date::of(Timestamp::from_millis(0)).to_string(), "1970-01-01");
        let leap_day = Timestamp::from_millis(1_709_164_800_000);
        assert_eq!(Date::of(leap_day), date("2024-02-29"));
        assert_eq!(Date::of(Timestamp::from_millis(leap_day.as_millis() - 1)), date("2024-02-28"));
    }

    #[test]
    fn every_day_of_four_centuries_survives_its_text() {
        for day in 0..146_097 {
            let at = Date::of(Timestamp::from_millis(day * MILLIS_PER_DAY));
            assert_eq!(date(&at.to_string()), at);
        }
    }

    #[test]
    fn what_is_no_day_is_no_date() {
        for text in ["2026-02-30", "2026-13-01", "2026-1-01", "2026-01-01-01", "+026-01-01", ""] {
            assert_eq!(text.parse::<Date>(), Err(DateError), "{text}");
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let key = ObjectKey {
            date: date("2026-11-23"),
            epoch: Timestamp::from_millis(1_795_000_000_123),
            shard: 7,
            first: StreamSeq::new(42),
        };
        let text = "live/date=2026-11-23/1795000000123-00007-00000000000000000042.parquet";
        assert_eq!(key.to_string(), text);
        assert_eq!(ObjectKey::parse(text), Some(key));
        for other in [
            "live/date=2026-11-23/1795000000123-7-42.parquet",
            "daily/date=2026-11-23/games.parquet",
            "live/date=2026-11-23/1795000000123-00007-00000000000000000042.parquet#1",
        ] {
            assert_eq!(ObjectKey::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_envelope_of_any_game_reads_as_events() {
        let envelope = Envelope {
            v: VERSION,
            table: TableId::new(Timestamp::from_millis(1), [1; 10]),
            kind: "chess".parse().expect("a kind"),
            commit: Commit {
                seq: TableSeq::new(3),
                at: Timestamp::from_millis(9),
                cause: Cause::Bot { seat: Seat(2) },
                events: vec![
                    TableEvent::Game(
                        serde_json::json!({"type": "moved", "to": "e4", "n": [1, null]}),
                    ),
                    TableEvent::Lifecycle(Lifecycle::Started),
                ],
                follow_up: vec![],
            },
        };
        let opaque = OpaqueEnvelope::decode(&envelope.encode(), envelope.table).expect("decodes");
        let events = opaque.commit.into_events().expect("all have a type");
        let texts: Vec<_> = events
            .iter()
            .map(|event| (event.kind.as_str(), event.actor.as_str(), event.data.as_str()))
            .collect();
        assert_eq!(
            texts,
            [("moved", "bot:2", r#"{"n":[1,null],"to":"e4"}"#), ("table.started", "bot:2", "{}"),]
        );
        assert_eq!(
            serde_json::to_string(&events[0]).expect("an event has JSON"),
            r#"{"seq":3,"ts":9,"type":"moved","actor":"bot:2","data":{"n":[1,null],"to":"e4"}}"#
        );
    }

    #[test]
    fn a_footer_survives_its_pairs_and_a_newer_one_is_refused() {
        let footer = Footer {
            epoch: Timestamp::from_millis(5),
            shard: 3,
            first: StreamSeq::new(10),
            last: StreamSeq::new(20),
            dead_letters: vec![StreamSeq::new(11)],
            tables: vec![FooterTable {
                id: TableId::new(Timestamp::from_millis(1), [1; 10]),
                kind: "chess".parse().expect("a kind"),
                status: Status::Archived,
                last_seq: TableSeq::new(7),
                last: StreamSeq::new(19),
            }],
        };
        let mut pairs = footer.to_pairs();
        let read = |pairs: &[(&'static str, String)]| {
            Footer::from_pairs(|key| {
                let pair = pairs.iter().find(|(name, _)| *name == key);
                pair.map(|(_, value)| value.as_str())
            })
        };
        assert_eq!(read(&pairs).expect("reads"), footer);
        pairs[0].1 = "2".to_owned();
        assert!(matches!(read(&pairs), Err(FooterError::Format(2))));
    }
}
