//! `tablecast token`: makes a player's token, and says what is wrong with one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::print;
use crate::domain::{PlayerId, Seat, TableId};
use crate::gateway::{
    Audience, AuthConfig, Claims, SeatClaim, SigningKey, TokenError, TokenSecret, read_unchecked,
};
use crate::runtime::clock::Clock;

/// Options of `tablecast token`.
#[derive(Args, Debug)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Prints a token for a player, or for whoever holds it to take one seat.
    Issue(IssueArgs),
    /// Says what a token says, and whether a gateway with these options takes it. Fails if it does not.
    Check(CheckArgs),
}

#[derive(Args, Debug)]
struct IssueArgs {
    /// The player's id: 1 to 128 printable characters without spaces.
    #[arg(long, required_unless_present = "table")]
    player: Option<PlayerId>,
    /// As shown to others.
    #[arg(long)]
    name: Option<String>,
    /// How long the token is good.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Its `iss`.
    #[arg(long)]
    issuer: Option<String>,
    /// Its `aud`.
    #[arg(long)]
    audience: Option<String>,
    /// The table, if the token is to be good for one seat only.
    #[arg(long, requires = "seat")]
    table: Option<TableId>,
    /// The seat at that table, counted from 0.
    #[arg(long, requires = "table")]
    seat: Option<u8>,
    /// Secret to sign with (HS256), as gateways have it.
    #[arg(long, env = "TABLECAST_GATEWAY_TOKEN_SECRET", hide_env_values = true)]
    token_secret: Option<TokenSecret>,
    /// File with a private key in PEM, RSA (RS256) or Ed25519 (`EdDSA`), to sign with instead of the secret.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The name of that key in the set that gateways fetch.
    #[arg(long, requires = "private_key")]
    kid: Option<String>,
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// The token.
    token: String,
    #[command(flatten)]
    auth: AuthConfig,
}

pub(super) async fn run(args: TokenArgs) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::Issue(args) => issue(&args),
        TokenCommand::Check(args) => check(args).await,
    }
}

fn issue(args: &IssueArgs) -> anyhow::Result<()> {
    let iat = Clock::System.now().as_millis() / 1000;
    let seat = args.table.zip(args.seat);
    let claims = Claims {
        sub: args.player.as_ref().map(|player| player.as_str().to_owned()),
        name: args.name.clone(),
        iss: args.issuer.clone(),
        aud: args.audience.clone().map(Audience::One),
        exp: Some(iat.saturating_add(args.ttl.as_secs())),
        iat: Some(iat),
        nbf: None,
        tc: seat.map(|(table, seat)| SeatClaim { table, seat: Seat(seat) }),
    };
    claims.validate().context("no gateway would take this token")?;
    let token = signing_key(args)?.sign(&claims).context("the token cannot be signed")?;
    print::line(&token)
}

fn signing_key(args: &IssueArgs) -> anyhow::Result<SigningKey> {
    if let Some(path) = &args.private_key {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return SigningKey::from_pem(&pem, args.kid.clone())
            .with_context(|| format!("cannot sign with {}", path.display()));
    }
    let Some(secret) = &args.token_secret else {
        bail!(
            "there is nothing to sign with: give --private-key, or the gateways' secret as \
             TABLECAST_GATEWAY_TOKEN_SECRET"
        );
    };
    Ok(SigningKey::of_secret(secret))
}

async fn check(args: CheckArgs) -> anyhow::Result<()> {
    if !args.auth.has_keys() {
        bail!(
            "there is nothing to check the token with: give the gateway's --token-secret, --token-key or --jwks-url"
        );
    }
    let Some(said) = read_unchecked(&args.token) else {
        print::line("verdict: refused (malformed)")?;
        bail!("{}", TokenError::Malformed);
    };
    print::outline(&said)?;
    let tokens = args.auth.tokens()?;
    if let Some(jwks) = tokens.jwks() {
        jwks.fetch_once().await.context("--jwks-url is of no use")?;
    }
    match tokens.check(&args.token, Clock::System.now()) {
        Ok(bearer) => {
            let player = &bearer.identity.player;
            print::line(&format!("verdict: taken, as player {}", player.as_str()))
        }
        Err(error) => {
            // The set was fetched: a key that is unknown now is nobody's.
            let error = if error == TokenError::UnknownKey { TokenError::NotOurs } else { error };
            print::line(&format!("verdict: refused ({})", error.reason()))?;
            bail!("a gateway with these options does not take this token: {error}")
        }
    }
}
