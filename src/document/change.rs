//! What may happen to a document, said in a way that can be applied to whatever version of it
//! turns out to be there.

use std::fmt;

use secrecy::SecretString;

use crate::time::UnixTime;

use super::{Defect, Dialect, Login, TokenCacheDocument};

/// Changes to apply together, in order, under one hold of the lock.
#[derive(Clone, Debug, Default)]
pub struct ChangeSet(pub(super) Vec<Change>);

impl ChangeSet {
    /// One change.
    #[must_use]
    pub fn of(change: Change) -> Self {
        Self(vec![change])
    }
}

/// Which entries changes can touch.
pub(crate) enum Reach<'a> {
    /// Any of them.
    Everything,
    /// Those of some accounts, and what is known of some clients.
    Some {
        /// Home account ids.
        accounts: Vec<&'a str>,
        /// Client ids.
        clients: Vec<&'a str>,
    },
}

impl ChangeSet {
    /// What has to be at hand to apply them: the rest of a document can neither change nor
    /// change what comes of it.
    pub(crate) fn reach(&self) -> Reach<'_> {
        let (mut accounts, mut clients) = (Vec::new(), Vec::new());
        for change in &self.0 {
            match change {
                Change::Save(tokens) => {
                    accounts.push(tokens.home_account_id.as_str());
                    clients.push(tokens.client_id.as_str());
                }
                Change::RemoveAccessTokens { home_account_id, .. }
                | Change::RemoveAccount { home_account_id, .. }
                | Change::RemoveRefreshToken { home_account_id, .. } => {
                    accounts.push(home_account_id.as_str());
                }
                Change::Adopt { login, .. } => {
                    accounts.push(login.home_account_id());
                    clients.push(login.client_id());
                }
                Change::Merge(_)
                | Change::RemoveEverything
                | Change::RemoveMoved(_)
                | Change::RemoveStale { .. }
                | Change::Repair { .. } => return Reach::Everything,
            }
        }
        Reach::Some { accounts, clients }
    }

    /// Why, in a word for an audit trail.
    pub(crate) fn reason(&self) -> &'static str {
        self.0.first().map_or("nothing", |change| match change {
            Change::Save(tokens) => match tokens.origin {
                Origin::Refresh => "refreshed",
                Origin::SignIn { .. } => "signed_in",
            },
            Change::Adopt { .. } => "shared",
            Change::Merge(_) => "moved_in",
            Change::RemoveAccessTokens { .. } | Change::RemoveRefreshToken { .. } => "grant_dead",
            Change::RemoveAccount { .. } => "signed_out",
            Change::RemoveEverything => "cleared",
            Change::RemoveMoved(_) => "moved_out",
            Change::RemoveStale { .. } => "stale",
            Change::Repair { .. } => "repaired",
        })
    }
}

impl Extend<Change> for ChangeSet {
    fn extend<I: IntoIterator<Item = Change>>(&mut self, changes: I) {
        self.0.extend(changes);
    }
}

