//! Where the players of a table are connected.

use std::collections::{HashMap, HashSet};

use crate::domain::{PlayerId, PresenceChange};
use crate::protocol::request::PresenceNotice;

/// The gateways at which each player is: a player may be at two.
#[derive(Debug, Default)]
pub(super) struct Presences {
    gateways: HashMap<PlayerId, HashSet<String>>,
}

impl Presences {
    /// Takes in what one gateway says. Of a player who is still at another, nobody has gone.
    pub(super) fn note(&mut self, notice: PresenceNotice) -> Option<(PlayerId, PresenceChange)> {
        let PresenceNotice {
            player,
            gateway,
            change,
        } = notice;
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
        Some((player, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(gateway: &str, change: PresenceChange) -> PresenceNotice {
        PresenceNotice {
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
        assert_eq!(gone.map(|(_, change)| change), Some(PresenceChange::Went));
    }

    #[test]
    fn who_came_before_this_worker_can_still_go() {
        let gone = Presences::default().note(notice("g1", PresenceChange::Went));
        assert!(gone.is_some());
    }
}
