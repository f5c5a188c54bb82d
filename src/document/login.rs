//! One account's sign-in at one client, taken out of one document and put into another: what
//! sharing between tools does (spec S-C 1.7 and 1.8).

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::cloud::{preferred_cache, same_cloud, sign_in_host};
use crate::record::jwt_claims;
use crate::time::UnixTime;

use super::edit::{inherit, members, set};
use super::entity::{Entity, Section};
use super::find::newest_first;
use super::key::Dialect;
use super::realm::{self, same_realm};
use super::save::NOT_INHERITED;
use super::{TokenCacheDocument, accounts};

/// What an account's entry may bring along: what several libraries write, and none for itself only.
const PERSONAL: [&str; 5] = ["name", "given_name", "family_name", "middle_name", "client_info"];

/// A refresh token with all that a tool needs to find and to use it: account, ID tokens, and what
/// is known of the client. No access token: those stay where they are.
///
/// `Debug` shows no secret.
#[derive(Clone)]
pub struct Login {
    home_account_id: String,
    environment: String,
    client_id: String,
    family_id: Option<String>,
    refresh_token: SecretString,
    last_used: UnixTime,
    /// Accounts and ID tokens, as they stood.
    entries: TokenCacheDocument,
    superseded: Vec<SecretString>,
}

impl Login {
    /// Whose it is.
    #[must_use]
    pub fn home_account_id(&self) -> &str {
        &self.home_account_id
    }

    /// The client whose refresh token it is.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The family that may redeem it.
    #[must_use]
    pub fn family_id(&self) -> Option<&str> {
        self.family_id.as_deref()
    }

    /// When it was last seen to work: the latest of all times that its client left in the cache,
    /// since only Python and we date a refresh token itself, and Node keeps our date on its own.
    #[must_use]
    pub const fn last_used(&self) -> UnixTime {
        self.last_used
    }

    /// Whether both hold the same refresh token.
    #[must_use]
    pub fn is_same_token(&self, other: &Self) -> bool {
        self.refresh_token.expose_secret() == other.refresh_token.expose_secret()
    }

    /// The same for another client of its family. An ID token speaks of the client that it was
    /// issued to, so that client gets its own with its first refresh.
    #[must_use]
    pub fn for_family_client(&self, client_id: &str) -> Self {
        let mut login = self.clone();
        if !self.client_id.eq_ignore_ascii_case(client_id) {
            client_id.clone_into(&mut login.client_id);
            login.entries.remove_where(Section::IdToken, |_, _| true);
        }
        login
    }

    /// The same, known to have come after another one, whatever the times say.
    #[must_use]
    pub fn superseding(mut self, older: &Self) -> Self {
        self.superseded.push(older.refresh_token.clone());
        self
    }

    fn owns(&self, entity: Entity<'_>) -> bool {
        entity.is_of(&self.home_account_id)
            && entity.environment().is_some_and(|own| same_cloud(own, &self.environment))
    }

    /// Whether the entry stands where this refresh token would: Go and .NET have one place for all
    /// clients of a family.
    fn displaces(&self, entity: Entity<'_>, dialect: Dialect) -> bool {
        let is_of_family = dialect.has_one_per_family()
            && self.family_id.is_some()
            && entity.family_id() == self.family_id.as_deref();
        self.owns(entity)
            && entity.is_plain_refresh_token()
            && (is_of_family || entity.is_for_client(&self.client_id))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("home_account_id", &self.home_account_id)
            .field("environment", &self.environment)
            .field("client_id", &self.client_id)
            .field("family_id", &self.family_id)
            .field("last_used", &self.last_used)
            .finish_non_exhaustive()
    }
}

impl TokenCacheDocument {
    /// The logins of an account, one for each client that has a refresh token of it, in the order
    /// of the file.
    #[must_use]
    pub fn logins(&self, home_account_id: &str, environment: &str) -> Vec<Login> {
        let mut clients: Vec<&str> = Vec::new();
        for (_, entity) in self.entities(Section::RefreshToken) {
            let Some(client_id) = entity.client_id().filter(|_| entity.is_plain_refresh_token()) else {
                continue;
            };
            let is_known = clients.iter().any(|known| known.eq_ignore_ascii_case(client_id));
            if entity.is_of(home_account_id) && entity.is_in_cloud_of(environment) && !is_known {
                clients.push(client_id);
            }
        }
        let login = |client_id: &str| self.login(home_account_id, environment, client_id, Dialect::Own);
        clients.into_iter().filter_map(login).collect()
    }

