//! What every back end that keeps bytes has in common: lock, reload, apply, write, signal, unlock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::CacheError;
use crate::time::{Clock, Deadline, SystemClock, UnixTime};

use super::lock::CacheLock;
use super::profile::CacheFiles;
use super::replace;
use super::{Applied, Extent, Signal, Snapshot, Stamp, Store, StoreDescription, Writing};

/// Keeps the bytes of one cache: all that a platform has to bring.
pub(crate) trait Blob: fmt::Debug + Send + Sync {
    /// Whether the content is a file at the cache's path. Others write such files in place, so a
    /// reader may meet half of one; and the file is its own signal.
    const IS_FILE: bool;

    /// What to call it.
    fn describe(&self) -> StoreDescription;

    /// The decoded content; `None` if there is none yet. Takes no lock.
    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError>;

    /// Replaces the content; an error leaves the old one. So does `false`: the lock was lost while
    /// the new one was prepared.
    fn write(&self, bytes: &[u8], held: &CacheLock) -> Result<bool, CacheError>;

    /// Removes the content.
    fn remove(&self, held: &CacheLock) -> Result<(), CacheError>;

    /// Moves content that is no document out of the way, and says where to.
    fn set_aside(&self, now: UnixTime, held: &CacheLock) -> Result<String, CacheError>;
}

/// How long to wait for the rest of a file that somebody is writing in place (spec S-C 3.2).
const WAITS_FOR_WRITERS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(500)];

/// A [`Store`] over any [`Blob`].
#[derive(Debug)]
pub(super) struct BlobStore<B> {
    blob: B,
    files: CacheFiles,
    writing: Writing,
    waits: [Duration; 3],
}

impl<B: Blob> BlobStore<B> {
    pub(super) const fn new(blob: B, files: CacheFiles) -> Self {
        Self { blob, files, writing: Writing::Writable, waits: WAITS_FOR_WRITERS }
    }

    /// The same, but written only if its tool's rules allow that.
    pub(super) const fn writing(mut self, writing: Writing) -> Self {
        self.writing = writing;
        self
    }

    fn may_write(&self) -> Result<(), CacheError> {
        match self.writing {
            Writing::Guarded(_) | Writing::Writable => Ok(()),
            Writing::ReadOnly { why, instead } => {
                Err(CacheError::ReadOnly { place: self.blob.describe().to_string(), why, instead })
            }
        }
    }

    fn parse(&self, content: Option<&[u8]>) -> Result<TokenCacheDocument, CacheError> {
        let Some(bytes) = content else {
            return Ok(TokenCacheDocument::default());
        };
        TokenCacheDocument::parse(bytes).map_err(|error| CacheError::Damaged {
            place: self.blob.describe().to_string(),
            detail: error.to_string(),
        })
    }

    fn read(&self) -> Result<(Content, TokenCacheDocument), CacheError> {
        let content = self.blob.read()?;
        let document = self.parse(content.as_deref().map(Vec::as_slice))?;
        Ok((content, document))
    }

    /// Whether nobody took our lock away or wrote without asking since `content` was read.
    fn is_still(&self, content: &Content, held: &CacheLock) -> Result<bool, CacheError> {
        Ok(self.blob.read()? == *content && held.is_intact())
    }

    fn signal(&self, held: &CacheLock) -> Result<(), CacheError> {
        if B::IS_FILE {
            return Ok(());
        }
        // another tool's only if it is there: nobody watches a file that is not
        for other in self.files.signals.iter().filter(|path| path.exists()) {
            if let Err(error) = replace::touch(other, held) {
                tracing::warn!("{error}");
            }
        }
        replace::touch(&self.files.path, held)
    }

