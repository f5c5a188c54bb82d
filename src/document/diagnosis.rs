//! Finding what is wrong with a document (spec S-C 1.2 to 1.8).

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value};

use super::defect::{DefectKind, EntryPlace};
use super::entity::{Entity, Section};
use super::find::{LONGEST_VALIDITY, is_oidc};
use super::realm::home_tenant;
use super::remedy::Remedy;
use super::{TokenCacheDocument, key};
use crate::cloud::preferred_cache;
use crate::record::jwt_claims;
use crate::time::UnixTime;

/// One thing that is wrong, and what would help.
pub(super) struct Fault {
    pub(super) kind: DefectKind,
    pub(super) entries: Vec<EntryPlace>,
    pub(super) remedy: Remedy,
}

/// Clocks of two machines may differ by so much, as Entra ID allows, too.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// How long Entra ID keeps a refresh token that nobody uses.
const LONGEST_REST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Members that every library keeps as text. Others may have any type.
const TEXT: [&str; 30] = [
    "account_source",
    "authority_type",
    "cached_at",
    "client_id",
    "client_info",
    "credential_type",
    "environment",
    "expires_on",
    "ext_cache_key",
    "ext_expires_on",
    "extended_expires_on",
    "family_id",
    "family_name",
    "given_name",
    "home_account_id",
    "key_id",
    "keyid",
    "kid",
    "last_modification_time",
    "local_account_id",
    "middle_name",
    "name",
    "realm",
    "refresh_on",
    "secret",
    "target",
    "token_type",
    "userAssertionHash",
    "user_assertion_hash",
    "username",
];

/// Members without which no reader can use an entry (spec S-C 1.3). An app's own access token
/// belongs to nobody, and a target may be empty.
const fn required(section: Section) -> &'static [&'static str] {
    match section {
        Section::AccessToken => &["environment", "client_id", "realm", "secret"],
        Section::Account => &["home_account_id", "environment"],
        Section::AppMetadata => &["client_id", "environment"],
        Section::IdToken => &["home_account_id", "environment", "client_id", "realm", "secret"],
        Section::RefreshToken => &["home_account_id", "environment", "client_id", "secret"],
    }
}

/// The credential types that a section may hold, the usual one first.
const fn credential_types(section: Section) -> &'static [&'static str] {
    match section {
        Section::AccessToken => &["AccessToken", "AccessToken_With_AuthScheme", "ATExt"],
        Section::IdToken => &["IdToken"],
        Section::RefreshToken => &["RefreshToken"],
        Section::Account | Section::AppMetadata => &[],
    }
}

impl TokenCacheDocument {
    /// Everything that is wrong at this moment.
    pub(super) fn faults(&self, now: UnixTime) -> Vec<Fault> {
        let mut faults = Faults { document: self, now, usernames: OnceCell::new(), found: Vec::new() };
        if self.is_marked() {
            faults.add(DefectKind::ByteOrderMark, Vec::new(), Remedy::Rewrite);
        }
        for section in Section::ALL {
            faults.of_section(section);
        }
        faults.of_access_tokens();
        faults.of_refresh_tokens();
        faults.of_id_tokens();
        faults.of_accounts();
        faults.of_clients();
        faults.found
    }
}

struct Faults<'a> {
    document: &'a TokenCacheDocument,
    now: UnixTime,
    /// By account and cloud; looked for only where one is missing.
    usernames: OnceCell<HashMap<(String, String), String>>,
    found: Vec<Fault>,
}

impl<'a> Faults<'a> {
    fn add(&mut self, kind: DefectKind, entries: Vec<EntryPlace>, remedy: Remedy) {
        self.found.push(Fault { kind, entries, remedy });
    }

    fn add_one(&mut self, kind: DefectKind, section: Section, key: &str, remedy: Remedy) {
        self.add(kind, vec![EntryPlace::new(section.as_str(), key)], remedy);
    }

