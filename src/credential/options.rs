//! What all credentials of a person have in common.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Caches, DeadGrantObserver};
use crate::cloud::{Authority, TenantId};
use crate::error::{AuthenticationFailed, InvalidArgument, Result};
use crate::options::TokenCachePersistenceOptions;
use crate::record::AuthenticationRecord;
use crate::store::{Places, Store};
use crate::time::{Clock, SystemClock};

/// The Azure CLI's client, a member of the family whose refresh tokens serve every developer tool.
pub const DEVELOPER_SIGN_ON_CLIENT_ID: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

/// Options of [`DeviceCodeCredential`], [`InteractiveBrowserCredential`] and
/// [`SharedTokenCacheCredential`].
///
/// The defaults are those of azure-identity (spec S-B 4): the public cloud, any work or school
/// account, the Azure CLI's client, and tokens kept in memory only.
///
/// ```
/// use tokenkeep::TokenCachePersistenceOptions;
/// use tokenkeep::credential::CredentialOptions;
///
/// let options = CredentialOptions::default()
///     .cache_persistence_options(TokenCachePersistenceOptions::default())
///     .disable_automatic_authentication(true);
/// # let _ = options;
/// ```
///
/// [`DeviceCodeCredential`]: super::DeviceCodeCredential
/// [`InteractiveBrowserCredential`]: super::InteractiveBrowserCredential
/// [`SharedTokenCacheCredential`]: super::SharedTokenCacheCredential
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CredentialOptions {
    pub(super) additionally_allowed_tenants: Vec<String>,
    pub(super) authentication_record: Option<AuthenticationRecord>,
    pub(super) authority: Option<Authority>,
    pub(super) cache: CacheChoice,
    pub(super) client_id: Option<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dead_grant_observer: Option<Arc<dyn DeadGrantObserver>>,
    pub(super) default_account: Option<String>,
    pub(super) disable_automatic_authentication: bool,
    pub(super) disable_instance_discovery: bool,
    pub(super) home_tenant: Option<String>,
    pub(super) login_hint: Option<String>,
    pub(super) redirect_uri: Option<String>,
    pub(super) retry_budget: Duration,
    pub(super) root_certificates: Option<Arc<[u8]>>,
    pub(super) tenant_id: Option<TenantId>,
    pub(super) timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum CacheChoice {
    #[default]
    Memory,
    Persistent(TokenCachePersistenceOptions, Option<Box<Places>>),
    Stores {
        without_cae: Arc<dyn Store>,
        with_cae: Arc<dyn Store>,
    },
}

impl Default for CredentialOptions {
    fn default() -> Self {
        Self {
            additionally_allowed_tenants: Vec::new(),
            authentication_record: None,
            authority: None,
            cache: CacheChoice::Memory,
            client_id: None,
            clock: Arc::new(SystemClock),
            dead_grant_observer: None,
            default_account: None,
            disable_automatic_authentication: false,
            disable_instance_discovery: false,
            home_tenant: None,
            login_hint: None,
            redirect_uri: None,
            retry_budget: Duration::from_secs(10),
            root_certificates: None,
            tenant_id: None,
            timeout: None,
        }
    }
}

impl CredentialOptions {
    /// Tenants besides its own that the credential may get tokens of; `*` means any.
    #[must_use]
    pub fn additionally_allowed_tenants<S: Into<String>>(
        mut self,
        tenants: impl IntoIterator<Item = S>,
    ) -> Self {
        self.additionally_allowed_tenants = tenants.into_iter().map(Into::into).collect();
        self
    }

    /// The account that signed in before; with it and a persistent cache nobody is asked again.
    #[must_use]
    pub fn authentication_record(mut self, record: impl Into<Option<AuthenticationRecord>>) -> Self {
        self.authentication_record = record.into();
        self
    }

    /// The provider. A record brings its own; without either, the variable
    /// `AZURE_AUTHORITY_HOST` names it.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Who is told of refresh tokens that the provider called dead; [`Everywhere`] removes them from
    /// the caches of all tools. Nobody unless set: then only the credential's own cache is cleared.
    ///
    /// [`Everywhere`]: crate::revocation::Everywhere
    #[must_use]
    pub fn dead_grant_observer(mut self, observer: Arc<dyn DeadGrantObserver>) -> Self {
        self.dead_grant_observer = Some(observer);
        self
    }

    /// Keeps tokens in a cache that outlives the process and that other tools share.
    #[must_use]
    pub fn cache_persistence_options(mut self, options: TokenCachePersistenceOptions) -> Self {
        self.cache = CacheChoice::Persistent(options, None);
        self
    }

    /// The same, in folders other than the user's own.
    #[must_use]
    pub fn cache_persistence_options_in(
        mut self,
        options: TokenCachePersistenceOptions,
        places: Places,
    ) -> Self {
        self.cache = CacheChoice::Persistent(options, Some(Box::new(places)));
        self
    }

    /// Keeps tokens in stores of the caller's own: one for requests without continuous access
    /// evaluation, one for those with it.
    #[must_use]
    pub fn stores(mut self, without_cae: Arc<dyn Store>, with_cae: Arc<dyn Store>) -> Self {
        self.cache = CacheChoice::Stores { without_cae, with_cae };
        self
    }

    /// The application that people sign in to.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// The clock that decides what has expired.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Which of several accounts in a shared cache is meant when nothing else tells: its home
    /// account id. Used by [`SharedTokenCacheCredential`](super::SharedTokenCacheCredential).
    #[must_use]
    pub fn default_account(mut self, home_account_id: impl Into<Option<String>>) -> Self {
        self.default_account = home_account_id.into();
        self
    }

    /// Answers [`InteractionRequired`](crate::error::InteractionRequired) instead of prompting
    /// from within `get_token`; `authenticate` still prompts.
    #[must_use]
    pub const fn disable_automatic_authentication(mut self, disable: bool) -> Self {
        self.disable_automatic_authentication = disable;
        self
    }

    /// Takes an authority that is no cloud of Microsoft's as it is (private clouds, AD FS).
    #[must_use]
    pub const fn disable_instance_discovery(mut self, disable: bool) -> Self {
        self.disable_instance_discovery = disable;
        self
    }

    /// Considers only accounts that are at home in this tenant. Used by
    /// [`SharedTokenCacheCredential`](super::SharedTokenCacheCredential).
    #[must_use]
    pub fn home_tenant(mut self, tenant: impl Into<Option<String>>) -> Self {
        self.home_tenant = tenant.into();
        self
    }

    /// Who is expected to sign in: prefilled for a sign-in by browser, and any other account that
    /// comes back is refused; in a shared cache, the username to look for.
    #[must_use]
    pub fn login_hint(mut self, username: impl Into<Option<String>>) -> Self {
        self.login_hint = username.into();
        self
    }

    /// Where the browser comes back to, `http://localhost:PORT`; a free port is found otherwise.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into());
        self
    }

    /// How long retries may wait in all before a request fails; 10 seconds unless set.
    #[must_use]
    pub const fn retry_budget(mut self, budget: Duration) -> Self {
        self.retry_budget = budget;
        self
    }

    /// Certificates, in PEM, to trust besides the platform's: for a private cloud, or a proxy with
    /// a certificate authority of its own. `SSL_CERT_FILE` does the same for a whole process.
    #[must_use]
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// The tenant that people sign in to; `organizations` unless set or told by a record.
    #[must_use]
    pub fn tenant_id(mut self, tenant: impl Into<Option<TenantId>>) -> Self {
        self.tenant_id = tenant.into();
        self
    }

    /// How long a person may take to sign in: 300 seconds by browser, by device code as long as
    /// the code lives, unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The record's, else the one given, else `AZURE_AUTHORITY_HOST`, else the public cloud.
    pub(super) fn resolved_authority(&self) -> Result<Authority> {
        if let Some(record) = &self.authentication_record {
            return Ok(record.authority().for_network());
        }
        self.authority.clone().map_or_else(Authority::of_environment, Ok)
    }

    /// The record's client, which an explicit one may repeat but not contradict (spec S-B 1.5).
    pub(crate) fn resolved_client_id(&self) -> Result<String> {
        match (&self.authentication_record, &self.client_id) {
            (Some(record), Some(client)) if !record.client_id().eq_ignore_ascii_case(client) => {
                Err(InvalidArgument::new(
                    "client id",
                    format!("{client} was given, but the record is for {}", record.client_id()),
                    "leave the client id out, or sign in anew for a record of that client",
                )
                .into())
            }
            (Some(record), _) => Ok(record.client_id().to_owned()),
            (None, Some(client)) if client.trim().is_empty() => Err(InvalidArgument::new(
                "client id",
                "it is empty",
                "give the application's client id, or leave it out",
            )
            .into()),
            (None, Some(client)) => Ok(client.clone()),
            (None, None) => Ok(DEVELOPER_SIGN_ON_CLIENT_ID.to_owned()),
        }
    }

    pub(super) fn caches(&self) -> Caches {
        match &self.cache {
            CacheChoice::Memory => Caches::in_memory(),
            CacheChoice::Persistent(options, places) => Caches::persistent(options.clone(), places.clone()),
            CacheChoice::Stores { without_cae, with_cae } => {
                Caches::of_stores(Arc::clone(without_cae), Arc::clone(with_cae))
            }
        }
    }

    pub(super) fn tenants(&self) -> Tenants {
        let of_record = self.authentication_record.as_ref().map(AuthenticationRecord::tenant_id);
        Tenants {
            own: self.tenant_id.as_ref().or(of_record).cloned().unwrap_or_else(TenantId::organizations),
            allowed: self.additionally_allowed_tenants.clone(),
        }
    }
}

