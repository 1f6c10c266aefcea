//! Where the players of a table are connected.

use std::collections::VecDeque;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use metrics::counter;
use tokio::sync::Notify;

use crate::domain::{PlayerId, PresenceChange, Timestamp};
use crate::protocol::request::PresenceNotice;

/// What became of a player's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) player: PlayerId,
    pub(super) became: Became,
}

/// See [`Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// As the player's gateway says.
    Said(PresenceChange),
    /// Every gateway of the player is lost; this is when the last of them was heard.
    Lost(Timestamp),
}

/// The gateways at which each player is: a player may be at two.
#[derive(Debug, Default)]
pub(super) struct Presences {
    gateways: BTreeMap<PlayerId, BTreeSet<String>>,
}

impl Presences {
    /// Takes in what one gateway says. Of a player who is still at another, nobody has gone.
    pub(super) fn note(&mut self, notice: PresenceNotice) -> Option<Connection> {
        let PresenceNotice { player, gateway, change, .. } = notice;
        match change {
            PresenceChange::Came => {
                let gateways = self.gateways.entry(player.clone()).or_default();
                gateways.insert(gateway);
            }
            PresenceChange::Went => {
                if let Some(gateways) = self.gateways.get_mut(&player) {
                    gateways.remove(&gateway);
                    if !gateways.is_empty() {
                        return None;
                    }
                    self.gateways.remove(&player);
                }
            }
        }
        Some(Connection { player, became: Became::Said(change) })
    }
}

impl Presences {
    /// A player acts, by this gateway. Its notice may not have come yet, or have been lost.
    pub(super) fn note_acting(&mut self, player: &PlayerId, gateway: &str) {
        let gateways = self.gateways.entry(player.clone()).or_default();
        if !gateways.contains(gateway) {
            gateways.insert(gateway.to_owned());
        }
    }

    /// Players who were at lost gateways only. A gateway is lost if `lost_at` says when it was last heard.
    pub(super) fn take_lost(
        &mut self,
        lost_at: impl Fn(&str) -> Option<Timestamp>,
    ) -> Vec<Connection> {
        let mut gone = Vec::new();
        self.gateways.retain(|player, gateways| {
            let mut heard = None;
            gateways.retain(|gateway| {
                let lost = lost_at(gateway);
                heard = heard.max(lost);
                lost.is_none()
            });
            match heard {
                Some(heard) if gateways.is_empty() => {
                    gone.push(Connection { player: player.clone(), became: Became::Lost(heard) });
                    false
                }
                _ => true,
            }
        });
        gone
    }

    /// Whether every gateway of this player has been silent for so long that it may be gone.
    pub(super) fn may_be_cut_off(
        &self,
        player: &PlayerId,
        is_quiet: impl Fn(&str) -> bool,
    ) -> bool {
        let gateways = self.gateways.get(player);
        gateways.is_some_and(|gateways| gateways.iter().all(|gateway| is_quiet(gateway)))
    }

    /// Whether any gateway says that this player is there.
    pub(super) fn knows(&self, player: &PlayerId) -> bool {
        self.gateways.contains_key(player)
    }
}

/// How many notices wait for one table at most: far more than it has seats. The oldest gives way, and what it
/// said is heard again with the next roll-call.
const NEWS_MAX: usize = 256;

/// Notices on their way to one table.
#[derive(Debug, Default)]
pub(super) struct News {
    waiting: Mutex<VecDeque<PresenceNotice>>,
    bell: Notify,
}

impl News {
    pub(super) fn push(&self, notice: PresenceNotice) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= NEWS_MAX {
            waiting.pop_front();
            counter!("tablecast_worker_notices_dropped_total").increment(1);
        }
        waiting.push_back(notice);
        drop(waiting);
        self.bell.notify_one();
    }

    pub(super) async fn next(&self) -> PresenceNotice {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(notice) = waiting {
                return notice;
            }
            self.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(gateway: &str, change: PresenceChange) -> PresenceNotice {
        let table = crate::domain::TableId::new(Timestamp::default(), [0; 10]);
        PresenceNotice {
            table,
            player: "ann".parse().unwrap(),
            gateway: gateway.to_owned(),
            change,
        }
    }

    #[test]
    fn a_player_at_two_gateways_has_gone_when_both_say_so() {
        let mut presences = Presences::default();
        presences.note(notice("g1", PresenceChange::Came));
        presences.note(notice("g2", PresenceChange::Came));
        assert_eq!(presences.note(notice("g1", PresenceChange::Went)), None);
        // A gateway that repeats itself changes nothing.
        assert_eq!(presences.note(notice("g1", PresenceChange::Went)), None);
        let gone = presences.note(notice("g2", PresenceChange::Went));
        assert_eq!(gone.map(|gone| gone.became), Some(Became::Said(PresenceChange::Went)));
    }

    #[test]
    fn a_player_of_a_lost_gateway_has_gone_unless_at_another() {
        let mut presences = Presences::default();
        presences.note(notice("g1", PresenceChange::Came));
        presences.note(notice("g2", PresenceChange::Came));
        let at = |millis| Some(Timestamp::from_millis(millis));
        assert!(presences.take_lost(|gateway| at(5).filter(|_| gateway == "g1")).is_empty());
        assert!(presences.knows(&"ann".parse().unwrap()));
        let lost = presences.take_lost(|_| at(7));
        let became = Became::Lost(Timestamp::from_millis(7));
        assert_eq!(lost, [Connection { player: "ann".parse().unwrap(), became }]);
        assert!(presences.take_lost(|_| at(9)).is_empty());
    }

    #[test]
    fn a_table_with_too_many_notices_drops_the_oldest() {
        let news = News::default();
        for number in 0..=NEWS_MAX {
            news.push(notice(&format!("g{number}"), PresenceChange::Came));
        }
        let first = futures_util::FutureExt::now_or_never(news.next()).expect("one waits");
        assert_eq!(first.gateway, "g1");
    }

    #[test]
    fn who_came_before_this_worker_can_still_go() {
        let gone = Presences::default().note(notice("g1", PresenceChange::Went));
        assert!(gone.is_some());
    }
}
