//! Accounts, their entries of all aliases and realms taken together (spec S-C 1.10).

use std::collections::HashMap;

use crate::cloud::preferred_cache;
use crate::record::jwt_claims;

use super::TokenCacheDocument;
use super::entity::{Entity, Section};
use super::realm::{home_tenant, same_realm};

/// What .NET writes for a name that the provider did not send.
const DOTNET_UNKNOWN: &str = "Missing from the token response";

/// A client for which an account has a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedClient {
    /// Which client.
    pub client_id: String,
    /// The family that may redeem its refresh token.
    pub family_id: Option<String>,
}

/// An account of the cache, its entries of all aliases and realms taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedAccount {
    /// `uid.utid`.
    pub home_account_id: String,
    /// The host, as its first entry spells it.
    pub environment: String,
    /// The name it signs in with; empty if no entry knows it.
    pub username: String,
    /// The tenant it is at home in: what stands after the dot of its id.
    pub home_tenant: Option<String>,
    /// Tenants it has entries for.
    pub realms: Vec<String>,
    /// Clients it has refresh tokens of.
    pub clients: Vec<CachedClient>,
}

impl CachedAccount {
    /// Whether any client of a family can sign it in (spec S-B 3.1).
    #[must_use]
    pub fn has_family_token(&self) -> bool {
        self.clients.iter().any(|client| client.family_id.is_some())
    }

    fn new(home_account_id: &str, environment: &str) -> Self {
        Self {
            home_account_id: home_account_id.to_owned(),
            environment: environment.to_owned(),
            username: String::new(),
            home_tenant: home_tenant(home_account_id).map(str::to_owned),
            realms: Vec::new(),
            clients: Vec::new(),
        }
    }

    fn add_account(&mut self, entity: Entity<'_>) {
        let username = username(entity);
        // A guest goes by another name; the home tenant's is the one to sign in with.
        let is_home = entity.realm().is_some_and(|realm| self.is_home_realm(realm));
        if let Some(name) = username.filter(|_| self.username.is_empty() || is_home) {
            name.clone_into(&mut self.username);
        }
        self.add_realm(entity);
    }

    fn add_credential(&mut self, section: Section, entity: Entity<'_>) {
        match section {
            Section::IdToken => self.add_id_token(entity),
            Section::RefreshToken => self.add_refresh_token(entity),
            Section::AccessToken | Section::Account | Section::AppMetadata => {
                self.add_realm(entity);
            }
        }
    }

    fn add_id_token(&mut self, entity: Entity<'_>) {
        if self.username.is_empty() {
            self.username = entity.secret().and_then(username_in).unwrap_or_default();
        }
        self.add_realm(entity);
    }

    fn add_refresh_token(&mut self, entity: Entity<'_>) {
        let Some(client_id) = entity.client_id().filter(|_| entity.is_plain_refresh_token()) else {
            return;
        };
        let known = self.clients.iter_mut().find(|known| known.client_id.eq_ignore_ascii_case(client_id));
        let family_id = entity.family_id().map(str::to_owned);
        match known {
            Some(client) => client.family_id = client.family_id.take().or(family_id),
            None => self.clients.push(CachedClient { client_id: client_id.to_owned(), family_id }),
        }
    }

    fn add_realm(&mut self, entity: Entity<'_>) {
        let Some(realm) = entity.realm() else { return };
        if !self.realms.iter().any(|known| known.eq_ignore_ascii_case(realm)) {
            self.realms.push(realm.to_owned());
        }
    }

    fn is_home_realm(&self, realm: &str) -> bool {
        self.home_tenant.as_deref().is_some_and(|home| same_realm(&self.home_account_id, home, realm))
    }
}

impl TokenCacheDocument {
    /// All accounts in the order of the file, each once for all aliases and realms.
    ///
    /// One that only tokens speak of is not listed: without its own entry no tool would find it.
    #[must_use]
    pub fn accounts(&self) -> Vec<CachedAccount> {
        let mut accounts: Vec<CachedAccount> = Vec::new();
        let mut places = HashMap::new();
        for (_, entity) in self.entities(Section::Account) {
            let Some((home_account_id, environment)) = owner(entity) else {
                continue;
            };
            let place = *places.entry((home_account_id, preferred_cache(environment))).or_insert_with(|| {
                accounts.push(CachedAccount::new(home_account_id, environment));
                accounts.len() - 1
            });
            accounts[place].add_account(entity);
        }

        for section in [Section::IdToken, Section::AccessToken, Section::RefreshToken] {
            for (_, entity) in self.entities(section) {
                let Some((home_account_id, environment)) = owner(entity) else {
                    continue;
                };
                if let Some(place) = places.get(&(home_account_id, preferred_cache(environment))) {
                    accounts[*place].add_credential(section, entity);
                }
            }
        }
        accounts
    }
}

/// Whose entry it is, and of which cloud.
fn owner(entity: Entity<'_>) -> Option<(&str, &str)> {
    let home_account_id = entity.home_account_id().filter(|id| !id.is_empty())?;
    Some((home_account_id, entity.environment()?))
}

/// The name that an account's entry knows.
pub(super) fn username(account: Entity<'_>) -> Option<&str> {
    account.text("username").filter(|name| is_known(name))
}

fn is_known(username: &str) -> bool {
    !username.is_empty() && username != DOTNET_UNKNOWN
}

fn username_in(id_token: &str) -> Option<String> {
    let claims = jwt_claims(id_token)?;
    let claim = |name: &str| claims.get(name)?.as_str().filter(|name| is_known(name));
    claim("preferred_username").or_else(|| claim("upn")).map(str::to_owned)
}
