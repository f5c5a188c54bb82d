//! Signing in with the browser of this machine.

use std::sync::Arc;
use std::time::Duration;

use crate::entra::{self, BrowserRequest, RedirectUri, SignInError, TokenReply};
use crate::error::Result;
use crate::record::AuthenticationRecord;
use crate::time::Clock;
use crate::token::{AccessToken, TokenRequest};

use super::interactive::{Interactive, SignIn, SignInRequest};
use super::{BoxFuture, CredentialOptions, Interaction, TokenCredential};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Gets tokens for a person, who signs in with the browser of this machine (RFC 8252).
///
/// Asks only if neither the cache nor a refresh token brings one; with a record and a persistent
/// cache a later process does not ask at all.
///
/// ```no_run
/// use std::sync::Arc;
/// use tokenkeep::credential::{
///     CredentialOptions, InteractiveBrowserCredential, SystemBrowser, TokenCredential,
/// };
/// use tokenkeep::{Scopes, TokenRequest};
///
/// # async fn run() -> tokenkeep::Result<()> {
/// let credential =
///     InteractiveBrowserCredential::new(CredentialOptions::default(), Arc::new(SystemBrowser))?;
/// let request = TokenRequest::new(Scopes::new(["https://graph.microsoft.com/User.Read"])?);
/// let token = credential.get_token(&request).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct InteractiveBrowserCredential(Interactive<ByBrowser>);

impl InteractiveBrowserCredential {
    /// Builds the credential. Nothing is opened or asked yet.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] if the options contradict each other, or if the redirect
    /// URI has no port.
    pub fn new(options: CredentialOptions, interaction: Arc<dyn Interaction>) -> Result<Self> {
        let of_record = options.authentication_record.as_ref().map(|r| r.username().to_owned());
        let step = ByBrowser {
            interaction,
            login_hint: options.login_hint.clone().or(of_record),
            redirect_uri: options.redirect_uri.as_deref().map(RedirectUri::parse).transpose()?,
            timeout: options.timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        Ok(Self(Interactive::new(options, step)?))
    }

    /// Signs a person in, and returns the record that lets a later process do without.
    ///
    /// With a record there already, a request without claims is tried silently first, unless it
    /// forces a refresh.
    ///
    /// # Errors
    /// [`crate::Error::AuthenticationFailed`] if the person declines, does not come back in time,
    /// or is not the one expected; [`crate::Error::Cache`] if the sign-in could not be saved.
    pub async fn authenticate(&self, request: &TokenRequest) -> Result<AuthenticationRecord> {
        self.0.authenticate(request).await
    }

    /// The account that signed in last, or the record that was given.
    #[must_use]
    pub fn authentication_record(&self) -> Option<AuthenticationRecord> {
        self.0.record()
    }
}

impl TokenCredential for InteractiveBrowserCredential {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
        Box::pin(self.0.get_token(request))
    }
}

#[derive(Debug)]
struct ByBrowser {
    interaction: Arc<dyn Interaction>,
    login_hint: Option<String>,
    redirect_uri: Option<RedirectUri>,
    timeout: Duration,
}

impl ByBrowser {
    async fn tokens(
        &self,
        client: &entra::Client,
        clock: &dyn Clock,
        wanted: SignInRequest<'_>,
    ) -> Result<TokenReply, SignInError> {
        let request = BrowserRequest {
            tenant: wanted.tenant,
            scopes: &wanted.request.scopes,
            claims: wanted.request.claims.as_ref(),
            enable_cae: wanted.request.enable_cae,
            login_hint: self.login_hint.as_deref(),
            prompt: None,
            redirect_uri: self.redirect_uri.as_ref(),
            expected: wanted.expected,
            timeout: self.timeout,
        };
        let interaction = Arc::clone(&self.interaction);
        client.sign_in_with_browser(&request, clock, move |url| interaction.open_browser(url)).await
    }
}

impl SignIn for ByBrowser {
    const CREDENTIAL: &'static str = "InteractiveBrowserCredential";
    const GRANT_TYPE: &'static str = "authorization_code";

    fn sign_in<'a>(
        &'a self,
        client: &'a entra::Client,
        clock: &'a dyn Clock,
        wanted: SignInRequest<'a>,
    ) -> BoxFuture<'a, Result<TokenReply, SignInError>> {
        Box::pin(self.tokens(client, clock, wanted))
    }
}