    /// Of several entries for one thing the first stays; it takes over what only the others have.
    fn add_copies(&mut self, kind: DefectKind, section: Section, copies: &[&str]) {
        if let [kept, _, ..] = copies {
            let entries = copies.iter().map(|key| EntryPlace::new(section.as_str(), key)).collect();
            self.add(kind, entries, Remedy::MergeInto((*kept).to_owned()));
        }
    }

    fn of_section(&mut self, section: Section) {
        match self.document.root().get(section.as_str()) {
            None => {}
            Some(Value::Null) => self.add_one(DefectKind::NullValue, section, "", Remedy::EmptySection),
            Some(Value::Object(entries)) => {
                for (key, entry) in entries {
                    match entry {
                        Value::Null => self.add_one(DefectKind::NullValue, section, key, Remedy::Remove),
                        Value::Object(members) => self.of_entry(section, key, members),
                        _ => self.add_one(DefectKind::EntryMalformed, section, key, Remedy::SetAside),
                    }
                }
            }
            Some(_) => self.add_one(DefectKind::SectionMalformed, section, "", Remedy::EmptySection),
        }
    }

    fn of_entry(&mut self, section: Section, key: &str, members: &Map<String, Value>) {
        if !is_complete(section, members) {
            self.add_one(DefectKind::EntryIncomplete, section, key, Remedy::SetAside);
            return;
        }
        let (mut nulls, mut numbers, mut malformed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in members {
            let is_text = TEXT.contains(&name.as_str());
            match value {
                Value::Null => nulls.push((name.clone(), None)),
                _ if name == "tenantProfiles" && !is_list_of_texts(value) => malformed.push(name.clone()),
                Value::Number(number) if is_text => numbers.push((name.clone(), Some(in_text(number)))),
                Value::Array(_) | Value::Bool(_) | Value::Object(_) if is_text => {
                    malformed.push(name.clone());
                }
                _ => {}
            }
        }
        if !nulls.is_empty() {
            self.add_one(DefectKind::NullValue, section, key, Remedy::SetMembers(nulls));
        }
        if !numbers.is_empty() {
            self.add_one(DefectKind::NumberValue, section, key, Remedy::SetMembers(numbers));
        }
        if !malformed.is_empty() {
            self.add_one(DefectKind::FieldMalformed, section, key, Remedy::Strip(malformed));
        }
        self.of_credential_type(section, key, Entity(members));
        if section == Section::Account {
            self.of_account(key, Entity(members));
        }
    }

    fn of_credential_type(&mut self, section: Section, key: &str, entity: Entity<'_>) {
        let [usual, ..] = credential_types(section) else {
            return;
        };
        let found = entity.text("credential_type").unwrap_or_default();
        let same = |known: &&&str| known.eq_ignore_ascii_case(found);
        let meant = credential_types(section).iter().find(same).or_else(|| found.is_empty().then_some(usual));
        match meant {
            Some(meant) if *meant == found => {}
            Some(meant) => {
                let member = ("credential_type".to_owned(), Some((*meant).to_owned()));
                let remedy = Remedy::SetMembers(vec![member]);
                self.add_one(DefectKind::CredentialTypeMisspelled, section, key, remedy);
            }
            None => self.add_one(DefectKind::CredentialTypeUnknown, section, key, Remedy::None),
        }
    }

    /// Python lists accounts of known authority types only, and where one has no name it finds none
    /// by theirs. What is missing follows from the rest.
    fn of_account(&mut self, key: &str, entity: Entity<'_>) {
        let is_missing = |field: &str| match entity.0.get(field) {
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(_)) => false,
            _ => true,
        };
        let home = entity.home_account_id().unwrap_or_default();
        let tenant = home_tenant(home);
        let is_adfs = entity.realm().map_or(tenant.is_none(), |realm| realm.eq_ignore_ascii_case("adfs"));
        let local = home.split_once('.').map_or(home, |(uid, _)| uid);
        let known = [
            ("realm", tenant.unwrap_or("adfs")),
            ("local_account_id", local),
            ("authority_type", if is_adfs { "ADFS" } else { "MSSTS" }),
        ];
        let missing = known.into_iter().filter(|(field, _)| is_missing(field));
        let mut members: Vec<_> =
            missing.map(|(field, text)| (field.to_owned(), Some(text.to_owned()))).collect();
        if !entity.0.contains_key("username") {
            let usernames = self.usernames.get_or_init(|| self.document.usernames());
            let username = usernames.get(&(home.to_owned(), cloud(entity))).cloned();
            members.push(("username".to_owned(), Some(username.unwrap_or_default())));
        }
        if !members.is_empty() {
            let remedy = Remedy::SetMembers(members);
            self.add_one(DefectKind::AccountIncomplete, Section::Account, key, remedy);
        }
    }

