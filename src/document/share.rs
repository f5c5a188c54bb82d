//! One account's sign-in taken out of one document and into another, by the rules of the polite
//! writer (spec S-C 1.7 and 1.8): what sharing between tools does.

use serde_json::{Map, Value};

use crate::cloud::preferred_cache;
use crate::record::jwt_claims;
use crate::time::UnixTime;

use super::edit::{inherit, set};
use super::entity::{Entity, Section};
use super::find::newest_first;
use super::realm::same_realm;
use super::{TokenCacheDocument, key};

/// Whose sign-in, as the document that it goes into spells the environment.
struct Owner<'a> {
    home_account_id: &'a str,
    environment: &'a str,
}

impl Owner<'_> {
    fn owns(&self, entity: Entity<'_>) -> bool {
        entity.is_of(self.home_account_id) && entity.is_in_cloud_of(self.environment)
    }

    fn is_one_realm(&self, one: Entity<'_>, other: Entity<'_>) -> bool {
        match (one.realm(), other.realm()) {
            (Some(one), Some(other)) => same_realm(self.home_account_id, one, other),
            _ => false,
        }
    }
}

impl TokenCacheDocument {
    /// What another tool needs to sign the account in without a person: its account entries, and
    /// of each client the newest refresh token, the ID tokens and what is known of its family.
    ///
    /// `environment` is any host of the account's cloud; no `clients` means all of them. Access
    /// tokens stay where they are, because those for continuous access evaluation must not come
    /// to a cache without it (spec S-C 2.1). Nothing is left of an account without an entry of
    /// its own, or of clients without a refresh token.
    ///
    /// Meant for [`super::Change::Share`]: no null, no number, nothing twice.
    #[must_use]
    pub fn extract(&self, home_account_id: &str, environment: &str, clients: &[&str]) -> Self {
        let mut sign_in = Self::default();
        let Some(own) = self.spelling(home_account_id, environment) else {
            return sign_in;
        };
        let owner = Owner { home_account_id, environment: &own };
        let is_wanted = |entity: Entity<'_>| {
            clients.is_empty() || clients.iter().any(|client| entity.is_for_client(client))
        };
        let refresh_tokens = self
            .entities(Section::RefreshToken)
            .map(|(_, entity)| entity)
            .filter(|entity| owner.owns(*entity) && entity.is_plain_refresh_token() && is_wanted(*entity))
            .collect();
        // the oldest first, so that the newest stays
        for entity in newest_first(refresh_tokens, |entity| *entity).into_iter().rev() {
            sign_in.take_refresh_token(&owner, entity, self.written(&owner, entity));
        }
        let clients = sign_in.clients();
        if clients.is_empty() {
            return sign_in;
        }
        for (_, entity) in self.entities(Section::Account).filter(|(_, entity)| owner.owns(*entity)) {
            sign_in.take_account(&owner, entity);
        }
        for (_, entity) in self.entities(Section::IdToken).filter(|(_, entity)| owner.owns(*entity)) {
            if clients.iter().any(|client| entity.is_for_client(client)) {
                sign_in.take_id_token(&owner, entity);
            }
        }
        for client in &clients {
            sign_in.set_family(&owner, client, self.family_of(&owner, client).as_deref());
        }
        sign_in
    }

    /// Takes in what was [extracted](Self::extract). A refresh token takes the place of the client's
    /// own unless that is known to be newer; the account's spelling of the environment is kept.
    pub(super) fn share(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for account in other.accounts() {
            let sign_in = other.extract(&account.home_account_id, &account.environment, &[]);
            let environment = self
                .spelling(&account.home_account_id, &account.environment)
                .unwrap_or_else(|| preferred_cache(&account.environment));
            let owner = Owner { home_account_id: &account.home_account_id, environment: &environment };
            changed |= self.take_sign_in(&owner, &sign_in);
        }
        changed
    }

    fn take_sign_in(&mut self, owner: &Owner<'_>, sign_in: &Self) -> bool {
        let mut changed = false;
        let clients = sign_in.clients();
        if clients.is_empty() {
            return false;
        }
        for (_, entity) in sign_in.entities(Section::Account) {
            changed |= self.take_account(owner, entity);
        }
        for (_, entity) in sign_in.entities(Section::RefreshToken) {
            let is_taken = self.take_refresh_token(owner, entity, sign_in.written(owner, entity));
            changed |= is_taken;
            let client = entity.client_id().unwrap_or_default();
            if is_taken || !self.entities(Section::AppMetadata).any(|(_, own)| is_about(own, owner, client)) {
                changed |= self.set_family(owner, client, sign_in.family_of(owner, client).as_deref());
            }
        }
        for (_, entity) in sign_in.entities(Section::IdToken) {
            changed |= self.take_id_token(owner, entity);
        }
        for client in &clients {
            changed |=
                self.keep_one(Section::AppMetadata, owner.environment, |own| is_about(own, owner, client)).1;
        }
        changed
    }

    /// One per realm; of what is there nothing is changed, only added to.
    fn take_account(&mut self, owner: &Owner<'_>, theirs: Entity<'_>) -> bool {
        let (Some(realm), true) = (theirs.realm(), theirs.is_account()) else { return false };
        let is_this =
            |own: Entity<'_>| owner.owns(own) && own.is_account() && owner.is_one_realm(own, theirs);
        let (kept, changed) = self.keep_one(Section::Account, owner.environment, is_this);
        let entry = in_text(theirs, &["environment"]);
        if let Some(own) = kept.as_deref().and_then(|key| self.entry_mut(Section::Account, key)) {
            let before = own.len();
            inherit(own, &entry, &[]);
            return changed | (own.len() != before);
        }
        let key = key::account(owner.home_account_id, owner.environment, realm);
        self.append(Section::Account, key, with_environment(entry, owner)) | changed
    }

    /// Exactly one per client and realm: Node deletes both of two (spec S-C 1.7).
    fn take_id_token(&mut self, owner: &Owner<'_>, theirs: Entity<'_>) -> bool {
        let (Some(client), Some(realm), true) = (theirs.client_id(), theirs.realm(), theirs.is_id_token())
        else {
            return false;
        };
        let is_this = |own: Entity<'_>| {
            owner.owns(own)
                && own.is_id_token()
                && own.is_for_client(client)
                && owner.is_one_realm(own, theirs)
        };
        let (kept, changed) = self.keep_one(Section::IdToken, owner.environment, is_this);
        if let Some(own) = kept.as_deref().and_then(|key| self.entry_mut(Section::IdToken, key)) {
            let is_newer = issued_at(theirs) > issued_at(Entity(own));
            let secret = theirs.secret().filter(|_| is_newer);
            return secret.is_some_and(|secret| set(own, "secret", secret)) | changed;
        }
        let key = key::id_token(owner.home_account_id, owner.environment, client, realm);
        let entry = with_environment(in_text(theirs, &["environment"]), owner);
        self.append(Section::IdToken, key, entry) | changed
    }

    /// One per client, last in the file, under the one key that all five accept (spec S-C 1.4).
    fn take_refresh_token(
        &mut self,
        owner: &Owner<'_>,
        theirs: Entity<'_>,
        written: Option<UnixTime>,
    ) -> bool {
        let Some(client) = theirs.client_id() else { return false };
        let is_earlier =
            |own: Entity<'_>| owner.owns(own) && own.is_for_client(client) && own.is_plain_refresh_token();
        let earlier: Vec<_> =
            self.entities(Section::RefreshToken).map(|(_, own)| own).filter(|own| is_earlier(*own)).collect();
        let is_newer = |own: &Entity<'_>| match (self.written(owner, *own), written) {
            (Some(own), Some(theirs)) => own > theirs,
            _ => false,
        };
        let is_same =
            |own: &Entity<'_>| own.secret() == theirs.secret() && own.family_id() == theirs.family_id();
        match earlier.as_slice() {
            [own] if is_newer(own) || is_same(own) => return false,
            several if several.iter().any(is_newer) => return false,
            _ => {}
        }
        // `target` is Python's alone, and makes .NET and Python disagree about the key
        let mut entry = with_environment(in_text(theirs, &["environment", "target"]), owner);
        if let Some(written) = written {
            entry.insert("last_modification_time".to_owned(), Value::String(written.to_string()));
        }
        let key = key::refresh_token(owner.home_account_id, owner.environment, client);
        self.replace(Section::RefreshToken, key, entry, is_earlier)
    }

    /// Exactly one per client, since two make every refresh of Node's fail (spec S-C 1.7).
    fn set_family(&mut self, owner: &Owner<'_>, client: &str, family: Option<&str>) -> bool {
        let is_this = |own: Entity<'_>| is_about(own, owner, client);
        let (kept, changed) = self.keep_one(Section::AppMetadata, owner.environment, is_this);
        if let Some(own) = kept.as_deref().and_then(|key| self.entry_mut(Section::AppMetadata, key)) {
            return changed
                | match family {
                    Some(family) => set(own, "family_id", family),
                    None => own.shift_remove("family_id").is_some(),
                };
        }
        let mut entry = Map::new();
        entry.insert("client_id".to_owned(), client.into());
        entry.insert("environment".to_owned(), owner.environment.into());
        entry.extend(family.map(|family| ("family_id".to_owned(), family.into())));
        let key = key::app_metadata(owner.environment, client);
        self.append(Section::AppMetadata, key, entry) | changed
    }

    /// As its metadata says, else its refresh token: Node and Java write the one only of members.
    fn family_of(&self, owner: &Owner<'_>, client: &str) -> Option<String> {
        let metadata =
            self.entities(Section::AppMetadata).filter(|(_, entity)| is_about(*entity, owner, client));
        let refresh_tokens = self
            .entities(Section::RefreshToken)
            .filter(|(_, entity)| owner.owns(*entity) && entity.is_for_client(client));
        metadata.chain(refresh_tokens).find_map(|(_, entity)| entity.family_id()).map(str::to_owned)
    }

    /// When the refresh token came: as it says itself, else with its client's latest ID token.
    fn written(&self, owner: &Owner<'_>, refresh_token: Entity<'_>) -> Option<UnixTime> {
        let client = refresh_token.client_id()?;
        refresh_token.time("last_modification_time").or_else(|| {
            self.entities(Section::IdToken)
                .filter(|(_, entity)| owner.owns(*entity) && entity.is_for_client(client))
                .filter_map(|(_, entity)| issued_at(entity))
                .max()
        })
    }

    /// How the account's own entry spells its environment; `None` if there is no such entry.
    fn spelling(&self, home_account_id: &str, environment: &str) -> Option<String> {
        let owner = Owner { home_account_id, environment };
        let mut accounts = self.entities(Section::Account).map(|(_, entity)| entity);
        let found = accounts.find(|entity| owner.owns(*entity) && entity.is_account())?;
        found.environment().map(str::to_owned)
    }

    /// Whose entries there are, for what has to be at hand to share them.
    pub(super) fn home_account_ids(&self) -> impl Iterator<Item = &str> {
        self.entities(Section::Account).filter_map(|(_, entity)| entity.home_account_id())
    }

    /// Which clients' entries there are.
    pub(super) fn client_ids(&self) -> impl Iterator<Item = &str> {
        self.entities(Section::RefreshToken).filter_map(|(_, entity)| entity.client_id())
    }

    /// The clients that it has refresh tokens of.
    fn clients(&self) -> Vec<String> {
        self.client_ids().map(str::to_owned).collect()
    }
}

fn is_about(entity: Entity<'_>, owner: &Owner<'_>, client: &str) -> bool {
    entity.is_for_client(client) && entity.is_in_cloud_of(owner.environment)
}

/// When the provider made the ID token, as it says.
fn issued_at(id_token: Entity<'_>) -> Option<UnixTime> {
    let claims = jwt_claims(id_token.secret()?)?;
    claims.get("iat")?.as_i64().map(UnixTime::from_seconds)
}

/// The entry's members as every library can read them: no null, numbers as text (spec S-C 1.2).
fn in_text(entity: Entity<'_>, except: &[&str]) -> Map<String, Value> {
    let members = entity.0.iter().filter(|(name, _)| !except.contains(&name.as_str()));
    members.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

fn text(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(value.clone()),
        Value::Number(number) => Some(Value::String(number.to_string())),
        // Node's tenant profiles are a list of texts; of other lists and objects nobody knows
        Value::Array(items) if items.iter().all(Value::is_string) => Some(value.clone()),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => None,
    }
}

fn with_environment(mut entry: Map<String, Value>, owner: &Owner<'_>) -> Map<String, Value> {
    entry.insert("environment".to_owned(), owner.environment.into());
    entry
}
