//! Options without a command line: for roles that are started by another one, and for tests.

use clap::{Args, Parser};

#[derive(Debug, Parser)]
struct Only<T: Args> {
    #[command(flatten)]
    config: T,
}

/// The options of a role as if given on a command line, so that defaults and checks exist once.
///
/// # Errors
/// What a user would be told.
pub fn from_args<T: Args>(args: &[&str]) -> Result<T, clap::Error> {
    let args = std::iter::once("tablecast").chain(args.iter().copied());
    Only::<T>::try_parse_from(args).map(|only| only.config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerConfig;

    #[test]
    fn defaults_and_mistakes_are_those_of_the_command_line() {
        let config: WorkerConfig = from_args(&[]).unwrap();
        assert_eq!(config.tables_max, 10_000);
        assert!(from_args::<WorkerConfig>(&["--tables-max", "many"]).is_err());
    }
}
