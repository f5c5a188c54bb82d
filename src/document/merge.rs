//! Another document taken in whole, by the rules of the polite writer (spec S-C 1.8): what a
//! move between stores does.

use serde_json::{Map, Value};

use crate::cloud::same_cloud;

use super::TokenCacheDocument;
use super::edit::inherit;
use super::entity::{Entity, Section};
use super::realm::same_realm;

impl TokenCacheDocument {
    /// Takes in every entry of the other document. Of two that stand for one thing the newer one
    /// stays, because two would make .NET and Node fail (spec S-C 1.6, 1.7); what only one of two
    /// accounts knows is kept. Sections and members that nobody knows are taken over, too, where
    /// there are none of that name.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (name, theirs) in &other.root {
            let known = Section::ALL.into_iter().find(|section| section.as_str() == name);
            match (known, theirs) {
                (Some(section), Value::Object(entries)) => {
                    for (key, entry) in entries {
                        changed |= self.merge_entry(section, key, entry);
                    }
                }
                (_, theirs) => changed |= fill_in(&mut self.root, name, theirs),
            }
        }
        changed
    }

    /// Removes entries that are still as in the other document.
    pub(super) fn remove_moved(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for section in Section::ALL {
            let theirs = other.root.get(section.as_str());
            changed |= self.remove_where(section, |key, own| {
                theirs.and_then(|theirs| theirs.get(key)?.as_object()) == Some(own.0)
            });
        }
        changed
    }

    fn merge_entry(&mut self, section: Section, key: &str, entry: &Value) -> bool {
        let Value::Object(members) = entry else {
            let sections = self.root.entry(section.as_str()).or_insert_with(|| Value::Object(Map::new()));
            return sections.as_object_mut().is_some_and(|entries| fill_in(entries, key, entry));
        };
        let theirs = Entity(members);
        let rivals: Vec<(String, bool)> = self
            .entities(section)
            .filter(|(own_key, own)| *own_key == key || stand_for_one(section, *own, theirs))
            .map(|(own_key, own)| (own_key.to_owned(), is_newer(section, theirs, own)))
            .collect();
        match (rivals.as_slice(), section) {
            ([], _) => self.append(section, key.to_owned(), members.clone()),
            // two accounts are no rivals: each library adds what it knows
            ([(own_key, _), ..], Section::Account | Section::AppMetadata) => {
                self.entry_mut(section, own_key).is_some_and(|own| {
                    let before = own.len();
                    inherit(own, members, &[]);
                    own.len() != before
                })
            }
            (rivals, _) if rivals.iter().all(|(_, is_older)| *is_older) => {
                let goes = |own_key: &str| rivals.iter().any(|(rival, _)| rival == own_key);
                let removed = self.remove_where(section, |own_key, _| goes(own_key));
                self.append(section, key.to_owned(), members.clone()) | removed
            }
            _ => false,
        }
    }
}

/// Puts the value there if nothing is.
fn fill_in(root: &mut Map<String, Value>, name: &str, value: &Value) -> bool {
    let is_missing = root.get(name).is_none_or(Value::is_null) && !value.is_null();
    if is_missing {
        root.insert(name.to_owned(), value.clone());
    }
    is_missing
}

/// Whether a reader that asks for the one might be given the other.
fn stand_for_one(section: Section, one: Entity<'_>, other: Entity<'_>) -> bool {
    let home = one.home_account_id();
    let same_cloud = match (one.environment(), other.environment()) {
        (Some(one), Some(other)) => same_cloud(one, other),
        _ => false,
    };
    let same_client = match (one.client_id(), other.client_id()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    };
    let same_realm = || match (home, one.realm(), other.realm()) {
        (Some(home), Some(one), Some(other)) => same_realm(home, one, other),
        _ => false,
    };
    if !same_cloud {
        return false;
    }
    if matches!(section, Section::AppMetadata) {
        return same_client;
    }
    if home.is_none() || home != other.home_account_id() {
        return false;
    }
    match section {
        Section::AccessToken => {
            one.is_plain_access_token()
                && other.is_plain_access_token()
                && same_client
                && one.token_type().eq_ignore_ascii_case(other.token_type())
                && same_realm()
                && one.scopes().any(|scope| other.scopes().any(|also| also.eq_ignore_ascii_case(scope)))
        }
        Section::Account => one.is_account() && other.is_account() && same_realm(),
        Section::AppMetadata => same_client,
        Section::IdToken => one.is_id_token() && other.is_id_token() && same_client && same_realm(),
        Section::RefreshToken => {
            one.is_plain_refresh_token() && other.is_plain_refresh_token() && same_client
        }
    }
}

