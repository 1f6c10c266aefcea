//! Openings: a client's wish becomes a request, and finds a worker that has room.

use super::{Dispatcher, MOVED_PAUSE, OFFERS, TAKING_RHYTHM, at_capacity, relayed, unavailable};
use crate::bus::RequestError;
use crate::domain::{CommandId, Identity, Kind, Seat, Seating, TableId, TableOptions};
use crate::gateway::beats::Room;
use crate::gateway::hedge::Pauses;
use crate::protocol::frame::SeatWish;
use crate::protocol::request::{self, AT_CAPACITY, MOVED, OpenRequest, Refusal, Verdict};
use crate::protocol::subject;

/// An opening, as the client wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::gateway) struct Wish {
    /// Which game.
    pub kind: Kind,
    /// The game's own setup.
    pub setup: serde_json::Value,
    /// What the table does besides the rules.
    pub options: TableOptions,
    /// Who sits where.
    pub seats: Option<Vec<SeatWish>>,
}

impl Dispatcher {
    /// The same bytes name the same table, so sending them again opens nothing new.
    pub(super) async fn open(
        &self,
        table: TableId,
        by: Identity,
        id: CommandId,
        wish: Wish,
        request: &str,
    ) -> Verdict {
        let subject = subject::open(&wish.kind);
        let payload = match self.opening(table, by, id, wish) {
            Ok(opening) => {
                request::encode(&OpenRequest { request: Some(request.to_owned()), ..opening })
            }
            Err(refusal) => return Verdict::Rejected(refusal),
        };
        let mut pauses = Pauses::new(&self.entropy, MOVED_PAUSE, MOVED_PAUSE * 8);
        let mut offers = 0;
        loop {
            let refused = match self.request(&subject, &payload, TAKING_RHYTHM).await {
                // A worker is just opening it; the next answer is the verdict.
                Ok(Some(Verdict::Rejected(refusal))) if refusal.code == MOVED => None,
                // Somebody else may have room: workers that have none stop listening in a moment.
                Ok(Some(Verdict::Rejected(refusal))) if refusal.code == AT_CAPACITY => {
                    Some(Verdict::Rejected(at_capacity()))
                }
                Ok(Some(verdict)) => return verdict,
                Ok(None) | Err(RequestError::Timeout | RequestError::Unreachable) => {
                    return unavailable("no worker answered");
                }
                Err(RequestError::NoResponders) => Some(match self.owners.room() {
                    Room::Full => Verdict::Rejected(at_capacity()),
                    Room::Some | Room::Nobody => {
                        unavailable("no worker plays this game at the moment")
                    }
                }),
            };
            if let Some(refused) = refused {
                offers += 1;
                if offers == OFFERS {
                    return refused;
                }
            }
            pauses.wait().await;
        }
    }

    fn opening(
        &self,
        table: TableId,
        by: Identity,
        id: CommandId,
        wish: Wish,
    ) -> Result<OpenRequest, Refusal> {
        let Wish { kind, setup, options, seats } = wish;
        let rules = self
            .catalog
            .get(&kind)
            .ok_or_else(|| Refusal::new("unknown_kind", format!("no game is called {kind}")))?;
        if rules.is_relayed() {
            return Err(relayed(&kind));
        }
        let wishes = match seats {
            Some(wishes) => wishes,
            None => {
                let others = if rules.has_bots() { SeatWish::Bot } else { SeatWish::Open };
                let mut wishes = vec![others; usize::from(rules.seats(&setup)?)];
                if let Some(first) = wishes.first_mut() {
                    *first = SeatWish::Me;
                }
                wishes
            }
        };
        let own: Vec<usize> =
            (0..wishes.len()).filter(|seat| wishes[*seat] == SeatWish::Me).collect();
        let &[host] = own.as_slice() else {
            return Err(Refusal::new("bad_opening", "seats: `me` stands there once"));
        };
        let host = u8::try_from(host)
            .map_err(|_too_many| Refusal::new("bad_opening", "seats: no game has this many"))?;
        let seats = wishes.iter().map(|wish| seating(*wish, &by)).collect();
        Ok(OpenRequest {
            table,
            by,
            id,
            setup,
            options,
            seats,
            host: Some(Seat(host)),
            request: None,
        })
    }
}

fn seating(wish: SeatWish, by: &Identity) -> Seating {
    match wish {
        SeatWish::Me => Seating::Human { player: by.player.clone(), name: by.name.clone() },
        SeatWish::Bot => Seating::Bot,
        SeatWish::Open => Seating::Open,
    }
}
