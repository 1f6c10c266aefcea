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
        let PresenceNotice { player, gateway, change } = notice;
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

impl Presences {
    /// Players who were at lost gateways only: they have gone.
    pub(super) fn take_lost(&mut self, is_alive: impl Fn(&str) -> bool) -> Vec<PlayerId> {
        for gateways in self.gateways.values_mut() {
            gateways.retain(|gateway| is_alive(gateway));
        }
        let lost = self.gateways.extract_if(|_, gateways| gateways.is_empty());
        lost.map(|(player, _)| player).collect()
    }

    /// Whether any gateway says that this player is there.
    pub(super) fn knows(&self, player: &PlayerId) -> bool {
        self.gateways.contains_key(player)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(gateway: &str, change: PresenceChange) -> PresenceNotice {
        PresenceNotice { player: "ann".parse().unwrap(), gateway: gateway.to_owned(), change }
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
    fn a_player_of_a_lost_gateway_has_gone_unless_at_another() {
        let mut presences = Presences::default();
        presences.note(notice("g1", PresenceChange::Came));
        presences.note(notice("g2", PresenceChange::Came));
        assert!(presences.take_lost(|gateway| gateway == "g2").is_empty());
        assert!(presences.knows(&"ann".parse().unwrap()));
        assert_eq!(presences.take_lost(|_| false), ["ann".parse().unwrap()]);
        assert!(presences.take_lost(|_| false).is_empty());
    }

    #[test]
    fn who_came_before_this_worker_can_still_go() {
        let gone = Presences::default().note(notice("g1", PresenceChange::Went));
        assert!(gone.is_some());
    }
}
