//! Where a login was shared before: `$XDG_STATE_HOME/tokenkeep/shared.json`.
//!
//! Who is not there any more was signed out since, and a program that keeps copies in step must not
//! undo that after it was started anew. The file holds digests, no names.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::caches::deadline;
use super::super::settings::Settings;
use crate::cloud::preferred_cache;
use crate::document::CachedAccount;
use crate::error::CacheError;
use crate::share::SharedCache;
use crate::store::StateFile;

const VERSION: u32 = 1;

/// No person has so many; the oldest are forgotten.
const MOST: usize = 1024;

/// The accounts and caches that were brought together.
#[derive(Debug)]
pub(super) struct SharedBefore {
    file: StateFile,
    known: Known,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Known {
    version: u32,
    /// The newest last.
    shared: Vec<String>,
}

impl SharedBefore {
    pub(super) fn read(settings: &Settings) -> Result<Self, CacheError> {
        let file = StateFile::new(settings.places.state.join("tokenkeep").join("shared.json"));
        let known = parse(&file, file.read()?.as_ref().map(|bytes| bytes.as_slice()))?;
        Ok(Self { file, known })
    }

    pub(super) fn has(&self, account: &CachedAccount, cache: &SharedCache) -> bool {
        self.known.shared.contains(&digest(account, cache))
    }

    /// Notes it, after it was done: who is stopped in between shares again.
    pub(super) fn note(&mut self, account: &CachedAccount, cache: &SharedCache) -> Result<(), CacheError> {
        if self.has(account, cache) {
            return Ok(());
        }
        self.known = self.file.update(deadline(), |before| {
            let mut known = parse(&self.file, before)?;
            known.shared.push(digest(account, cache));
            known.shared.drain(..known.shared.len().saturating_sub(MOST));
            Ok((serde_json::to_vec(&known).unwrap_or_default(), known))
        })?;
        Ok(())
    }
}

fn parse(file: &StateFile, bytes: Option<&[u8]>) -> Result<Known, CacheError> {
    let place = || file.path().display().to_string();
    let Some(bytes) = bytes else {
        return Ok(Known { version: VERSION, shared: Vec::new() });
    };
    let known: Known = serde_json::from_slice(bytes).map_err(|error| CacheError::Damaged {
        place: place(),
        detail: format!("{error}; remove it, and share again"),
    })?;
    if known.version > VERSION {
        let detail = format!("it is of version {}", known.version);
        return Err(CacheError::NewerFormat { place: place(), detail });
    }
    Ok(known)
}

fn digest(account: &CachedAccount, cache: &SharedCache) -> String {
    let described = cache.store().describe();
    let cloud = preferred_cache(&account.environment);
    let parts = [&*account.home_account_id, &*cloud, &*described.cache, &*described.place];
    let digest = Sha256::digest(parts.join("\n"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
