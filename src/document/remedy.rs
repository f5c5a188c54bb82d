//! Mending what is wrong with a document. Nothing that somebody might still read is thrown away.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::TokenCacheDocument;
use super::defect::EntryPlace;
use super::diagnosis::Fault;
use super::edit::inherit;
use super::entity::{Entity, Section};
use super::json::{wipe, wipe_members};

/// The member under which entries are kept that nobody can read. All libraries carry along members
/// of the top level that they do not know (spec S-C 1.1).
pub(super) const DAMAGED: &str = "Damaged";

/// What helps. Each acts on the entries that the fault names.
#[derive(Clone)]
pub(super) enum Remedy {
    /// This entry is added where the fault says.
    Add(Map<String, Value>),
    /// The section becomes an empty one; what stood in its place is set aside.
    EmptySection,
    /// The entry of this key stays and takes over what only the others have; those go.
    MergeInto(String),
    /// Only a person can help.
    None,
    /// They go.
    Remove,
    /// The entry of this key stays, the others go.
    RemoveOthers(String),
    /// It is enough to write the document.
    Rewrite,
    /// They move to where nobody reads them.
    SetAside,
    /// Members get these texts, or go.
    SetMembers(Vec<(String, Option<String>)>),
    /// The members go; a copy of the whole entry is set aside.
    Strip(Vec<String>),
}

impl TokenCacheDocument {
    /// Carries out the remedies; tells whether anything is different now.
    pub(super) fn remedy(&mut self, faults: &[Fault]) -> bool {
        let mut changed = false;
        for fault in faults {
            changed |= self.remedy_fault(fault);
        }
        self.close_gaps(faults);
        changed
    }

    fn remedy_fault(&mut self, fault: &Fault) -> bool {
        if matches!(fault.remedy, Remedy::Rewrite) {
            return self.unmark();
        }
        let mut changed = false;
        for place in &fault.entries {
            let known = Section::ALL.into_iter().find(|section| section.as_str() == place.section);
            if let Some(section) = known {
                changed |= self.remedy_one(section, &place.key, &fault.remedy);
            }
        }
        changed
    }

    fn remedy_one(&mut self, section: Section, key: &str, remedy: &Remedy) -> bool {
        match remedy {
            Remedy::Add(members) => self.append(section, key.to_owned(), members.clone()),
            Remedy::EmptySection => {
                let empty = Value::Object(Map::new());
                match self.root_mut().insert(section.as_str().to_owned(), empty) {
                    None | Some(Value::Null) => {}
                    Some(other) => self.keep_aside(section, "section", other),
                }
                true
            }
            Remedy::MergeInto(kept) if kept == key => false,
            Remedy::MergeInto(kept) => {
                let Some(mut copy) = self.take(section, key) else {
                    return false;
                };
                if let (Some(entry), Value::Object(copy)) = (self.entry_mut(section, kept), &copy) {
                    inherit(entry, copy, &[]);
                }
                wipe(&mut copy);
                true
            }
            Remedy::None | Remedy::Rewrite => false,
            Remedy::RemoveOthers(kept) if kept == key => false,
            Remedy::Remove | Remedy::RemoveOthers(_) => {
                self.take(section, key).map(|mut entry| wipe(&mut entry)).is_some()
            }
            Remedy::SetAside => {
                self.take(section, key).map(|entry| self.keep_aside(section, key, entry)).is_some()
            }
            Remedy::SetMembers(members) => {
                let Some(entry) = self.entry_mut(section, key) else {
                    return false;
                };
                let gone: HashSet<&String> =
                    members.iter().filter(|(_, text)| text.is_none()).map(|(name, _)| name).collect();
                entry.retain(|name, _| !gone.contains(name));
                for (name, text) in members {
                    if let Some(text) = text {
                        entry.insert(name.clone(), Value::from(text.as_str()));
                    }
                }
                true
            }
            Remedy::Strip(members) => {
                let Some(copy) = self.entry_mut(section, key).map(|entry| entry.clone()) else {
                    return false;
                };
                self.keep_aside(section, key, Value::Object(copy));
                if let Some(entry) = self.entry_mut(section, key) {
                    entry.retain(|name, _| !members.contains(name));
                }
                true
            }
        }
    }

    /// What stands there. The place stays until [`Self::close_gaps`]: to close each gap by itself
    /// would take for ever where there are many.
    fn take(&mut self, section: Section, key: &str) -> Option<Value> {
        Some(self.root_mut().get_mut(section.as_str())?.as_object_mut()?.get_mut(key)?.take())
    }

    /// Removes the places of what was taken.
    fn close_gaps(&mut self, faults: &[Fault]) {
        let gone = faults.iter().flat_map(|fault| {
            let goes = |place: &&EntryPlace| match &fault.remedy {
                Remedy::MergeInto(kept) | Remedy::RemoveOthers(kept) => *kept != place.key,
                Remedy::Remove | Remedy::SetAside => true,
                _ => false,
            };
            fault.entries.iter().filter(goes)
        });
        let gone: HashSet<(&str, &str)> =
            gone.map(|place| (place.section.as_str(), place.key.as_str())).collect();
        for section in Section::ALL {
            if let Some(Value::Object(entries)) = self.root_mut().get_mut(section.as_str()) {
                entries.retain(|key, value| !value.is_null() || !gone.contains(&(section.as_str(), key)));
            }
        }
    }

    /// Keeps it as it is under [`DAMAGED`], in the section's name and under its own key.
    fn keep_aside(&mut self, section: Section, key: &str, value: Value) {
        let mut shelf = DAMAGED.to_owned();
        while self.root().get(&shelf).is_some_and(|taken| !taken.is_object()) {
            shelf.push('-');
        }
        let empty = || Value::Object(Map::new());
        let shelf = self.root_mut().entry(shelf).or_insert_with(empty);
        let Some(sections) = shelf.as_object_mut() else {
            return;
        };
        let entries = sections.entry(section.as_str()).or_insert_with(empty);
        if !entries.is_object() {
            *entries = Value::Object(Map::from_iter([("section".to_owned(), entries.take())]));
        }
        if let Some(entries) = entries.as_object_mut() {
            let mut key = key.to_owned();
            while entries.contains_key(&key) {
                key.push('-');
            }
            entries.insert(key, value);
        }
    }

    /// How many entries were set aside in their time and are still kept.
    #[must_use]
    pub fn set_aside_count(&self) -> usize {
        let sections = self.root().get(DAMAGED).and_then(Value::as_object).into_iter().flatten();
        sections.map(|(_, entries)| entries.as_object().map_or(1, Map::len)).sum()
    }

    /// Whoever signs out takes along what was set aside, too.
    pub(super) fn remove_aside(&mut self, is_to_go: impl Fn(Entity<'_>) -> bool) -> bool {
        let Some(Value::Object(sections)) = self.root_mut().get_mut(DAMAGED) else {
            return false;
        };
        let mut changed = false;
        for entries in sections.values_mut().filter_map(Value::as_object_mut) {
            let before = entries.len();
            entries.retain(|_, value| match value {
                Value::Object(members) if is_to_go(Entity(members)) => {
                    wipe_members(members);
                    false
                }
                _ => true,
            });
            changed |= entries.len() != before;
        }
        sections.retain(|_, entries| !entries.as_object().is_some_and(Map::is_empty));
        if sections.is_empty() {
            self.root_mut().shift_remove(DAMAGED);
        }
        changed
    }
}
