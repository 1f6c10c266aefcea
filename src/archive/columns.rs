//! Games as Parquet: the columns, and how rows become an object. Pure.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    ArrayBuilder, Int32Builder, Int64Builder, ListBuilder, PrimitiveBuilder, StringBuilder,
    StructBuilder,
};
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::domain::Timestamp;
use crate::protocol::archive::{ArchivedTable, Footer};

const UTC: &str = "UTC";

/// The columns. A new one goes to the end and is nullable, so that old objects stay readable.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = |name, nullable| Field::new(name, timestamp(), nullable);
    let list = |name, element| Field::new(name, DataType::List(Arc::new(element)), false);
    Arc::new(Schema::new(vec![
        text("table_id", false),
        text("kind", false),
        Field::new("rules_version", DataType::Int64, false),
        text("status", false),
        text("reason", true),
        text("closing", false),
        time("opened_at", false),
        time("started_at", true),
        time("ended_at", false),
        Field::new("duration_ms", DataType::Int64, true),
        Field::new("commits", DataType::Int64, false),
        list("players", element(DataType::Struct(player_fields()))),
        list("winners", element(DataType::Int32)),
        list("scores", element(DataType::Int64)),
        list("dead_letters", element(DataType::Int64)),
        list("events", element(DataType::Struct(event_fields()))),
    ]))
});

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
}

fn element(data_type: DataType) -> Field {
    Field::new("element", data_type, false)
}

fn player_fields() -> Fields {
    Fields::from(vec![
        Field::new("seat", DataType::Int32, false),
        Field::new("player", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, false),
    ])
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("seq", DataType::Int64, false),
        Field::new("ts", timestamp(), false),
        Field::new("type", DataType::Utf8, false),
        Field::new("actor", DataType::Utf8, false),
        Field::new("data", DataType::Utf8, false),
    ])
}

/// An object's bytes. The footer lists the tables in the order of the rows.
pub fn encode(rows: &[ArchivedTable], footer: &Footer) -> Bytes {
    let mut object = Vec::new();
    let in_memory = "rows of our own schema can be written to memory";
    let mut writer =
        ArrowWriter::try_new(&mut object, Arc::clone(&SCHEMA), Some(writer_properties(footer)))
            .expect(in_memory);
    writer.write(&record_batch(rows)).expect(in_memory);
    writer.close().expect(in_memory);
    object.into()
}

fn writer_properties(footer: &Footer) -> WriterProperties {
    let event = |field: &str| {
        let path = ["events", "list", "element", field];
        ColumnPath::new(path.map(str::to_owned).to_vec())
    };
    let pairs = footer.to_pairs().map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let by_table_id = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
    let level = ZstdLevel::try_new(3).expect("zstd has a level 3");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // Small pages and groups: one game is decoded without its neighbours.
        .set_max_row_group_row_count(Some(256))
        .set_data_page_row_count_limit(8)
        .set_write_batch_size(8)
        .set_sorting_columns(Some(vec![by_table_id]))
        .set_key_value_metadata(Some(pairs.to_vec()))
        // Payloads seldom repeat, and bounds of JSON text per page help nobody.
        .set_column_dictionary_enabled(event("data"), false)
        .set_column_statistics_enabled(event("data"), EnabledStatistics::Chunk);
    for rising in [event("seq"), event("ts")] {
        properties = properties
            .set_column_dictionary_enabled(rising.clone(), false)
            .set_column_encoding(rising, Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

fn record_batch(rows: &[ArchivedTable]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        texts(rows, |row| row.table_id.to_string()),
        texts(rows, |row| row.kind.to_string()),
        numbers(rows, |row| Some(i64::from(row.rules_version))),
        texts(rows, |row| row.status.as_str()),
        Arc::new(rows.iter().map(|row| row.reason.as_deref()).collect::<StringArray>()),
        texts(rows, closing),
        times(rows, |row| Some(row.opened_at)),
        times(rows, |row| row.started_at),
        times(rows, |row| Some(row.ended_at)),
        numbers(rows, |row| row.duration_ms.map(clamped)),
        numbers(rows, |row| Some(clamped(row.commits))),
        players(rows),
        list::<Int32Type>(rows, |row| row.winners.iter().map(|seat| i32::from(seat.0)).collect()),
        list::<Int64Type>(rows, |row| row.scores.clone()),
        list::<Int64Type>(rows, |row| {
            row.dead_letters.iter().map(|seq| clamped(seq.get())).collect()
        }),
        events(rows),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns).expect("the columns are those of the schema")
}

/// Numbers come from other people's messages: one beyond 2^63 must not stop the archive.
fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn closing(row: &ArchivedTable) -> &'static str {
    use crate::domain::Closing::{Abandoned, Closed, Finished};
    match row.closing {
        Finished => "finished",
        Abandoned => "abandoned",
        Closed => "closed",
    }
}

fn texts<'a, T: AsRef<str>>(
    rows: &'a [ArchivedTable],
    of: impl Fn(&'a ArchivedTable) -> T,
) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
}

fn numbers(rows: &[ArchivedTable], of: impl Fn(&ArchivedTable) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int64Array>())
}

fn times(rows: &[ArchivedTable], of: impl Fn(&ArchivedTable) -> Option<Timestamp>) -> ArrayRef {
    let millis = rows.iter().map(|row| of(row).map(|at| clamped(at.as_millis())));
    Arc::new(millis.collect::<TimestampMillisecondArray>().with_timezone(UTC))
}

fn list<T: ArrowPrimitiveType>(
    rows: &[ArchivedTable],
    of: impl Fn(&ArchivedTable) -> Vec<T::Native>,
) -> ArrayRef {
    let mut lists =
        ListBuilder::new(PrimitiveBuilder::<T>::new()).with_field(element(T::DATA_TYPE));
    for row in rows {
        lists.values().append_slice(&of(row));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn field<B: ArrayBuilder>(of: &mut StructBuilder, index: usize) -> &mut B {
    of.field_builder(index).expect("the fields are those of the schema")
}

fn players(rows: &[ArchivedTable]) -> ArrayRef {
    let fields = player_fields();
    let mut lists = ListBuilder::new(StructBuilder::from_fields(fields.clone(), rows.len()))
        .with_field(element(DataType::Struct(fields)));
    for row in rows {
        let values = lists.values();
        for player in &row.players {
            field::<Int32Builder>(values, 0).append_value(i32::from(player.seat.0));
            let id = player.player.as_ref().map(|id| id.as_str());
            field::<StringBuilder>(values, 1).append_option(id);
            field::<StringBuilder>(values, 2).append_value(&player.name);
            values.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn events(rows: &[ArchivedTable]) -> ArrayRef {
    let fields = event_fields();
    let count = rows.iter().map(|row| row.events.len()).sum();
    let mut lists = ListBuilder::new(StructBuilder::from_fields(fields.clone(), count))
        .with_field(element(DataType::Struct(fields)));
    for row in rows {
        let values = lists.values();
        for event in &row.events {
            field::<Int64Builder>(values, 0).append_value(clamped(event.seq.get()));
            field::<PrimitiveBuilder<TimestampMillisecondType>>(values, 1)
                .append_value(clamped(event.ts.as_millis()));
            field::<StringBuilder>(values, 2).append_value(&event.kind);
            field::<StringBuilder>(values, 3).append_value(&event.actor);
            field::<StringBuilder>(values, 4).append_value(&event.data);
            values.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
