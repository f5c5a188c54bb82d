//! What the credentials that may ask a person share: silent first, then one prompt at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::acquire::{Absorbed, AccountChoice, Acquirer, sign_in_error};
use crate::cloud::TenantId;
use crate::entra::{self, ClientOptions, ExpectedAccount, SignInError, TokenReply};
use crate::error::{AuthenticationFailed, Error, InteractionReason, InteractionRequired, Result};
use crate::record::AuthenticationRecord;
use crate::time::Clock;
use crate::token::{AccessToken, TokenRequest};

use super::BoxFuture;
use super::options::{CredentialOptions, Tenants};

/// The step that differs: how a person is asked.
pub(super) trait SignIn: std::fmt::Debug + Send + Sync {
    const CREDENTIAL: &'static str;
    /// What Python's MSAL notes as the account's source.
    const GRANT_TYPE: &'static str;

    fn sign_in<'a>(
        &'a self,
        client: &'a entra::Client,
        clock: &'a dyn Clock,
        wanted: SignInRequest<'a>,
    ) -> BoxFuture<'a, Result<TokenReply, SignInError>>;
}

/// What a person is asked to sign in for.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignInRequest<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) request: &'a TokenRequest,
    /// Who has to come back, if that is settled.
    pub(super) expected: Option<&'a ExpectedAccount>,
}

#[derive(Debug)]
pub(super) struct Interactive<S> {
    acquirer: Acquirer,
    automatic: bool,
    expected: Option<ExpectedAccount>,
    prompting: AsyncMutex<()>,
    record: Mutex<Option<AuthenticationRecord>>,
    sign_ins: AtomicU64,
    step: S,
    tenants: Tenants,
}

impl<S: SignIn> Interactive<S> {
    pub(super) fn new(options: CredentialOptions, step: S) -> Result<Self> {
        Ok(Self {
            acquirer: acquirer(&options)?,
            automatic: !options.disable_automatic_authentication,
            expected: expected_account(&options),
            prompting: AsyncMutex::new(()),
            sign_ins: AtomicU64::new(0),
            step,
            tenants: options.tenants(),
            record: Mutex::new(options.authentication_record),
        })
    }

    pub(super) fn record(&self) -> Option<AuthenticationRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn get_token(&self, request: &TokenRequest) -> Result<AccessToken> {
        let tenant = self.tenants.resolve(request.tenant.as_ref())?;
        let seen = self.sign_ins.load(Ordering::SeqCst);
        let required = match self.silent(&tenant, request).await {
            Err(Error::InteractionRequired(required)) if self.automatic => required,
            done => return done,
        };
        let _one_prompt_at_a_time = self.prompting.lock().await;
        if self.sign_ins.load(Ordering::SeqCst) != seen {
            // While this call waited, the person signed in for another one.
            match self.silent(&tenant, request).await {
                Err(Error::InteractionRequired(_)) => {}
                done => return done,
            }
        }
        let request = request.clone().claims(required.next_claims().cloned());
        let absorbed = self.ask(&tenant, &request).await?;
        if let Err(error) = &absorbed.saved {
            tracing::warn!(%error, "the sign-in could not be saved; its token is used all the same");
        }
        Ok(absorbed.token)
    }

    pub(super) async fn authenticate(&self, request: &TokenRequest) -> Result<AuthenticationRecord> {
        let tenant = self.tenants.resolve(request.tenant.as_ref())?;
        let may_be_silent = request.claims.is_none() && !request.force_refresh;
        if may_be_silent && let Some(record) = self.record() {
            match self.silent(&tenant, request).await {
                Ok(_) => return Ok(record),
                Err(Error::InteractionRequired(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let _one_prompt_at_a_time = self.prompting.lock().await;
        let absorbed = self.ask(&tenant, request).await?;
        absorbed.saved?;
        absorbed.record.ok_or_else(|| {
            let nameless = "the provider's answer names no user, so there is no record to keep";
            AuthenticationFailed::new(nameless).into()
        })
    }

    async fn silent(&self, tenant: &TenantId, request: &TokenRequest) -> Result<AccessToken> {
        let Some(record) = self.record() else {
            return Err(InteractionRequired {
                message: format!("{} has signed nobody in yet", S::CREDENTIAL),
                scopes: request.scopes.clone(),
                claims: request.claims.clone(),
                provider_claims: None,
                tenant: tenant.clone(),
                enable_cae: request.enable_cae,
                reason: InteractionReason::NotSignedIn,
                username: None,
                provider: None,
                removed: Vec::new(),
            }
            .into());
        };
        let account = AccountChoice {
            home_account_id: record.home_account_id().to_owned(),
            username: record.username().to_owned(),
            any_family_client: false,
        };
        self.acquirer.silent(&account, tenant, request).await
    }

    async fn ask(&self, tenant: &TenantId, request: &TokenRequest) -> Result<Absorbed> {
        // A store that cannot work shall say so before a person is bothered.
        self.acquirer.document(request.enable_cae).await?;
        let wanted = SignInRequest { tenant, request, expected: self.expected.as_ref() };
        let reply = self
            .step
            .sign_in(self.acquirer.client(), self.acquirer.clock(), wanted)
            .await
            .map_err(sign_in_error)?;
        let absorbed = self.acquirer.absorb(reply, tenant, request, S::GRANT_TYPE).await?;
        if let Some(record) = &absorbed.record {
            *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
            self.sign_ins.fetch_add(1, Ordering::SeqCst);
        }
        Ok(absorbed)
    }
}

pub(super) fn acquirer(options: &CredentialOptions) -> Result<Acquirer> {
    let client = entra::Client::new(ClientOptions {
        authority: options.resolved_authority()?,
        client_id: options.resolved_client_id()?,
        disable_instance_discovery: options.disable_instance_discovery,
        retry_budget: options.retry_budget,
        root_certificates: options.root_certificates.clone(),
    })?;
    let observer = options.dead_grant_observer.clone();
    Ok(Acquirer::new(client, Arc::new(options.caches()), options.clock.clone(), observer))
}

/// A record or a login hint settles who may come back from a sign-in.
fn expected_account(options: &CredentialOptions) -> Option<ExpectedAccount> {
    match (&options.authentication_record, &options.login_hint) {
        (Some(record), _) => Some(ExpectedAccount::HomeAccountId {
            id: record.home_account_id().to_owned(),
            username: record.username().to_owned(),
        }),
        (None, Some(username)) => Some(ExpectedAccount::Username(username.clone())),
        (None, None) => None,
    }
}
