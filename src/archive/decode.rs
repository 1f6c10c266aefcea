//! Objects of the archive back into games. Pure.

use std::str::FromStr;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::columns::SCHEMA;
use crate::domain::{Closing, Seat, StreamSeq, SummarySeat, TableSeq, Timestamp};
use crate::protocol::archive::{ArchivedEvent, ArchivedTable, Footer, FooterError};

/// Why an object's bytes are not what the archiver writes.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not Parquet, or damaged.
    #[error("the object is not readable as Parquet")]
    Parquet(#[from] ParquetError),
    /// Damaged inside.
    #[error("the object's columns are damaged")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// Somebody else's Parquet.
    #[error("the object has no column {0} of the archive's type")]
    Column(&'static str),
    /// A value that the archiver does not write.
    #[error("the column {column} holds {value:?}")]
    Value {
        /// Where.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// Not an object of the archive, or of a newer format.
    #[error("the object's footer is not the archive's")]
    Footer(#[from] FooterError),
}

/// What the end of an object tells.
#[derive(Debug)]
pub(super) enum Tail {
    Footer(Footer),
    /// The footer is longer: this many bytes from the end hold it.
    Longer(u64),
}

/// Reads the footer from an object's last bytes.
pub(super) fn footer(end: &Bytes, object_size: u64) -> Result<Tail, DecodeError> {
    let mut reader = ParquetMetaDataReader::new();
    match reader.try_parse_sized(end, object_size) {
        Ok(()) => Ok(Tail::Footer(footer_of(&reader.finish()?)?)),
        Err(ParquetError::NeedMoreData(bytes)) => {
            Ok(Tail::Longer(u64::try_from(bytes).expect("a length in memory fits")))
        }
        Err(error) => Err(error.into()),
    }
}

fn footer_of(metadata: &ParquetMetaData) -> Result<Footer, DecodeError> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let footer = Footer::from_pairs(|key| {
        let pair = pairs?.iter().find(|pair| pair.key == key)?;
        pair.value.as_deref()
    })?;
    Ok(footer)
}

/// Which columns are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    All,
    /// All but the events.
    Summary,
}

/// Reads all rows of a whole object.
pub(super) fn rows(object: Bytes, columns: Columns) -> Result<Vec<ArchivedTable>, DecodeError> {
    read(ParquetRecordBatchReaderBuilder::try_new(object)?, columns)
}

/// Reads one row of a whole object, by its place in the footer's list.
pub(super) fn row(object: Bytes, index: usize) -> Result<Option<ArchivedTable>, DecodeError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(object, options)?.with_row_selection(
            RowSelection::from(vec![RowSelector::skip(index), RowSelector::select(1)]),
        );
    Ok(read(builder, Columns::All)?.pop())
}

fn read(
    builder: ParquetRecordBatchReaderBuilder<Bytes>,
    columns: Columns,
) -> Result<Vec<ArchivedTable>, DecodeError> {
    let builder = match columns {
        Columns::All => builder,
        Columns::Summary => {
            let schema = builder.parquet_schema();
            let fields = schema.root_schema().get_fields();
            let wanted = (0..fields.len()).filter(|at| fields[*at].name() != "events");
            let mask = ProjectionMask::roots(schema, wanted);
            builder.with_projection(mask)
        }
    };
    let mut rows = Vec::new();
    for batch in builder.build()? {
        read_batch(&batch?, columns, &mut rows)?;
    }
    Ok(rows)
}

/// A column, checked to be of the type that [`SCHEMA`] gives it, so that the casts below cannot fail.
fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a ArrayRef, DecodeError> {
    let expected = SCHEMA.field_with_name(name)?;
    batch
        .column_by_name(name)
        .filter(|found| found.data_type() == expected.data_type())
        .filter(|found| expected.is_nullable() || found.null_count() == 0)
        .ok_or(DecodeError::Column(name))
}