    /// The login that this client of an account would use; in a cache of Go's or .NET's the one of
    /// its family, whichever client saved it last.
    #[must_use]
    pub fn login(
        &self,
        home_account_id: &str,
        environment: &str,
        client_id: &str,
        dialect: Dialect,
    ) -> Option<Login> {
        let is_theirs =
            |entity: &Entity<'_>| entity.is_of(home_account_id) && entity.is_in_cloud_of(environment);
        let found = self.entities(Section::RefreshToken).map(|(_, entity)| entity).filter(|entity| {
            let will_do = entity.is_for_client(client_id)
                || dialect.has_one_per_family() && entity.family_id().is_some();
            is_theirs(entity) && entity.is_plain_refresh_token() && will_do
        });
        let found = newest_first(found.collect(), |entity| *entity);
        let token = found
            .iter()
            .find(|entity| entity.is_for_client(client_id) && !dialect.has_one_per_family())
            .or_else(|| found.iter().rev().max_by_key(|entity| self.last_used(**entity)))?;
        let own_client = token.client_id()?;

        let mut entries = Self::default();
        for section in [Section::Account, Section::IdToken] {
            for (key, entity) in self.entities(section).filter(|(_, entity)| is_theirs(entity)) {
                let is_wanted = match section {
                    Section::IdToken => entity.is_id_token() && entity.is_for_client(own_client),
                    _ => entity.is_account(),
                };
                if is_wanted {
                    entries.append(section, key.to_owned(), entity.0.clone());
                }
            }
        }
        Some(Login {
            home_account_id: home_account_id.to_owned(),
            environment: environment.to_owned(),
            client_id: own_client.to_owned(),
            family_id: token.family_id().map(str::to_owned),
            refresh_token: token.secret()?.to_owned().into(),
            last_used: self.last_used(*token),
            entries,
            superseded: Vec::new(),
        })
    }

    /// What the cache itself says about a client: of a family, of none, or nothing.
    #[must_use]
    pub fn is_of_a_family(&self, environment: &str, client_id: &str) -> Option<bool> {
        self.entities(Section::AppMetadata)
            .filter(|(_, entity)| entity.is_for_client(client_id) && entity.is_in_cloud_of(environment))
            .map(|(_, entity)| entity.family_id().is_some())
            .reduce(|one, other| one || other)
    }

    /// Whether the account has an entry of its own: without one no tool finds it.
    #[must_use]
    pub fn has_account(&self, home_account_id: &str, environment: &str) -> bool {
        self.entities(Section::Account).any(|(_, entity)| {
            entity.is_account() && entity.is_of(home_account_id) && entity.is_in_cloud_of(environment)
        })
    }

    /// Takes in a login, unless what is there is as new. Only entries of this very account and
    /// client change; `if_signed_in`: only if the account is there still, because one that has gone
    /// was signed out.
    pub(super) fn adopt(&mut self, login: &Login, dialect: Dialect, if_signed_in: bool) -> bool {
        if if_signed_in && !self.has_account(&login.home_account_id, &login.environment) {
            tracing::debug!("login not shared: the account was signed out meanwhile");
            return false;
        }
        let environment = self.spelling_of(login, dialect);
        if !self.is_outdated(login, dialect) {
            return false;
        }
        let mut changed = self.adopt_accounts(login, dialect, &environment);
        changed |= self.adopt_id_tokens(login, dialect, &environment);
        changed |= self.adopt_refresh_token(login, dialect, &environment);
        changed | self.adopt_app_metadata(login, &environment)
    }

    /// Whether nothing here is as new. The very same refresh token is no obstacle: the rest of the
    /// login may be missing.
    fn is_outdated(&self, login: &Login, dialect: Dialect) -> bool {
        let mut there = self.entities(Section::RefreshToken).map(|(_, own)| own);
        !there.any(|own| {
            let secret = own.secret().unwrap_or_default();
            let is_known = std::iter::once(&login.refresh_token)
                .chain(&login.superseded)
                .any(|known| known.expose_secret() == secret);
            login.displaces(own, dialect) && !is_known && self.last_used(own) >= login.last_used
        })
    }

