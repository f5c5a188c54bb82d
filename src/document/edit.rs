//! Edits of sections and entries that keep what others wrote, and leave no secret in memory.

use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::TokenCacheDocument;
use super::entity::{Entity, Section};
use super::json::wipe_members;

impl TokenCacheDocument {
    /// Removes entries, their order kept and their secrets overwritten.
    pub(super) fn remove_where(
        &mut self,
        section: Section,
        is_to_go: impl Fn(&str, Entity<'_>) -> bool,
    ) -> bool {
        let Some(entries) = self.root.get_mut(section.as_str()).and_then(Value::as_object_mut) else {
            return false;
        };
        let before = entries.len();
        entries.retain(|key, value| match value {
            Value::Object(members) if is_to_go(key, Entity(members)) => {
                wipe_members(members);
                false
            }
            _ => true,
        });
        entries.len() != before
    }

    /// Puts an entry at the section's end in place of all that it replaces.
    pub(super) fn replace(
        &mut self,
        section: Section,
        key: String,
        mut entry: Map<String, Value>,
        is_replaced: impl Fn(Entity<'_>) -> bool,
    ) -> bool {
        let mut replaced = self.entities(section).filter(|(_, entity)| is_replaced(*entity));
        let (first, second) = (replaced.next(), replaced.next());
        if second.is_none() && first.is_some_and(|(_, found)| *found.0 == entry) {
            drop(replaced);
            wipe_members(&mut entry);
            return false;
        }
        drop(replaced);
        let changed = self.remove_where(section, |_, entity| is_replaced(entity));
        self.append(section, key, entry) | changed
    }

    /// Of several copies of one thing one stays, with members that only others have: the one under
    /// the account's own environment, because the library that wrote that one will look there.
    pub(super) fn keep_one(
        &mut self,
        section: Section,
        environment: &str,
        is_copy: impl Fn(Entity<'_>) -> bool,
    ) -> (Option<String>, bool) {
        let mut copies: Vec<String> = Vec::new();
        let mut preferred = None;
        for (key, entity) in self.entities(section).filter(|(_, entity)| is_copy(*entity)) {
            if preferred.is_none() && entity.environment() == Some(environment) {
                preferred = Some(copies.len());
            }
            copies.push(key.to_owned());
        }
        if copies.is_empty() {
            return (None, false);
        }
        let kept = copies.remove(preferred.unwrap_or(0));
        for key in &copies {
            let Some(entries) = self.entries_mut(section) else {
                continue;
            };
            let Some(Value::Object(mut copy)) = entries.shift_remove(key) else {
                continue;
            };
            if let Some(Value::Object(entry)) = entries.get_mut(&kept) {
                inherit(entry, &copy, &[]);
            }
            wipe_members(&mut copy);
        }
        (Some(kept), !copies.is_empty())
    }

    pub(super) fn append(
        &mut self,
        section: Section,
        mut key: String,
        mut entry: Map<String, Value>,
    ) -> bool {
        let Some(entries) = self.entries_mut(section) else {
            // Damaged content is left alone even if that costs us the entry (spec S-C 1.8).
            tracing::warn!(section = section.as_str(), "section is not an object; entry not saved");
            wipe_members(&mut entry);
            return false;
        };
        // Whatever stands under our key and is not ours to replace stays; no key is ever read.
        while entries.contains_key(&key) {
            key.push('-');
        }
        entries.insert(key, Value::Object(entry));
        true
    }

    /// A section to write into, made if there is none; `None` if its place is taken.
    fn entries_mut(&mut self, section: Section) -> Option<&mut Map<String, Value>> {
        let value = self.root.entry(section.as_str()).or_insert(Value::Null);
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut()
    }

    pub(super) fn entry_mut(&mut self, section: Section, key: &str) -> Option<&mut Map<String, Value>> {
        self.root.get_mut(section.as_str())?.get_mut(key)?.as_object_mut()
    }
}

/// Members in the order given, all of them text (spec S-C 1.2).
pub(super) fn members(fields: Vec<(&str, String)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect()
}

/// Takes over members that `entry` does not have.
pub(super) fn inherit(entry: &mut Map<String, Value>, from: &Map<String, Value>, except: &[&str]) {
    for (name, value) in from {
        if !value.is_null() && !except.contains(&name.as_str()) && !entry.contains_key(name) {
            entry.insert(name.clone(), value.clone());
        }
    }
}

/// Sets a member where it stands; tells whether that made a difference.
pub(super) fn set(entry: &mut Map<String, Value>, field: &str, text: &str) -> bool {
    if entry.get(field).and_then(Value::as_str) == Some(text) {
        return false;
    }
    if let Some(Value::String(mut old)) = entry.insert(field.to_owned(), Value::from(text)) {
        old.zeroize();
    }
    true
}
