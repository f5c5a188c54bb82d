//! What a reader found in order, and need not check again while the document's head is the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::keys::Blind;
use super::space::{Found, HeadMark};

/// Buckets whose index entries added up to the total in a head. The rows that they name are still
/// opened and compared one by one, so what was changed since in the file is noticed nevertheless.
///
/// For readers only: a writer's new total must not cover up damage.
#[derive(Default)]
pub(super) struct Seen(HashMap<Blind, Part>);

struct Part {
    head: HeadMark,
    buckets: BTreeMap<u8, Arc<[Found]>>,
}

impl Seen {
    pub(super) fn bucket(&self, space: &Blind, head: &HeadMark, bucket: u8) -> Option<Arc<[Found]>> {
        let part = self.0.get(space).filter(|part| part.head == *head)?;
        part.buckets.get(&bucket).cloned()
    }

    pub(super) fn keep(&mut self, space: Blind, head: HeadMark, bucket: u8, found: Arc<[Found]>) {
        let part = self.0.entry(space).or_insert_with(|| Part { head, buckets: BTreeMap::new() });
        if part.head != head {
            *part = Part { head, buckets: BTreeMap::new() };
        }
        part.buckets.insert(bucket, found);
    }
}
