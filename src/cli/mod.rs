//! The command line: a subcommand per role.