    fn complete(&self, section: Section) -> impl Iterator<Item = (&'a str, Entity<'a>)> + use<'a> {
        self.document.entities(section).filter(move |(_, entity)| is_complete(section, entity.0))
    }

    fn is_ahead(&self, time: Option<UnixTime>) -> bool {
        time.is_some_and(|time| time > self.now.after(CLOCK_TOLERANCE))
    }

    fn of_access_tokens(&mut self) {
        let section = Section::AccessToken;
        let has_users = self.document.entities(Section::Account).next().is_some();
        let mut groups: HashMap<_, Vec<(&str, Entity<'_>)>> = HashMap::new();
        for (key, entity) in self.complete(section) {
            let expires_on = entity.time("expires_on").unwrap_or_default();
            if expires_on <= self.now {
                self.add_one(DefectKind::AccessTokenExpired, section, key, Remedy::Remove);
            }
            if expires_on > self.now.after(LONGEST_VALIDITY) {
                self.add_one(DefectKind::ExpiryAbsurd, section, key, Remedy::SetAside);
            }
            if self.is_ahead(entity.time("cached_at")) {
                let member = ("cached_at".to_owned(), Some(self.now.to_string()));
                self.add_one(DefectKind::FromTheFuture, section, key, Remedy::SetMembers(vec![member]));
            }
            let home = entity.home_account_id().unwrap_or_default();
            if home.is_empty() && has_users {
                self.add_one(DefectKind::AppTokenAmongUsers, section, key, Remedy::None);
            }
            if entity.is_plain_access_token() {
                let group = (home, whose(entity), lower(entity.realm()), entity.token_type().to_lowercase());
                groups.entry(group).or_default().push((key, entity));
            }
        }
        let mut overlaps: Vec<_> = groups.into_values().flat_map(|group| overlapping(&group)).collect();
        overlaps.sort();
        for (kept, superseded) in overlaps {
            let all = [kept].into_iter().chain(superseded.iter().copied());
            let entries = all.map(|key| EntryPlace::new(section.as_str(), key)).collect();
            let remove = Remedy::RemoveOthers(kept.to_owned());
            self.add(DefectKind::AccessTokensOverlap, entries, remove);
        }
    }

    fn of_refresh_tokens(&mut self) {
        let section = Section::RefreshToken;
        let accounts: HashSet<_> = self
            .complete(Section::Account)
            .map(|(_, entity)| (entity.home_account_id(), cloud(entity)))
            .collect();
        for (key, entity) in self.complete(section) {
            let written = entity.time("last_modification_time");
            if self.is_ahead(written) {
                let member = ("last_modification_time".to_owned(), Some(self.now.to_string()));
                self.add_one(DefectKind::FromTheFuture, section, key, Remedy::SetMembers(vec![member]));
            }
            if written.is_some_and(|written| written.until(self.now) > LONGEST_REST) {
                self.add_one(DefectKind::RefreshTokenOld, section, key, Remedy::None);
            }
            if !entity.is_on_behalf_of() && !accounts.contains(&(entity.home_account_id(), cloud(entity))) {
                self.add_one(DefectKind::RefreshTokenWithoutAccount, section, key, Remedy::None);
            }
        }
        for group in self.document.refresh_tokens_by_client() {
            if let [(_, newest, _), _, ..] = group.as_slice() {
                let entries =
                    group.iter().map(|(_, key, _)| EntryPlace::new(section.as_str(), key)).collect();
                let remedy = Remedy::RemoveOthers((*newest).to_owned());
                self.add(DefectKind::RefreshTokenDuplicate, entries, remedy);
            }
        }
    }

    /// The one that was issued last stays.
    fn of_id_tokens(&mut self) {
        let mut groups: Grouped<'a, _> = Grouped::new();
        for (key, entity) in self.complete(Section::IdToken) {
            groups.add((entity.home_account_id(), whose(entity), lower(entity.realm())), key, entity);
        }
        let issued = |entity: Entity<'_>| {
            let claims = entity.secret().and_then(jwt_claims);
            claims.and_then(|claims| claims.get("iat")?.as_i64()).unwrap_or_default()
        };
        for mut copies in groups.of_several() {
            copies.reverse();
            copies.sort_by_cached_key(|(_, entity)| Reverse(issued(*entity)));
            let keys: Vec<&str> = copies.iter().map(|(key, _)| *key).collect();
            self.add_copies(DefectKind::IdTokenDuplicate, Section::IdToken, &keys);
        }
    }

    fn of_accounts(&mut self) {
        let section = Section::Account;
        let spoken_for: HashMap<_, &str> = self
            .complete(Section::RefreshToken)
            .map(|(_, entity)| {
                ((entity.home_account_id(), cloud(entity)), entity.environment().unwrap_or_default())
            })
            .collect();
        let mut groups: Grouped<'a, _> = Grouped::new();
        for (key, entity) in self.complete(section) {
            let owner = (entity.home_account_id(), cloud(entity));
            if !spoken_for.contains_key(&owner) {
                self.add_one(DefectKind::AccountWithoutRefreshToken, section, key, Remedy::None);
            }
            groups.add((owner, lower(entity.realm())), key, entity);
        }
        for mut copies in groups.of_several() {
            // the library that wrote the refresh token will look under its own alias
            copies.sort_by_key(|(_, entity)| {
                let owner = (entity.home_account_id(), cloud(*entity));
                spoken_for.get(&owner).copied() != entity.environment()
            });
            let keys: Vec<&str> = copies.iter().map(|(key, _)| *key).collect();
            self.add_copies(DefectKind::AccountDuplicate, section, &keys);
        }
    }

    fn of_clients(&mut self) {
        let section = Section::AppMetadata;
        let mut groups: Grouped<'a, _> = Grouped::new();
        for (key, entity) in self.complete(section) {
            groups.add(whose(entity), key, entity);
        }
        let mut of_family: HashMap<_, Entity<'_>> = HashMap::new();
        let mut written_as = HashMap::new();
        for (_, entity) in self.complete(Section::RefreshToken) {
            if entity.is_on_behalf_of() {
                continue;
            }
            written_as.insert(whose(entity), entity.environment());
            if entity.family_id().is_some() {
                of_family.insert(whose(entity), entity);
            }
        }
        let mut families: Vec<_> = of_family.into_iter().collect();
        families.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (client, token) in families {
            let family = token.family_id().unwrap_or_default();
            match groups.get(&client) {
                None => {
                    let remedy = missing_client(token, family);
                    let place = EntryPlace::new(section.as_str(), &remedy.0);
                    self.add(DefectKind::FamilyMissing, vec![place], Remedy::Add(remedy.1));
                }
                Some(copies) if copies.iter().all(|(_, entity)| entity.family_id().is_none()) => {
                    let member = ("family_id".to_owned(), Some(family.to_owned()));
                    let key = copies[0].0;
                    self.add_one(DefectKind::FamilyMisstated, section, key, Remedy::SetMembers(vec![member]));
                }
                Some(_) => {}
            }
        }
        for mut copies in groups.of_several() {
            copies.sort_by_key(|(_, entity)| {
                let is_alias = written_as.get(&whose(*entity)).copied().flatten() != entity.environment();
                (entity.family_id().is_none(), is_alias)
            });
            let keys: Vec<&str> = copies.iter().map(|(key, _)| *key).collect();
            self.add_copies(DefectKind::AppMetadataDuplicate, section, &keys);
        }
    }
}

