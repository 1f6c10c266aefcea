//! Tables for tests of the bus: what is in their commits does not matter.

use bytes::Bytes;
use tablecast::bus::{Append, Bus, Origin};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;

pub(crate) fn new_table() -> TableId {
    TableId::new(Timestamp::from_millis(1_795_000_000_000), rand::random())
}

pub(crate) fn address(bus: &Bus, table: TableId) -> Address {
    let kind: Kind = "chess".parse().expect("a kind");
    Address::new(table, kind, bus.log.shards())
}

pub(crate) fn append(address: &Address, after: StreamSeq, id: &str) -> Append {
    Append {
        address: address.clone(),
        after,
        id: format!("{}:{id}", address.table),
        types: "test.happened".to_owned(),
        worker: "w1".parse().expect("a worker"),
        command: Some(Origin {
            command: "c1".parse().expect("a command"),
            request: Some("r1".to_owned()),
        }),
        payload: Bytes::from(id.to_owned()),
    }
}

/// Appends so many commits to a new table; its address and their positions.
pub(crate) async fn table_of(bus: &Bus, commits: usize) -> (Address, Vec<StreamSeq>) {
    let address = address(bus, new_table());
    let mut positions = Vec::new();
    let mut last = StreamSeq::ZERO;
    for number in 0..commits {
        let append = append(&address, last, &number.to_string());
        last = bus.log.append(append).await.expect("stored");
        positions.push(last);
    }
    (address, positions)
}
