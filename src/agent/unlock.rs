//! What it takes to unlock the agent: a look at its own cache, which only whoever may open it gets.

use std::sync::Arc;

use secrecy::SecretString;

use crate::error::CacheError;
use crate::options::{Storage, TokenCachePersistenceOptions};
use crate::store::vault::{Attempts, ProtectorKind, Unattended, Unlocking, by_text};
use crate::store::{self, Places, Store};

/// Opens the agent's own cache, the vault's if there is a secret. Whoever holds what comes back
/// holds the vault open. Blocks, and a passphrase is slow on purpose.
///
/// # Errors
/// What keeps it closed. A cache that is only broken keeps nobody out.
pub(super) fn open(
    own: &TokenCachePersistenceOptions,
    places: &Places,
    secret: Option<SecretString>,
) -> Result<Option<Arc<dyn Store>>, CacheError> {
    let (options, unlocking): (_, Arc<dyn Unlocking>) = match secret {
        Some(secret) => (own.clone().storage(Storage::Vault), Arc::new(BySecret(secret))),
        None => (own.clone(), Arc::new(Unattended::of_environment(places))),
    };
    let opened = store::open_with(&options, false, places, &unlocking)
        .and_then(|store| store.load().map(|_document| store));
    match opened {
        Ok(store) => Ok(Some(store)),
        Err(error) if keeps_out(&error) => Err(error),
        Err(error) => {
            tracing::info!(%error, "unlocked without a look at the cache");
            Ok(None)
        }
    }
}

fn keeps_out(error: &CacheError) -> bool {
    match error {
        CacheError::KeyGone { .. }
        | CacheError::KeyUnavailable { .. }
        | CacheError::Locked { .. }
        | CacheError::LockTimeout { .. }
        | CacheError::Timeout { .. }
        | CacheError::Vault(_) => true,
        CacheError::Conflict { .. }
        | CacheError::Damaged { .. }
        | CacheError::EncryptionUnavailable { .. }
        | CacheError::Io { .. }
        | CacheError::NewerFormat { .. }
        | CacheError::ReadOnly { .. }
        | CacheError::TooLarge { .. }
        | CacheError::Unsafe { .. } => false,
    }
}

/// A passphrase or the recovery key, once, and no other way.
#[derive(Debug)]
struct BySecret(SecretString);

impl Unlocking for BySecret {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        Box::new(by_text(self.0.clone(), kinds).map(Ok).into_iter())
    }
}