/// Which tenants a credential may get tokens of.
#[derive(Clone, Debug)]
pub(super) struct Tenants {
    own: TenantId,
    allowed: Vec<String>,
}

impl Tenants {
    /// The tenant that a request is for (spec S-B 2.6, `resolve_tenant`).
    pub(super) fn resolve(&self, requested: Option<&TenantId>) -> Result<TenantId> {
        let Some(requested) = requested else {
            return Ok(self.own.clone());
        };
        let is_own = requested.as_str().eq_ignore_ascii_case(self.own.as_str());
        if is_own || self.own.as_str() == "adfs" {
            return Ok(self.own.clone());
        }
        let listed = self
            .allowed
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(requested.as_str()));
        let open = self.own.is_placeholder() && self.allowed.is_empty();
        if listed || open {
            return Ok(requested.clone());
        }
        Err(AuthenticationFailed::new(format!("this credential may not get tokens of tenant {requested}"))
            .hint(format!("add {requested} (or *) to additionally_allowed_tenants"))
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(text: &str) -> TenantId {
        TenantId::parse(text).unwrap()
    }

    #[test]
    fn a_tenant_is_resolved_as_azure_identity_does() {
        let with = |own: &str, allowed: &[&str]| {
            CredentialOptions::default()
                .tenant_id(tenant(own))
                .additionally_allowed_tenants(allowed.iter().copied())
                .tenants()
        };
        let cases = [
            (with("a", &[]), None, Some("a")),
            (with("a", &[]), Some("A"), Some("a")),
            (with("a", &[]), Some("b"), None),
            (with("a", &["B"]), Some("b"), Some("b")),
            (with("a", &["*"]), Some("b"), Some("b")),
            (with("adfs", &[]), Some("b"), Some("adfs")),
            (with("organizations", &[]), Some("b"), Some("b")),
            (with("organizations", &["c"]), Some("b"), None),
        ];
        for (tenants, requested, expected) in cases {
            let resolved = tenants.resolve(requested.map(tenant).as_ref()).ok();
            assert_eq!(resolved.as_ref().map(TenantId::as_str), expected);
        }
    }
}
