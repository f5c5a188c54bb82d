//! Why a chain of credentials brought no token.

use std::fmt::Write as _;

use super::{Error, RemovedGrant};

/// A credential of a chain that was asked, and why it brought no token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Which credential.
    pub credential: String,
    /// What it said.
    pub error: Error,
}

impl Attempt {
    pub(crate) fn new(credential: &str, error: Error) -> Self {
        Self { credential: credential.to_owned(), error }
    }
}

/// No credential of a chain brought a token: each had nothing to try with, or one of them got an
/// answer that stopped the chain.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", told(chain, attempts))]
#[non_exhaustive]
pub struct ChainFailed {
    /// What the chain is called.
    pub chain: String,
    /// Who was asked, in this order.
    pub attempts: Vec<Attempt>,
    /// Refresh tokens that were removed on the way, of all attempts.
    pub(super) removed: Vec<RemovedGrant>,
}

impl ChainFailed {
    pub(crate) fn new(chain: &str, attempts: Vec<Attempt>) -> Self {
        let removed = attempts.iter().flat_map(|attempt| attempt.error.removed()).cloned().collect();
        Self { chain: chain.to_owned(), attempts, removed }
    }

    /// The error that a caller can do most about: the one that stopped the chain, else the first of a
    /// cache that cannot be used, else the first that a sign-in would mend, else the last.
    #[must_use]
    pub fn decisive(&self) -> Option<&Error> {
        let errors = || self.attempts.iter().map(|attempt| &attempt.error);
        let stopped = errors().find(|error| !error.moves_chain_on());
        let of_cache = || errors().find(|error| error.is_of_cache());
        let mendable = || errors().find(|error| matches!(error, Error::InteractionRequired(_)));
        stopped.or_else(of_cache).or_else(mendable).or_else(|| errors().next_back())
    }
}

/// As azure-identity tells it (spec S-B 6.1).
fn told(chain: &str, attempts: &[Attempt]) -> String {
    let mut text =
        format!("{chain} failed to retrieve a token from the included credentials\nattempted credentials:");
    for Attempt { credential, error } in attempts {
        let error = error.to_string().replace('\n', "\n  ");
        let _ = write!(text, "\n  {credential}: {error}");
    }
    text
}
