//! A document that ends with the process: what credentials use without persistence options.

use std::sync::{Arc, Mutex, PoisonError};

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::CacheError;
use crate::time::Deadline;

use super::{Applied, Extent, Snapshot, Stamp, Store, StoreDescription};

/// A store that is shared with nobody and never touches a disk.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Content>);

#[derive(Clone, Debug, Default)]
struct Content {
    document: Arc<TokenCacheDocument>,
    generation: u64,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn content<T>(&self, with: impl FnOnce(&mut Content) -> T) -> T {
        // a panic cannot leave the content half changed: it is replaced as a whole
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Content {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            document: Arc::clone(&self.document),
            stamp: Stamp::of_generation(self.generation),
            extent: Extent::Whole,
        }
    }

    fn replace(&mut self, document: TokenCacheDocument) {
        self.document = Arc::new(document);
        self.generation += 1;
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            cache: "memory".to_owned(),
            place: "this process only".to_owned(),
            encrypted: false,
        }
    }

    fn stamp(&self) -> Result<Stamp, CacheError> {
        Ok(self.content(|content| content.snapshot().stamp))
    }

    fn load(&self) -> Result<Snapshot, CacheError> {
        Ok(self.content(|content| content.snapshot()))
    }

    fn apply(&self, changes: &ChangeSet, _deadline: Deadline) -> Result<Applied, CacheError> {
        Ok(self.content(|content| {
            let mut document = TokenCacheDocument::clone(&content.document);
            let changed = document.apply(changes);
            if changed {
                content.replace(document);
            }
            Applied { snapshot: content.snapshot(), changed }
        }))
    }

    fn discard(&self, _deadline: Deadline) -> Result<Option<String>, CacheError> {
        self.content(|content| content.replace(TokenCacheDocument::default()));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::document::Change;

    #[test]
    fn only_a_change_makes_a_new_stamp() {
        let store = MemoryStore::new();
        let deadline = Deadline::within(Duration::ZERO);
        let before = store.stamp().unwrap();
        let nothing = ChangeSet::of(Change::RemoveEverything);
        assert_eq!(store.apply(&nothing, deadline).unwrap().snapshot.stamp, before);

        store.discard(deadline).unwrap();
        assert_ne!(store.stamp().unwrap(), before);
        assert_eq!(store.load().unwrap().stamp, store.stamp().unwrap());
    }
}
