//! Changes applied to whatever stands in the document now.

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};

use super::entity::{Entity, Section};
use super::json::wipe;
use super::remedy::DAMAGED;
use super::{Change, ChangeSet, TokenCacheDocument};

impl TokenCacheDocument {
    /// Applies the changes in their order; tells whether anything is different now.
    ///
    /// Pure and total, and what is there already is not done again: applying the same changes a
    /// second time changes nothing.
    pub fn apply(&mut self, changes: &ChangeSet) -> bool {
        // Several changes may undo each other, and then there is nothing to write.
        let before = (changes.0.len() > 1).then(|| self.clone());
        let mut changed = false;
        for change in &changes.0 {
            changed |= self.apply_one(change);
        }
        changed && before.is_none_or(|before| before != *self)
    }

    fn apply_one(&mut self, change: &Change) -> bool {
        match change {
            Change::Adopt { login, dialect, if_signed_in } => self.adopt(login, *dialect, *if_signed_in),
            Change::Merge(other) => self.merge(other),
            Change::Save(tokens) => self.save(tokens),
            Change::RemoveAccessTokens { home_account_id, environment, client_id } => {
                self.remove_where(Section::AccessToken, |_, entity| {
                    entity.is_of(home_account_id)
                        && entity.is_in_cloud_of(environment)
                        && entity.is_for_client(client_id)
                })
            }
            Change::RemoveAccount { home_account_id, environment, client_id } => {
                self.remove_account(home_account_id, environment, client_id.as_deref())
            }
            Change::RemoveEverything => self.remove_everything(),
            Change::RemoveMoved(other) => self.remove_moved(other),
            Change::RemoveRefreshToken { home_account_id, client_id, secret } => {
                self.remove_where(Section::RefreshToken, |_, entity| {
                    entity.is_of(home_account_id)
                        && entity.is_for_client(client_id)
                        && entity.secret() == Some(secret.expose_secret())
                })
            }
            Change::RemoveStale { now } => self.remove_stale(*now),
            Change::Repair { defect, now } => self.repair(defect, *now),
        }
    }

    /// Spec S-C 1.10: every alias, every key style, also what is damaged; `AppMetadata` stays.
    fn remove_account(&mut self, home_account_id: &str, environment: &str, client_id: Option<&str>) -> bool {
        // An entry that names no cloud at all cannot be another cloud's.
        let is_theirs = |entity: Entity<'_>| {
            entity.is_of(home_account_id)
                && (entity.environment().is_none() || entity.is_in_cloud_of(environment))
        };
        let credentials = [Section::AccessToken, Section::IdToken, Section::RefreshToken];
        let mut changed = false;
        for section in credentials {
            changed |= self.remove_where(section, |_, entity| {
                is_theirs(entity) && client_id.is_none_or(|client| entity.is_for_client(client))
            });
        }
        changed |= self.remove_aside(|entity| {
            is_theirs(entity) && client_id.is_none_or(|client| entity.is_for_client(client))
        });
        let is_left = |section| self.entities(section).any(|(_, entity)| is_theirs(entity));
        if !credentials.into_iter().any(is_left) {
            changed |= self.remove_where(Section::Account, |_, entity| is_theirs(entity));
        }
        changed
    }

    fn remove_everything(&mut self) -> bool {
        let mut changed = self.root.shift_remove(DAMAGED).map(|mut aside| wipe(&mut aside)).is_some();
        for section in Section::ALL {
            let Some(value) = self.root.get_mut(section.as_str()) else {
                continue;
            };
            if !value.as_object().is_some_and(Map::is_empty) {
                wipe(value);
                *value = Value::Object(Map::new());
                changed = true;
            }
        }
        changed
    }
}
