//! A cache that takes part.

use std::sync::Arc;

use crate::document::Dialect;
use crate::store::{Encoding, Place, Silo, Store, Writing};

use super::tools::{Tool, dialect_of};

/// A cache that a login is copied from or into.
#[derive(Clone, Debug)]
pub struct SharedCache {
    pub(super) tool: &'static Tool,
    pub(super) dialect: Dialect,
    pub(super) cae: Option<bool>,
    pub(super) place: Option<Place>,
    pub(super) writing: Writing,
    /// Whether the tool encrypts it with a key that only it makes.
    pub(super) has_own_key: bool,
    pub(super) store: Arc<dyn Store>,
}

impl SharedCache {
    /// A tool's.
    #[must_use]
    pub fn of_tool(tool: &'static Tool, silo: &Silo) -> Self {
        Self {
            tool,
            dialect: dialect_of(silo),
            cae: silo.cae(),
            place: Some(silo.place().clone()),
            writing: silo.writing(),
            has_own_key: silo.encoding() == Encoding::Jwe,
            store: silo.open(),
        }
    }

    /// One of our own two, wherever it rests; in a vault it has no place that a tool could have.
    ///
    /// # Panics
    /// Never: our own profile has its row.
    #[must_use]
    pub fn own(store: Arc<dyn Store>, cae: bool, place: Option<Place>) -> Self {
        let Some(tool) = Tool::of("python") else { unreachable!("our own profile has its row") };
        Self {
            tool,
            dialect: Dialect::Own,
            cae: Some(cae),
            place,
            writing: Writing::Writable,
            has_own_key: false,
            store,
        }
    }

    /// Whether there is nothing to write into before its tool has made it.
    #[must_use]
    pub fn is_not_made_yet(&self) -> bool {
        matches!(&self.place, Some(Place::File(path)) if self.has_own_key && !path.exists())
    }

    /// What keeps it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The tool whose it is.
    #[must_use]
    pub const fn tool(&self) -> &'static Tool {
        self.tool
    }

    /// Whether both are one cache of one tool, so that nothing has to be copied. Another tool that
    /// has the same cache may sign in as another client.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        if self.tool.id != other.tool.id {
            return false;
        }
        match (&self.place, &other.place) {
            (Some(one), Some(other)) => one.is_same(other),
            (None, None) => self.store.describe() == other.store.describe(),
            _ => false,
        }
    }

    /// Where it is; `None` for a vault.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }
}
