//! Uses a login that some other tool made.

use std::sync::{Arc, Mutex, PoisonError};

use crate::acquire::{AccountChoice, Acquirer};
use crate::cloud::same_cloud;
use crate::document::{CachedAccount, RefreshTokenQuery, TokenCacheDocument};
use crate::error::{Candidate, Result, Unavailable};
use crate::record::AuthenticationRecord;
use crate::token::{AccessToken, TokenRequest};

use super::options::{CredentialOptions, DEVELOPER_SIGN_ON_CLIENT_ID, Tenants};
use super::{BoxFuture, TokenCredential, interactive};

const CREDENTIAL: &str = "SharedTokenCacheCredential";

/// Gets tokens by a login that another developer tool left in the shared cache, and never asks
/// anybody (spec S-B 3).
///
/// Which account: the record's, if one is given; else the one that fits the login hint and home
/// tenant; else the only one; else the default account.
///
/// ```no_run
/// use tokenkeep::credential::{CredentialOptions, SharedTokenCacheCredential, TokenCredential};
/// use tokenkeep::{Scopes, TokenCachePersistenceOptions, TokenRequest};
///
/// # async fn run() -> tokenkeep::Result<()> {
/// let options = CredentialOptions::default()
///     .cache_persistence_options(TokenCachePersistenceOptions::default());
/// let credential = SharedTokenCacheCredential::new(options)?;
/// let scopes = Scopes::new(["https://management.azure.com/.default"])?;
/// let token = credential.get_token(&TokenRequest::new(scopes)).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SharedTokenCacheCredential {
    acquirer: Acquirer,
    /// The last choice, and the document that it was made from: the same one leads to the same.
    chosen: Mutex<Option<(Arc<TokenCacheDocument>, Arc<AccountChoice>)>>,
    default_account: Option<String>,
    home_tenant: Option<String>,
    record: Option<AuthenticationRecord>,
    tenants: Tenants,
    username: Option<String>,
}

impl SharedTokenCacheCredential {
    /// Builds the credential. Nothing is opened yet.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] if the options contradict each other.
    pub fn new(options: CredentialOptions) -> Result<Self> {
        Ok(Self {
            acquirer: interactive::acquirer(&options)?,
            chosen: Mutex::default(),
            tenants: options.tenants(),
            default_account: options.default_account,
            home_tenant: options.home_tenant,
            record: options.authentication_record,
            username: options.login_hint,
        })
    }

    /// The account that a request would use.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] with the case that applies and the candidates;
    /// [`crate::Error::Cache`] if the cache cannot be read.
    pub async fn account(&self, enable_cae: bool) -> Result<CachedAccount> {
        let document = self.acquirer.document(enable_cae).await?;
        let cache = self.acquirer.describe(enable_cae).await?.to_string();
        self.choose(&document, cache)
    }

    fn choose(&self, document: &TokenCacheDocument, cache: String) -> Result<CachedAccount> {
        let environment = self.acquirer.client().environment();
        let mut known = document.accounts();
        known.retain(|account| same_cloud(&account.environment, environment));
        // An account without a refresh token of use is a last resort: it may have a valid token.
        let usable = |account: &CachedAccount| {
            let query = RefreshTokenQuery {
                home_account_id: &account.home_account_id,
                environment,
                client_id: self.acquirer.client().client_id(),
            };
            !document.refresh_tokens(&query).is_empty()
        };
        if self.record.is_none() && known.iter().any(usable) {
            known.retain(usable);
        }
        if known.is_empty() {
            return Err(Unavailable::NoAccounts { credential: CREDENTIAL, cache }.into());
        }
        let candidates: Vec<Candidate> = known.iter().map(candidate).collect();
        known.retain(|account| self.fits(account));
        let fitting: Vec<Candidate> = known.iter().map(candidate).collect();
        let wanted = self.wanted();
        if known.len() > 1
            && let Some(at) = known.iter().position(|account| self.is_default(account))
        {
            return Ok(known.swap_remove(at));
        }
        match (known.pop(), known.is_empty(), wanted) {
            (Some(account), true, _) => Ok(account),
            (None, _, Some(wanted)) => {
                Err(Unavailable::NoMatchingAccount { credential: CREDENTIAL, cache, wanted, candidates }
                    .into())
            }
            (Some(_), false, Some(wanted)) => Err(Unavailable::SeveralMatchingAccounts {
                credential: CREDENTIAL,
                cache,
                wanted,
                candidates: fitting,
            }
            .into()),
            (_, _, None) => {
                Err(Unavailable::SeveralAccounts { credential: CREDENTIAL, cache, candidates }.into())
            }
        }
    }

    fn fits(&self, account: &CachedAccount) -> bool {
        if let Some(record) = &self.record {
            return account.home_account_id == record.home_account_id();
        }
        let username_fits =
            self.username.as_ref().is_none_or(|name| account.username.to_lowercase() == name.to_lowercase());
        let tenant_fits = self.home_tenant.as_ref().is_none_or(|tenant| {
            let home = account.home_tenant.as_deref();
            home.is_some_and(|home| home.eq_ignore_ascii_case(tenant))
        });
        username_fits && tenant_fits
    }

    fn is_default(&self, account: &CachedAccount) -> bool {
        self.default_account.as_deref() == Some(account.home_account_id.as_str())
    }

    /// What was asked for, in words; `None` if anybody will do.
    fn wanted(&self) -> Option<String> {
        if let Some(record) = &self.record {
            return Some(format!("the record of {}", record.username()));
        }
        let username = self.username.as_ref().map(|name| format!("username {name}"));
        let tenant = self.home_tenant.as_ref().map(|tenant| format!("tenant {tenant}"));
        let wanted: Vec<String> = username.into_iter().chain(tenant).collect();
        (!wanted.is_empty()).then(|| wanted.join(" and "))
    }

    async fn token(&self, request: &TokenRequest) -> Result<AccessToken> {
        let tenant = self.tenants.resolve(request.tenant.as_ref())?;
        let document = self.acquirer.document(request.enable_cae).await?;
        let choice = match self.chosen_before(&document) {
            Some(choice) => choice,
            None => self.choose_and_remember(&document, request.enable_cae).await?,
        };
        self.acquirer.silent_in(&document, &choice, &tenant, request).await
    }

    fn chosen_before(&self, document: &Arc<TokenCacheDocument>) -> Option<Arc<AccountChoice>> {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, choice) = chosen.as_ref()?;
        Arc::ptr_eq(from, document).then(|| Arc::clone(choice))
    }

    async fn choose_and_remember(
        &self,
        document: &Arc<TokenCacheDocument>,
        enable_cae: bool,
    ) -> Result<Arc<AccountChoice>> {
        let cache = self.acquirer.describe(enable_cae).await?.to_string();
        let account = self.choose(document, cache)?;
        let choice = Arc::new(AccountChoice {
            home_account_id: account.home_account_id,
            username: account.username,
            any_family_client: self.acquirer.client().client_id() == DEVELOPER_SIGN_ON_CLIENT_ID,
        });
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        *chosen = Some((Arc::clone(document), Arc::clone(&choice)));
        Ok(choice)
    }
}

impl TokenCredential for SharedTokenCacheCredential {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
        Box::pin(self.token(request))
    }
}

fn candidate(account: &CachedAccount) -> Candidate {
    Candidate::new(
        account.username.clone(),
        account.home_account_id.clone(),
        account.home_tenant.clone().unwrap_or_default(),
    )
}