/// The entry that Python, .NET and Go write for every client, and its key.
fn missing_client(token: Entity<'_>, family: &str) -> (String, Map<String, Value>) {
    let (client, environment) =
        (token.client_id().unwrap_or_default(), token.environment().unwrap_or_default());
    let members = [("client_id", client), ("environment", environment), ("family_id", family)];
    let members = members.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text))).collect();
    (key::app_metadata(environment, client), members)
}

/// Entries that stand for one thing, in the order of the file.
struct Grouped<'a, K> {
    places: HashMap<K, usize>,
    groups: Vec<Vec<(&'a str, Entity<'a>)>>,
}

impl<'a, K: Eq + std::hash::Hash> Grouped<'a, K> {
    fn new() -> Self {
        Self { places: HashMap::new(), groups: Vec::new() }
    }

    fn add(&mut self, group: K, key: &'a str, entity: Entity<'a>) {
        let place = *self.places.entry(group).or_insert(self.groups.len());
        if place == self.groups.len() {
            self.groups.push(Vec::new());
        }
        self.groups[place].push((key, entity));
    }

    fn get(&self, group: &K) -> Option<&[(&'a str, Entity<'a>)]> {
        self.places.get(group).map(|place| self.groups[*place].as_slice())
    }

    fn of_several(self) -> impl Iterator<Item = Vec<(&'a str, Entity<'a>)>> {
        self.groups.into_iter().filter(|group| group.len() > 1)
    }
}

