//! Every promise of the bus, as checks that any bus must pass.

use bytes::Bytes;
use futures_util::StreamExt;
use tablecast::bus::{Append, AppendError, Bus, Entry, Stored};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;

fn table() -> TableId {
    TableId::new(Timestamp::from_millis(1_795_000_000_000), rand::random())
}

fn address(bus: &Bus, table: TableId) -> Address {
    let kind: Kind = "chess".parse().expect("a kind");
    Address::new(table, kind, bus.log.shards())
}

fn append(address: &Address, after: StreamSeq, id: &str) -> Append {
    Append {
        address: address.clone(),
        after,
        id: format!("{}:{id}", address.table),
        types: "test.happened".to_owned(),
        worker: "w1".parse().expect("a worker"),
        command: None,
        payload: Bytes::from(id.to_owned()),
    }
}

pub(crate) async fn appends_chain(bus: &Bus) {
    let table = table();
    let address = address(bus, table);
    let mut live = bus.log.follow(table).await.expect("followed");
    let first = bus
        .log
        .append(append(&address, StreamSeq::ZERO, "1"))
        .await
        .expect("stored");
    let second = bus
        .log
        .append(append(&address, first, "2"))
        .await
        .expect("stored");
    let again = bus
        .log
        .append(append(&address, first, "2"))
        .await
        .expect("known");
    assert_eq!(second, again);
    let fenced = bus.log.append(append(&address, first, "3")).await;
    assert!(
        matches!(fenced, Err(AppendError::Fenced { .. })),
        "{fenced:?}"
    );
    let read = bus.log.read(table, StreamSeq::ZERO).await.expect("read");
    let live: Vec<Entry> = live.by_ref().take(2).collect().await;
    assert_eq!(read, live);
    assert_eq!(read[1].previous, first);
    assert_eq!(read[1].what, Stored::Commit);
}