    /// The spelling of the account's own entry, else the tools' own.
    fn spelling_of(&self, login: &Login, dialect: Dialect) -> String {
        let own =
            self.entities(Section::Account).find(|(_, entity)| login.owns(*entity) && entity.is_account());
        match own.and_then(|(_, entity)| entity.environment()) {
            Some(environment) => environment.to_owned(),
            None if dialect.has_cloud_as_configured() => sign_in_host(&login.environment),
            None => preferred_cache(&login.environment),
        }
    }

    fn adopt_accounts(&mut self, login: &Login, dialect: Dialect, environment: &str) -> bool {
        let home = login.home_account_id.as_str();
        let home_realm = realm::home_tenant(home);
        let mut changed = false;
        for (_, theirs) in login.entries.entities(Section::Account) {
            let Some(realm) = theirs.realm().map(|realm| realm::spelled_out(home, realm)) else { continue };
            // one for each user, under the home tenant
            let is_node = dialect == Dialect::Node;
            if is_node && home_realm.is_some_and(|own| !same_realm(home, own, realm)) {
                continue;
            }
            let is_this = |entity: Entity<'_>| {
                login.owns(entity)
                    && entity.is_account()
                    && (is_node || entity.realm().is_some_and(|own| same_realm(home, own, realm)))
            };
            let brought = personal(theirs);
            let found = self.entities(Section::Account).find(|(_, own)| is_this(*own));
            let found = found.map(|(key, _)| key.to_owned());
            if let Some(own) = found.and_then(|key| self.entry_mut(Section::Account, &key)) {
                let before = own.len();
                inherit(own, &brought, &[]);
                changed |= own.len() != before;
                continue;
            }
            let mut entry = members(vec![
                ("home_account_id", home.to_owned()),
                ("environment", environment.to_owned()),
                ("realm", realm.to_owned()),
                ("local_account_id", local_account_id(theirs, home)),
                ("username", accounts::username(theirs).unwrap_or_default().to_owned()),
                ("authority_type", theirs.text("authority_type").unwrap_or("MSSTS").to_owned()),
            ]);
            inherit(&mut entry, &brought, &[]);
            changed |= self.append(Section::Account, dialect.account(home, environment, realm), entry);
        }
        if changed || self.has_account(home, &login.environment) {
            return changed;
        }
        // only a guest's entry was there, which Node does not have
        let (Some((local, _)), Some(realm)) = (home.split_once('.'), home_realm) else { return changed };
        let username = login.entries.accounts().into_iter().map(|account| account.username).next();
        let entry = members(vec![
            ("home_account_id", home.to_owned()),
            ("environment", environment.to_owned()),
            ("realm", realm.to_owned()),
            ("local_account_id", local.to_owned()),
            ("username", username.unwrap_or_default()),
            ("authority_type", "MSSTS".to_owned()),
        ]);
        self.append(Section::Account, dialect.account(home, environment, realm), entry)
    }

    /// Of two of one realm the one that was issued later stays.
    fn adopt_id_tokens(&mut self, login: &Login, dialect: Dialect, environment: &str) -> bool {
        let home = login.home_account_id.as_str();
        let mut changed = false;
        for (_, theirs) in login.entries.entities(Section::IdToken) {
            let (Some(realm), Some(secret)) = (theirs.realm(), theirs.secret()) else { continue };
            let realm = realm::spelled_out(home, realm);
            let is_this = |entity: Entity<'_>| {
                login.owns(entity)
                    && entity.is_for_client(&login.client_id)
                    && entity.realm().is_some_and(|own| same_realm(home, own, realm))
                    && entity.is_id_token()
            };
            let (kept, merged) = self.keep_one(Section::IdToken, environment, is_this);
            changed |= merged;
            if let Some(own) = kept.as_deref().and_then(|key| self.entry_mut(Section::IdToken, key)) {
                let is_older = issued_at(Entity(own)) < issued_at(theirs);
                changed |= is_older && set(own, "secret", secret);
                continue;
            }
            let entry = members(vec![
                ("credential_type", "IdToken".to_owned()),
                ("secret", secret.to_owned()),
                ("home_account_id", home.to_owned()),
                ("environment", environment.to_owned()),
                ("realm", realm.to_owned()),
                ("client_id", login.client_id.clone()),
            ]);
            let key = dialect.id_token(home, environment, &login.client_id, realm);
            changed |= self.append(Section::IdToken, key, entry);
        }
        changed
    }

    fn adopt_refresh_token(&mut self, login: &Login, dialect: Dialect, environment: &str) -> bool {
        let secret = login.refresh_token.expose_secret();
        let is_earlier = |entity: Entity<'_>| login.displaces(entity, dialect);
        let earlier: Vec<_> = self
            .entities(Section::RefreshToken)
            .map(|(_, entity)| entity)
            .filter(|entity| is_earlier(*entity))
            .collect();
        if earlier.iter().any(|entity| entity.secret() == Some(secret)) {
            return false;
        }
        let mut fields = vec![
            ("credential_type", "RefreshToken".to_owned()),
            ("secret", secret.to_owned()),
            ("home_account_id", login.home_account_id.clone()),
            ("environment", environment.to_owned()),
            ("client_id", login.client_id.clone()),
        ];
        if login.last_used > UnixTime::default() {
            fields.push(("last_modification_time", login.last_used.to_string()));
        }
        fields.extend(login.family_id.clone().map(|family| ("family_id", family)));
        let mut entry = members(fields);
        for entity in newest_first(earlier, |entity| *entity) {
            inherit(&mut entry, entity.0, &NOT_INHERITED);
        }
        let (home, client) = (login.home_account_id.as_str(), login.client_id.as_str());
        let mut key = dialect.refresh_token(home, environment, client, login.family_id.as_deref());
        let is_foreign =
            |(taken, entity): (&str, Entity<'_>)| taken == key && !login.displaces(entity, dialect);
        if self.entities(Section::RefreshToken).any(is_foreign) {
            // another client's of the family; Node looks at the text of the key, too
            key = dialect.refresh_token(home, environment, client, None);
        }
        self.replace(Section::RefreshToken, key, entry, is_earlier)
    }

    /// Exactly one per client; what the tools know themselves stays, but for a member that they did
    /// not know to be one.
    fn adopt_app_metadata(&mut self, login: &Login, environment: &str) -> bool {
        let is_this = |entity: Entity<'_>| {
            entity.is_for_client(&login.client_id) && entity.is_in_cloud_of(&login.environment)
        };
        let (kept, changed) = self.keep_one(Section::AppMetadata, environment, is_this);
        let Some(entry) = kept.as_deref().and_then(|key| self.entry_mut(Section::AppMetadata, key)) else {
            let mut fields =
                vec![("client_id", login.client_id.clone()), ("environment", environment.to_owned())];
            fields.extend(login.family_id.clone().map(|family| ("family_id", family)));
            let key = super::key::app_metadata(environment, &login.client_id);
            return self.append(Section::AppMetadata, key, members(fields)) | changed;
        };
        login.family_id.as_ref().is_some_and(|family| set(entry, "family_id", family)) | changed
    }

    /// The latest time that a refresh token's client left for its account.
    fn last_used(&self, token: Entity<'_>) -> UnixTime {
        let (Some(home), Some(client), Some(environment)) =
            (token.home_account_id(), token.client_id(), token.environment())
        else {
            return UnixTime::default();
        };
        let is_its = |entity: &Entity<'_>| {
            entity.is_of(home) && entity.is_for_client(client) && entity.is_in_cloud_of(environment)
        };
        let of = |section| self.entities(section).map(|(_, entity)| entity).filter(is_its);
        let cached = of(Section::AccessToken).filter_map(|entity| entity.time("cached_at"));
        let issued = of(Section::IdToken).filter_map(issued_at);
        let dated = token.time("last_modification_time");
        cached.chain(issued).chain(dated).max().unwrap_or_default()
    }
}

/// When an ID token was issued, as it says itself.
fn issued_at(id_token: Entity<'_>) -> Option<UnixTime> {
    let claims = jwt_claims(id_token.secret()?)?;
    claims.get("iat")?.as_i64().map(UnixTime::from_seconds)
}

fn personal(account: Entity<'_>) -> Map<String, Value> {
    let known = PERSONAL.iter().filter_map(|field| Some((*field, account.text(field)?)));
    known.map(|(field, text)| (field.to_owned(), Value::from(text))).collect()
}

/// The user's id in the home tenant is the first half of the account's.
fn local_account_id(account: Entity<'_>, home_account_id: &str) -> String {
    let of_home = || home_account_id.split_once('.').map_or(home_account_id, |(user, _)| user);
    account.text("local_account_id").unwrap_or_else(of_home).to_owned()
}
