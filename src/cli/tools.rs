//! The caches of all tools on this machine, ours among them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::caches::OpenCache;
use super::failure::Failure;
use super::settings::Settings;
use crate::error::CacheError;
use crate::store::{self, ChosenStorage, Silo, Writing};

/// A cache that was opened and read, and what may be done with it.
#[derive(Debug)]
pub(super) struct ToolCache {
    pub(super) cache: OpenCache,
    /// Whether it is one of our own two.
    pub(super) is_own: bool,
    /// Whether it is the one for continuous access evaluation.
    pub(super) cae: bool,
    /// Why it must not be written, and what to do instead.
    pub(super) read_only: Option<String>,
}

/// A cache that could not be looked into, or not be changed.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) cache: String,
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn new(cache: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { cache: cache.into(), problem: problem.into() }
    }

    fn of(cache: impl Into<String>, error: CacheError) -> Self {
        Self::new(cache, Failure::from(error).message())
    }

    pub(super) fn in_words(&self) -> String {
        format!("{}: {}", self.cache, self.problem)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "cache": self.cache, "problem": self.problem })
    }
}

/// Our own two caches first, then those of every other tool; what cannot be read is a problem, but
/// no reason to leave the others alone.
pub(super) fn all(settings: &Settings) -> Result<(Vec<ToolCache>, Vec<Problem>), Failure> {
    let (mut caches, mut problems) = (Vec::new(), Vec::new());
    let opened = store::choose(&settings.cache, &settings.places)
        .and_then(|chosen| Ok((chosen, OpenCache::both(settings)?)));
    let chosen = match opened {
        Ok((chosen, own)) => {
            let own = [false, true].into_iter().zip(own);
            caches.extend(own.map(|(cae, cache)| ToolCache { cache, is_own: true, cae, read_only: None }));
            Some(chosen)
        }
        // There is no store of ours here, which is nothing to keep the others from it.
        Err(error @ CacheError::EncryptionUnavailable { .. }) => {
            problems.push(Problem::of("our own cache", error));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let own: Vec<String> = caches.iter().map(|own| own.cache.name.clone()).collect();
    for silo in store::silos(&settings.places) {
        if chosen.as_ref().is_some_and(|chosen| is_own(&silo, chosen, &own)) {
            continue;
        }
        let (store, name) = (silo.open(), silo.describe().to_string());
        let read_only = match silo.writing() {
            Writing::ReadOnly { why, instead } => {
                Some(format!("it is not ours to write, because {why}; {instead}"))
            }
            Writing::Guarded(_) | Writing::Writable => None,
        };
        match store.load() {
            Ok(snapshot) => {
                let cache = OpenCache { store, name, document: snapshot.document };
                let cae = silo.cae() == Some(true);
                caches.push(ToolCache { cache, is_own: false, cae, read_only });
            }
            Err(error) => problems.push(Problem::of(name, error)),
        }
    }
    Ok((caches, problems))
}

/// Whether it is the very place that our own cache of this name rests in.
fn is_own(silo: &Silo, chosen: &ChosenStorage, own: &[String]) -> bool {
    let is_encrypted = match chosen {
        ChosenStorage::Platform => true,
        ChosenStorage::Plaintext => false,
        ChosenStorage::Vault(_) => return false,
    };
    silo.is_of("python")
        && own.iter().any(|name| name == silo.name())
        && silo.describe().encrypted == is_encrypted
}

impl ToolCache {
    /// Reads it again.
    pub(super) fn reload(&mut self) -> Result<(), CacheError> {
        self.cache.document = Arc::clone(&self.cache.store.load()?.document);
        Ok(())
    }

    /// Why a change did not work out, if it did not.
    pub(super) fn problem(&self, error: CacheError) -> Problem {
        Problem::of(self.cache.name.clone(), error)
    }
}
