//! Keys: each is bound to the one algorithm that it is for, whatever a token's header asks for. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::Value;

use super::claims::Claims;

/// HS256 needs a key as long as its hash.
const SECRET_BYTES_MIN: usize = 32;

/// An Ed25519 key's 32 bytes in base64. The library takes any other length, and panics when it is to check with that.
const ED25519_CHARS: usize = 43;

/// The secret that tokens are signed with. Prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(Arc<[u8]>);

impl TokenSecret {
    /// A secret that no other process knows: for one gateway alone.
    pub fn random() -> Self {
        Self(rand::random::<[u8; SECRET_BYTES_MIN]>().as_slice().into())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

/// The text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token secret has at least {SECRET_BYTES_MIN} bytes, as `openssl rand -hex 32` prints them"
)]
pub struct SecretTooShort;

impl FromStr for TokenSecret {
    type Err = SecretTooShort;

    fn from_str(text: &str) -> Result<Self, SecretTooShort> {
        if text.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort);
        }
        Ok(Self(text.as_bytes().into()))
    }
}

/// Why a file holds no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key that checks.
    #[error(
        "no public key in PEM: RSA or Ed25519 is wanted, as `openssl pkey -in private.pem -pubout` prints it"
    )]
    NotPublic,
    /// It must stay with who issues tokens.
    #[error(
        "this is a private key: give the public one, as `openssl pkey -in private.pem -pubout` prints it"
    )]
    IsPrivate,
    /// Not a key that signs.
    #[error(
        "no private key in PEM: RSA or Ed25519 is wanted, as `openssl genpkey -algorithm ed25519` prints it"
    )]
    NotPrivate,
}

/// A key that checks tokens. Prints as nothing but its name.
#[derive(Clone)]
pub struct CheckingKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for CheckingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid = self.kid.as_deref().unwrap_or("no kid");
        write!(f, "CheckingKey({:?}, {kid})", self.algorithm)
    }
}

impl CheckingKey {
    fn new(kid: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Claims are judged by ours, at the time we are given, not at the machine's.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { kid, algorithm, key, validation }
    }

    /// The secret.
    pub(super) fn of_secret(secret: &TokenSecret) -> Self {
        Self::new(None, Algorithm::HS256, DecodingKey::from_secret(&secret.0))
    }

    /// A public key as it is in a PEM file.
    ///
    /// # Errors
    /// If it is none, or a private one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if SigningKey::from_pem(pem, None).is_ok() {
            return Err(KeyError::IsPrivate);
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(None, Algorithm::EdDSA, key));
        }
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_other| KeyError::NotPublic)?;
        Ok(Self::new(None, Algorithm::RS256, key))
    }

    /// A key of a set; nothing if it is none that we could use. Never a symmetric one: a set is public.
    pub(in crate::gateway) fn from_jwk(jwk: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = match (&jwk.algorithm, common.key_algorithm) {
            (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
            (AlgorithmParameters::OctetKeyPair(pair), None | Some(KeyAlgorithm::EdDSA))
                if pair.curve == EllipticCurve::Ed25519 && pair.x.len() == ED25519_CHARS =>
            {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self::new(common.key_id.clone(), algorithm, key))
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it may be the one that a token with this header was signed with.
    pub(super) fn may_have_signed(&self, header: &Header) -> bool {
        let is_named = match (&self.kid, &header.kid) {
            (Some(kid), Some(wanted)) => kid == wanted,
            _ => true,
        };
        is_named && self.algorithm == header.alg
    }

    /// What the token says, if this key's other half signed it; else why not.
    pub(super) fn open(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        decode::<Claims>(token, &self.key, &self.validation).map(|token| token.claims)
    }
}

/// A key that signs tokens. Prints as nothing.
#[derive(Clone)]
pub struct SigningKey {
    header: Header,
    key: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

impl SigningKey {
    /// The secret.
    pub fn of_secret(secret: &TokenSecret) -> Self {
        let key = EncodingKey::from_secret(&secret.0);
        Self { header: Header::new(Algorithm::HS256), key }
    }

    /// A private key as it is in a PEM file, and the name that it has in the set of its public halves.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_pem(pem: &[u8], kid: Option<String>) -> Result<Self, KeyError> {
        let (algorithm, key) = match EncodingKey::from_ed_pem(pem) {
            Ok(key) => (Algorithm::EdDSA, key),
            Err(_) => match EncodingKey::from_rsa_pem(pem) {
                Ok(key) => (Algorithm::RS256, key),
                Err(_) => return Err(KeyError::NotPrivate),
            },
        };
        let mut header = Header::new(algorithm);
        header.kid = kid;
        let signer = Self { header, key };
        // Some public keys are read as private ones: only signing tells.
        signer.sign(&Claims::default()).map_err(|_other| KeyError::NotPrivate)?;
        Ok(signer)
    }

    /// A token that says this.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        encode(&self.header, claims, &self.key)
    }
}
