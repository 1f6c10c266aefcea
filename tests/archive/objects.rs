//! Objects of the archive as somebody else's Parquet reader sees them.

use arrow_array::cast::AsArray;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tablecast::domain::TableId;
use tablecast::protocol::archive::{Footer, ObjectKey};

/// The tables of an object, from its rows.
pub(crate) fn tables(object: &Bytes) -> Vec<TableId> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object.clone()).expect("Parquet");
    let mut tables = Vec::new();
    for batch in reader.build().expect("Parquet") {
        let batch = batch.expect("rows");
        let ids = batch.column_by_name("table_id").expect("a column");
        let ids = ids.as_string::<i32>().iter().flatten();
        tables.extend(ids.map(|id| id.parse::<TableId>().expect("an id")));
    }
    tables
}

/// What an object says of itself.
pub(crate) fn footer(object: &Bytes) -> Footer {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object.clone()).expect("Parquet");
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let pairs = pairs.expect("pairs").clone();
    Footer::from_pairs(|key| {
        let pair = pairs.iter().find(|pair| pair.key == key)?;
        pair.value.as_deref()
    })
    .expect("a footer")
}

/// All objects of the archive, by shard and position.
pub(crate) async fn all(store: &dyn ObjectStore) -> Vec<(ObjectKey, Bytes)> {
    let listing: Vec<_> =
        store.list(Some(&Path::from("live"))).try_collect().await.expect("a listing");
    let mut objects = Vec::new();
    for meta in listing {
        let key = ObjectKey::parse(meta.location.as_ref()).expect("only batches are in live/");
        let object = store.get(&meta.location).await.expect("an object");
        objects.push((key, object.bytes().await.expect("bytes")));
    }
    objects.sort_by_key(|(key, _)| (key.shard, key.first));
    objects
}