impl IntoIterator for ChangeSet {
    type Item = Change;
    type IntoIter = std::vec::IntoIter<Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Change> for ChangeSet {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}

/// One change to a document.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A login of another cache is taken in, spelled as the tools behind this one do, unless what
    /// is here is as new.
    Adopt {
        /// Whose, for which client.
        login: Box<Login>,
        /// How its tools spell what they add.
        dialect: Dialect,
        /// Only if the account is here still: one that has gone was signed out.
        if_signed_in: bool,
    },
    /// Another document is taken in whole: of two entries for one thing the newer one stays.
    Merge(Box<TokenCacheDocument>),
    /// Tokens that the provider issued, merged by the polite writer's rules (spec S-C 1.8).
    Save(Box<IssuedTokens>),
    /// Access tokens of one account and client go, under every alias of the environment's cloud.
    RemoveAccessTokens {
        /// Whose entries.
        home_account_id: String,
        /// Any host of the cloud.
        environment: String,
        /// Which client's.
        client_id: String,
    },
    /// Everything of one account goes, under every alias of the environment's cloud.
    RemoveAccount {
        /// Whose entries.
        home_account_id: String,
        /// Any host of the cloud.
        environment: String,
        /// Only this client's entries, if given; the account itself then stays while other
        /// clients have tokens.
        client_id: Option<String>,
    },
    /// All accounts and tokens go; sections and members that we do not know stay.
    RemoveEverything,
    /// Entries go that are still as in this document: what was moved elsewhere.
    RemoveMoved(Box<TokenCacheDocument>),
    /// A refresh token goes if, and only if, the entry still holds this very secret.
    RemoveRefreshToken {
        /// Whose entry.
        home_account_id: String,
        /// Which client's entry.
        client_id: String,
        /// The secret that the provider called dead.
        secret: SecretString,
    },
    /// What [`super::TokenCacheDocument::stale_entries`] lists goes.
    RemoveStale {
        /// The moment at which a token counts as expired.
        now: UnixTime,
    },
    /// What [`super::TokenCacheDocument::defects`] found is mended, as far as it is still wrong.
    Repair {
        /// What was found.
        defect: Defect,
        /// The moment at which it counts as wrong.
        now: UnixTime,
    },
}

/// Whether tokens came from a person signing in or from a refresh token.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A refresh: an account that disappeared meanwhile was signed out and is not recreated.
    Refresh,
    /// A sign-in by this grant, such as `authorization_code`: the account is created if need be.
    SignIn {
        /// What Python's MSAL writes as `account_source`.
        grant_type: &'static str,
    },
}

/// Who signed in, as the ID token says. `Debug` does not show the client info.
#[derive(Clone)]
pub struct IssuedAccount {
    /// `oid`, else `sub`.
    pub local_account_id: String,
    /// `preferred_username`, else `upn`; `None` if the token does not say.
    pub username: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// `MSSTS` or `ADFS`.
    pub authority_type: &'static str,
    /// Base64url of the provider's client info, as received.
    pub client_info: Option<String>,
}

impl fmt::Debug for IssuedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local_account_id, username, name, authority_type, client_info: _ } = self;
        f.debug_struct("IssuedAccount")
            .field("local_account_id", local_account_id)
            .field("username", username)
            .field("name", name)
            .field("authority_type", authority_type)
            .finish_non_exhaustive()
    }
}

/// What one token reply brought, ready to be written.
#[derive(Clone, Debug)]
pub struct IssuedTokens {
    /// `uid.utid`, the ID token's subject at an AD FS, or nothing for an app's own token.
    pub home_account_id: String,
    /// The authority's host, without port.
    pub host: String,
    /// Who asked.
    pub client_id: String,
    /// The tenant as it was asked for, such as `organizations`, a GUID or a domain.
    pub requested_tenant: String,
    /// The ID token's `tid`.
    pub token_tenant: Option<String>,
    /// The scopes granted.
    pub scopes: Vec<String>,
    /// The access token.
    pub access_token: SecretString,
    /// Usually `Bearer`.
    pub token_type: String,
    /// When it was asked for.
    pub issued_at: UnixTime,
    /// Until when it is good.
    pub expires_on: UnixTime,
    /// Until when a resource takes it while the provider is down.
    pub extended_expires_on: UnixTime,
    /// When the provider would like it renewed.
    pub refresh_on: Option<UnixTime>,
    /// The refresh token, if one was issued.
    pub refresh_token: Option<SecretString>,
    /// The family of clients that may redeem it: Entra's `foci`.
    pub family_id: Option<String>,
    /// The ID token, as received.
    pub id_token: Option<SecretString>,
    /// Who signed in; `None` without an ID token.
    pub account: Option<IssuedAccount>,
    /// How the tokens came about.
    pub origin: Origin,
}
