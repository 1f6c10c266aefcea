//! What a token says, and what of it is taken. Pure.

use serde::{Deserialize, Serialize};

use super::{Bearer, SeatBound, TokenError};
use crate::domain::{Identity, PlayerId, Seat, TableId, Timestamp};

/// Clocks of different machines differ by less.
pub(super) const LEEWAY_MS: u64 = 5_000;
/// The longest name that is shown to others, in characters.
pub(in crate::gateway) const NAME_CHARS_MAX: usize = 24;
/// Who shows a seat token that names no account.
const NOBODY: &str = "seat";

/// What a token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The player. Only a seat token can do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// As shown to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The one seat that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tc: Option<SeatClaim>,
}

impl Claims {
    /// Whether a gateway could take this, as far as that does not depend on its options and the time.
    ///
    /// # Errors
    /// Why not.
    pub fn validate(&self) -> Result<(), TokenError> {
        let audience = match &self.aud {
            None => vec![],
            Some(Audience::One(name)) => vec![name.clone()],
            Some(Audience::Many(names)) => names.clone(),
        };
        let policy = Policy { issuer: self.iss.clone(), audience };
        policy.judge(self.clone(), from_secs(self.nbf.unwrap_or(0))).map(|_bearer| ())
    }
}

/// For whom a token is: one service or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Any of these.
    Many(Vec<String>),
}

impl Audience {
    fn names_any_of(&self, ours: &[String]) -> bool {
        match self {
            Self::One(name) => ours.contains(name),
            Self::Many(names) => names.iter().any(|name| ours.contains(name)),
        }
    }
}

/// The claim that binds a token to a seat. A field that we do not know could be a limit that we would not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatClaim {
    /// Where.
    pub table: TableId,
    /// Which seat there.
    pub seat: Seat,
}

/// What tokens have to say beside whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The `iss` that is asked for, if any is.
    pub issuer: Option<String>,
    /// The names by which this deployment is an `aud`.
    pub audience: Vec<String>,
}

impl Policy {
    /// Who says this, its signature being good.
    pub(super) fn judge(&self, claims: Claims, now: Timestamp) -> Result<Bearer, TokenError> {
        let expires_at = from_secs(claims.exp.ok_or(TokenError::Malformed)?);
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(TokenError::WrongIssuer);
        }
        // A token that names an audience is for nobody else, also if we have no name (RFC 7519, 4.1.3).
        let is_for_us = match &claims.aud {
            Some(audience) => audience.names_any_of(&self.audience),
            None => self.audience.is_empty(),
        };
        if !is_for_us {
            return Err(TokenError::WrongAudience);
        }
        if expires_at.plus_millis(LEEWAY_MS) <= now {
            return Err(TokenError::Expired);
        }
        if from_secs(claims.nbf.unwrap_or(0)) > now.plus_millis(LEEWAY_MS) {
            return Err(TokenError::NotYet);
        }
        let player = player(&claims)?;
        let name = match (&claims.name, &claims.sub, &claims.tc) {
            (Some(name), _, _) => shown_name(name).ok_or(TokenError::BadName)?,
            (None, None, Some(at)) => format!("Seat {}", at.seat.0),
            (None, sub, _) => sub.iter().flat_map(|sub| sub.chars()).take(NAME_CHARS_MAX).collect(),
        };
        let seat = claims.tc.map(|at| SeatBound { table: at.table, seat: at.seat });
        Ok(Bearer { identity: Identity { player, name }, expires_at, seat })
    }
}

/// Whoever shows a seat token is a player of that seat's own, so that neither the account's other seats nor
/// what they see can be had with it.
fn player(claims: &Claims) -> Result<PlayerId, TokenError> {
    let text = match (&claims.sub, &claims.tc) {
        (None, None) => return Err(TokenError::NoPlayer),
        (Some(sub), None) => sub.clone(),
        (sub, Some(at)) => {
            let sub = sub.as_deref().unwrap_or(NOBODY);
            format!("{sub}@{}.{}", at.table, at.seat.0)
        }
    };
    text.parse().map_err(|_id_error| TokenError::NoPlayer)
}

pub(super) fn from_secs(secs: u64) -> Timestamp {
    Timestamp::from_millis(secs.saturating_mul(1000))
}

/// A name as it may be shown to others; nothing if it may not.
pub(in crate::gateway) fn shown_name(name: &str) -> Option<String> {
    let name = name.trim();
    let is_long = name.chars().nth(NAME_CHARS_MAX).is_some();
    if name.is_empty() || is_long || name.chars().any(is_deceptive) {
        return None;
    }
    Some(name.to_owned())
}

/// Control characters, and those that turn the direction of the text around them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!(shown_name("  Nok "), Some("Nok".to_owned()));
        for bad in ["", "   ", "a\nb", "\u{202e}kon", &"x".repeat(25)] {
            assert_eq!(shown_name(bad), None, "{bad:?}");
        }
        assert!(shown_name(&"ก".repeat(24)).is_some());
    }
}