/// Without a time that says so nothing is newer: what is there stays.
fn is_newer(section: Section, theirs: Entity<'_>, own: Entity<'_>) -> bool {
    let field = match section {
        Section::AccessToken => "expires_on",
        Section::RefreshToken => "last_modification_time",
        Section::Account | Section::AppMetadata | Section::IdToken => return false,
    };
    theirs.time(field).unwrap_or_default() > own.time(field).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Change, ChangeSet};
    use super::*;

    fn refresh_token(key: &str, environment: &str, secret: &str, written: i64) -> Value {
        json!({ key: {
            "credential_type": "RefreshToken", "home_account_id": "u.t", "environment": environment,
            "client_id": "c", "secret": secret, "last_modification_time": written.to_string(),
        }})
    }

    fn document(value: &Value) -> TokenCacheDocument {
        TokenCacheDocument::parse(value.to_string().as_bytes()).unwrap()
    }

    fn merged(into: &Value, from: &Value) -> Value {
        let mut into = document(into);
        let change = ChangeSet::of(Change::Merge(Box::new(document(from))));
        into.apply(&change);
        assert!(!into.apply(&change), "a second time changes nothing");
        serde_json::from_slice(&into.to_bytes()).unwrap()
    }

    #[test]
    fn the_newer_of_two_refresh_tokens_stays_whatever_its_key_and_alias() {
        let old = json!({"RefreshToken": refresh_token("a", "login.windows.net", "old", 1)});
        let new = json!({"RefreshToken": refresh_token("b", "login.microsoftonline.com", "new", 2)});
        assert_eq!(merged(&old, &new), new);
        assert_eq!(merged(&new, &old), new);
    }

    #[test]
    fn everybody_elses_entries_and_unknown_members_are_kept_and_taken_over() {
        let own = json!({
            "RefreshToken": refresh_token("a", "login.microsoftonline.us", "other cloud", 1),
            "Mine": {"x": 1},
        });
        let theirs = json!({
            "RefreshToken": refresh_token("b", "login.microsoftonline.com", "theirs", 1),
            "Mine": {"x": 2},
            "Theirs": [1],
        });
        let all = merged(&own, &theirs);
        assert_eq!(all["RefreshToken"].as_object().unwrap().len(), 2);
        assert_eq!(all["Mine"], json!({"x": 1}));
        assert_eq!(all["Theirs"], json!([1]));
    }

    #[test]
    fn what_was_moved_goes_unless_it_changed_meanwhile() {
        let moved = json!({"RefreshToken": {
            "a": refresh_token("a", "login.microsoftonline.com", "old", 1)["a"],
            "b": refresh_token("b", "login.microsoftonline.us", "kept", 1)["b"],
        }});
        let mut now = document(&moved);
        let newer = json!({"RefreshToken": refresh_token("a", "login.microsoftonline.com", "new", 2)});
        now.apply(&ChangeSet::of(Change::Merge(Box::new(document(&newer)))));
        now.apply(&ChangeSet::of(Change::RemoveMoved(Box::new(document(&moved)))));
        assert_eq!(serde_json::from_slice::<Value>(&now.to_bytes()).unwrap(), newer);
    }

    #[test]
    fn an_account_gains_what_only_the_other_document_knows() {
        let account = |extra: (&str, &str)| {
            json!({"Account": {"k": {
                "home_account_id": "u.t", "environment": "login.microsoftonline.com", "realm": "t",
                "local_account_id": "u", "username": "n", "authority_type": "MSSTS", extra.0: extra.1,
            }}})
        };
        let all = merged(&account(("name", "N")), &account(("client_info", "i")));
        let entry = &all["Account"]["k"];
        assert_eq!((&entry["name"], &entry["client_info"]), (&json!("N"), &json!("i")));
    }
}