    fn try_apply(&self, changes: &ChangeSet, held: &CacheLock) -> Result<Option<Applied>, CacheError> {
        let stamp = self.stamp()?;
        let (content, mut document) = self.read()?;
        if !document.apply(changes) {
            let snapshot = Snapshot { document: Arc::new(document), stamp, extent: Extent::Whole };
            return Ok(Some(Applied { snapshot, changed: false }));
        }
        if !self.is_still(&content, held)? || !self.blob.write(&document.to_bytes(), held)? {
            return Ok(None);
        }
        self.signal(held)?;
        let snapshot = Snapshot { document: Arc::new(document), stamp: self.stamp()?, extent: Extent::Whole };
        Ok(Some(Applied { snapshot, changed: true }))
    }
}

impl<B: Blob> Store for BlobStore<B> {
    fn describe(&self) -> StoreDescription {
        self.blob.describe()
    }

    fn stamp(&self) -> Result<Stamp, CacheError> {
        self.files
            .signals
            .iter()
            .try_fold(Stamp::of_file(&self.files.path)?, |stamp, other| Ok(stamp.and(Stamp::of_file(other)?)))
    }

    fn signals(&self) -> Vec<Signal> {
        std::iter::once(&self.files.path).chain(&self.files.signals).map(Signal::file).collect()
    }

    fn load(&self) -> Result<Snapshot, CacheError> {
        let mut waits = self.waits.iter();
        let mut looked_twice = false;
        loop {
            // before the content: if it changes in between, the stamp is the old one
            let stamp = self.stamp()?;
            let read = self.read();
            let wait = match &read {
                Err(error) if may_be_half::<B>(error) => waits.next(),
                Ok((content, _)) if B::IS_FILE && is_blank(content) => {
                    // files are truncated before they are written; a writer may also have
                    // finished between our look at the file and this look at its lock
                    if self.files.lock.exist() {
                        waits.next()
                    } else if looked_twice {
                        None
                    } else {
                        looked_twice = true;
                        Some(&Duration::ZERO)
                    }
                }
                _ => None,
            };
            match wait {
                Some(wait) => std::thread::sleep(*wait),
                None => {
                    return Ok(Snapshot { document: Arc::new(read?.1), stamp, extent: Extent::Whole });
                }
            }
        }
    }

    fn apply(&self, changes: &ChangeSet, deadline: Deadline) -> Result<Applied, CacheError> {
        self.may_write()?;
        loop {
            let held = CacheLock::acquire(&self.files.lock, deadline)?;
            match self.try_apply(changes, &held) {
                Ok(Some(applied)) => return Ok(applied),
                Ok(None) if deadline.has_passed() => {
                    return Err(CacheError::LockTimeout {
                        path: self.files.lock.first().to_owned(),
                        holder: "a program that writes without asking".to_owned(),
                        waited: deadline.whole(),
                    });
                }
                Ok(None) => {}
                Err(error) if may_be_half::<B>(&error) => {
                    drop(held);
                    // somebody writes without the lock? then it will be whole soon
                    self.load()?;
                    if deadline.has_passed() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn discard(&self, deadline: Deadline) -> Result<Option<String>, CacheError> {
        self.may_write()?;
        let held = CacheLock::acquire(&self.files.lock, deadline)?;
        let is_damaged = match self.blob.read() {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => self.parse(Some(&bytes)).is_err(),
            Err(CacheError::KeyGone { .. } | CacheError::KeyUnavailable { .. }) => true,
            Err(error) => return Err(error),
        };
        let aside = if is_damaged {
            Some(self.blob.set_aside(SystemClock.now(), &held)?)
        } else {
            self.blob.remove(&held)?;
            None
        };
        self.signal(&held)?;
        Ok(aside)
    }
}

/// What a blob holds: nothing yet, or bytes.
type Content = Option<Zeroizing<Vec<u8>>>;

fn is_blank(content: &Content) -> bool {
    content.as_ref().is_some_and(|bytes| bytes.trim_ascii().is_empty())
}

/// Whether the other half of what was read may still be on its way.
const fn may_be_half<B: Blob>(error: &CacheError) -> bool {
    B::IS_FILE && matches!(error, CacheError::Damaged { .. } | CacheError::KeyUnavailable { .. })
}

#[cfg(test)]
mod tests;