fn read_batch(
    batch: &RecordBatch,
    columns: Columns,
    rows: &mut Vec<ArchivedTable>,
) -> Result<(), DecodeError> {
    let text = |name, row| Ok::<_, DecodeError>(column(batch, name)?.as_string::<i32>().value(row));
    let number = |name, row| {
        let column = column(batch, name)?;
        Ok::<_, DecodeError>(optional::<Int64Type>(column, row).map(unsigned))
    };
    let time = |name, row| {
        let column = column(batch, name)?;
        let millis = optional::<TimestampMillisecondType>(column, row);
        Ok::<_, DecodeError>(millis.map(|millis| Timestamp::from_millis(unsigned(millis))))
    };
    for row in 0..batch.num_rows() {
        let reason = column(batch, "reason")?.as_string::<i32>();
        let rules = number("rules_version", row)?.unwrap_or_default();
        rows.push(ArchivedTable {
            table_id: parse("table_id", text("table_id", row)?)?,
            kind: parse("kind", text("kind", row)?)?,
            rules_version: u32::try_from(rules).unwrap_or(u32::MAX),
            status: named("status", text("status", row)?)?,
            reason: reason.is_valid(row).then(|| reason.value(row).to_owned()),
            closing: named::<Closing>("closing", text("closing", row)?)?,
            opened_at: time("opened_at", row)?.unwrap_or_default(),
            started_at: time("started_at", row)?,
            ended_at: time("ended_at", row)?.unwrap_or_default(),
            duration_ms: number("duration_ms", row)?,
            commits: number("commits", row)?.unwrap_or_default(),
            players: players(&column(batch, "players")?.as_list::<i32>().value(row))?,
            winners: integers::<Int32Type>(batch, "winners", row)?
                .into_iter()
                .map(seat)
                .collect::<Result<_, _>>()?,
            scores: integers::<Int64Type>(batch, "scores", row)?,
            dead_letters: integers::<Int64Type>(batch, "dead_letters", row)?
                .into_iter()
                .map(|seq| StreamSeq::new(unsigned(seq)))
                .collect(),
            events: match columns {
                Columns::All => events(&column(batch, "events")?.as_list::<i32>().value(row)),
                Columns::Summary => Vec::new(),
            },
        });
    }
    Ok(())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn optional<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> Option<T::Native> {
    let values = column.as_primitive::<T>();
    values.is_valid(row).then(|| values.value(row))
}

fn parse<T: FromStr>(column: &'static str, text: &str) -> Result<T, DecodeError> {
    text.parse().ok().ok_or_else(|| DecodeError::Value { column, value: text.to_owned() })
}

/// A variant by its name on the wire.
fn named<T: serde::de::DeserializeOwned>(
    column: &'static str,
    text: &str,
) -> Result<T, DecodeError> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value)
        .ok()
        .ok_or_else(|| DecodeError::Value { column, value: text.to_owned() })
}

fn integers<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &'static str,
    row: usize,
) -> Result<Vec<T::Native>, DecodeError> {
    let list = column(batch, name)?.as_list::<i32>().value(row);
    Ok(list.as_primitive::<T>().values().to_vec())
}

fn seat(number: i32) -> Result<Seat, DecodeError> {
    u8::try_from(number)
        .ok()
        .map(Seat)
        .ok_or_else(|| DecodeError::Value { column: "seat", value: number.to_string() })
}

fn players(list: &ArrayRef) -> Result<Vec<SummarySeat>, DecodeError> {
    let list: &StructArray = list.as_struct();
    let seats = list.column(0).as_primitive::<Int32Type>();
    let (ids, names) = (list.column(1).as_string::<i32>(), list.column(2).as_string::<i32>());
    let player = |at: usize| {
        let id = ids.is_valid(at).then(|| ids.value(at));
        Ok(SummarySeat {
            seat: seat(seats.value(at))?,
            player: id.map(|id| parse("player", id)).transpose()?,
            name: names.value(at).to_owned(),
        })
    };
    (0..list.len()).map(player).collect()
}

fn events(list: &ArrayRef) -> Vec<ArchivedEvent> {
    let list: &StructArray = list.as_struct();
    let seqs = list.column(0).as_primitive::<Int64Type>();
    let times = list.column(1).as_primitive::<TimestampMillisecondType>();
    let text = |field: usize, at: usize| list.column(field).as_string::<i32>().value(at).to_owned();
    let event = |at: usize| ArchivedEvent {
        seq: TableSeq::new(unsigned(seqs.value(at))),
        ts: Timestamp::from_millis(unsigned(times.value(at))),
        kind: text(2, at),
        actor: text(3, at),
        data: text(4, at),
    };
    (0..list.len()).map(event).collect()
}