fn cloud(entity: Entity<'_>) -> String {
    preferred_cache(entity.environment().unwrap_or_default())
}

fn lower(text: Option<&str>) -> String {
    text.unwrap_or_default().to_lowercase()
}

/// Which client's, of which cloud.
fn whose(entity: Entity<'_>) -> (String, String) {
    (cloud(entity), lower(entity.client_id()))
}

/// Whether it has all that a reader needs; a number will do, since it can be mended.
fn is_complete(section: Section, members: &Map<String, Value>) -> bool {
    let is_there = |field: &str| match members.get(field) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Number(_)) => true,
        _ => false,
    };
    let entity = Entity(members);
    let is_usable = section != Section::AccessToken
        || members.get("target").is_some_and(Value::is_string)
            && entity.time("cached_at").is_some()
            && entity.time("expires_on").is_some()
            && entity.home_account_id().is_some();
    is_usable && required(section).iter().all(|field| is_there(field))
}

/// As Node keeps what it knows of an account's tenants.
fn is_list_of_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}

/// A number as the text that it should have been; a time has whole seconds.
fn in_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        // `as` saturates, and no time is so far away
        Some(float) if number.is_f64() => (float as i64).to_string(),
        _ => number.to_string(),
    }
}

/// Of tokens that differ in their scopes alone: each that stays, and those that overlap with it.
/// The one that lasts longest stays, of two the later in the file.
fn overlapping<'a>(group: &[(&'a str, Entity<'a>)]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut newest: Vec<_> = group.iter().rev().collect();
    newest.sort_by_key(|(_, entity)| Reverse(entity.time("expires_on")));
    let mut kept: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (key, entity) in newest {
        let scopes = telling_scopes(*entity);
        match scopes.iter().find_map(|scope| taken.get(scope)) {
            Some(place) => kept[*place].1.push(key),
            None => {
                taken.extend(scopes.into_iter().map(|scope| (scope, kept.len())));
                kept.push((key, Vec::new()));
            }
        }
    }
    kept.retain(|(_, superseded)| !superseded.is_empty());
    kept
}

/// Scopes by which requests differ: those of the sign-in itself count only if there are no others.
fn telling_scopes(entity: Entity<'_>) -> Vec<String> {
    let (oidc, others): (Vec<&str>, Vec<&str>) = entity.scopes().partition(|scope| is_oidc(scope));
    let telling = if others.is_empty() { oidc } else { others };
    telling.into_iter().map(str::to_lowercase).collect()
}
