//! Durability classes: what acknowledged commits survive, and how a stream says which class it is of.

use std::collections::HashMap;
use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// In a stream's metadata: the class it was made for, or raised to.
pub(super) const DURABILITY: &str = "tablecast.durability";

/// What acknowledged commits survive. Ordered: each survives what the one before it does, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// One server: the crash of any process
    Dev,
    /// Three servers: the loss of one, too
    Standard,
    /// Servers with `sync_interval: always`, three or as many as --replicas says: a power cut, too
    Strict,
}

impl Durability {
    /// Servers that keep each stream, unless the operator says otherwise.
    pub fn replicas(self) -> usize {
        match self {
            Self::Dev => 1,
            Self::Standard | Self::Strict => 3,
        }
    }

    /// The class of a stream with this metadata. One that does not say promises nothing.
    pub fn of(metadata: &HashMap<String, String>) -> Self {
        let named = metadata.get(DURABILITY);
        named.and_then(|name| Self::from_str(name, false).ok()).unwrap_or(Self::Dev)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Standard => "standard",
            Self::Strict => "strict",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_survives_its_name_and_what_has_none_promises_least() {
        for class in Durability::value_variants() {
            let metadata = HashMap::from([(DURABILITY.to_owned(), class.to_string())]);
            assert_eq!(Durability::of(&metadata), *class);
        }
        let unknown = HashMap::from([(DURABILITY.to_owned(), "eternal".to_owned())]);
        assert_eq!(Durability::of(&unknown), Durability::Dev);
        assert_eq!(Durability::of(&HashMap::new()), Durability::Dev);
        assert!(
            Durability::Dev < Durability::Standard && Durability::Standard < Durability::Strict
        );
    }
}
