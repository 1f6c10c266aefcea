//! What may be done with a token that is for one seat. Pure.

use serde_json::Value;

use super::token::SeatBound;
use crate::domain::TableId;
use crate::protocol::request::Refusal;

impl SeatBound {
    /// Whether a command is within what the token is for. Whoever sits down without saying where means the
    /// token's seat. All else is for the table's owner to judge: the player of a seat token can hold no other seat.
    pub(super) fn allow(self, table: TableId, command: &mut Value) -> Result<(), Refusal> {
        if table != self.table {
            return Err(self.refusal());
        }
        if command.get("type").and_then(Value::as_str) != Some("table.sit") {
            return Ok(());
        }
        let Some(fields) = command.as_object_mut() else { return Ok(()) };
        let seat = fields.entry("seat").or_insert(Value::Null);
        if seat.is_null() {
            *seat = self.seat.0.into();
        }
        if seat.as_u64() == Some(u64::from(self.seat.0)) { Ok(()) } else { Err(self.refusal()) }
    }

    pub(super) fn refusal(self) -> Refusal {
        let Self { table, seat } = self;
        Refusal::new("seat_only", format!("your token is for seat {} of table {table}", seat.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Seat, Timestamp};

    #[test]
    fn a_seat_token_sits_in_its_seat_only() {
        let at = |number| TableId::new(Timestamp::from_millis(1), [number; 10]);
        let bound = SeatBound { table: at(1), seat: Seat(2) };
        for mut command in [
            json!({ "type": "table.sit" }),
            json!({ "type": "table.sit", "seat": null }),
            json!({ "type": "table.sit", "seat": 2 }),
        ] {
            bound.allow(at(1), &mut command).unwrap();
            assert_eq!(command["seat"], 2);
        }
        for seat in [json!(1), json!("2"), json!(2.5), json!([2])] {
            let mut command = json!({ "type": "table.sit", "seat": seat });
            assert_eq!(bound.allow(at(1), &mut command).unwrap_err().code, "seat_only");
        }
        let mut play = json!({ "type": "play", "seat": 1 });
        bound.allow(at(1), &mut play).unwrap();
        assert_eq!(play, json!({ "type": "play", "seat": 1 }));
        assert!(bound.allow(at(2), &mut play).is_err());
    }
}
