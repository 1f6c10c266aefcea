//! `--relay-kind`: the kinds whose commits servers that are not ours publish.

use clap::Args;

use crate::catalog::{Catalog, KindTaken};
use crate::domain::Kind;

/// Which kinds are relayed.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct RelayArgs {
    /// Tables of this kind have a server of their own, which publishes what each viewer sees of them: see
    /// nats/README.md. May be given more than once.
    #[arg(long, env = "TABLECAST_RELAY_KINDS", value_name = "NAME", value_delimiter = ',')]
    pub(super) relay_kind: Vec<Kind>,
}

impl RelayArgs {
    /// The games of a binary, and these kinds beside them.
    pub(super) fn add_to(&self, catalog: Catalog) -> Result<Catalog, KindTaken> {
        self.relay_kind.iter().cloned().try_fold(catalog, Catalog::with_relay)
    }
}
