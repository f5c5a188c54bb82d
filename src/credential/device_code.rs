//! Signing in on any device, by a code typed there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::entra::{self, DeviceCodeRequest, SignInError, TokenReply};
use crate::error::Result;
use crate::record::AuthenticationRecord;
use crate::time::Clock;
use crate::token::{AccessToken, TokenRequest};

use super::interactive::{Interactive, SignIn, SignInRequest};
use super::{BoxFuture, CredentialOptions, DeviceCodePrompt, Interaction, TokenCredential};

/// Gets tokens for a person, who signs in with a browser on any device (RFC 8628).
///
/// Asks only if neither the cache nor a refresh token brings one; with a record and a persistent
/// cache a later process does not ask at all.
///
/// ```no_run
/// use std::sync::Arc;
/// use tokenkeep::credential::{CredentialOptions, DeviceCodeCredential, Interaction, TokenCredential};
/// use tokenkeep::{Scopes, TokenRequest};
///
/// # async fn run(terminal: Arc<dyn Interaction>) -> tokenkeep::Result<()> {
/// let credential = DeviceCodeCredential::new(CredentialOptions::default(), terminal)?;
/// let request = TokenRequest::new(Scopes::new(["https://graph.microsoft.com/User.Read"])?);
/// let token = credential.get_token(&request).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DeviceCodeCredential(Interactive<ByDeviceCode>);

impl DeviceCodeCredential {
    /// Builds the credential. Nothing is opened, asked or shown yet.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] if the options contradict each other.
    pub fn new(options: CredentialOptions, interaction: Arc<dyn Interaction>) -> Result<Self> {
        let step = ByDeviceCode { interaction, timeout: options.timeout };
        Ok(Self(Interactive::new(options, step)?))
    }

    /// Signs a person in, and returns the record that lets a later process do without.
    ///
    /// With a record there already, a request without claims is tried silently first, unless it
    /// forces a refresh.
    ///
    /// # Errors
    /// [`crate::Error::AuthenticationFailed`] if the person declines or does not come back in
    /// time; [`crate::Error::Cache`] if the sign-in could not be saved.
    pub async fn authenticate(&self, request: &TokenRequest) -> Result<AuthenticationRecord> {
        self.0.authenticate(request).await
    }

    /// The account that signed in last, or the record that was given.
    #[must_use]
    pub fn authentication_record(&self) -> Option<AuthenticationRecord> {
        self.0.record()
    }
}

impl TokenCredential for DeviceCodeCredential {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
        Box::pin(self.0.get_token(request))
    }
}

#[derive(Debug)]
struct ByDeviceCode {
    interaction: Arc<dyn Interaction>,
    timeout: Option<Duration>,
}

impl ByDeviceCode {
    async fn tokens(
        &self,
        client: &entra::Client,
        clock: &dyn Clock,
        wanted: SignInRequest<'_>,
    ) -> Result<TokenReply, SignInError> {
        let request = DeviceCodeRequest {
            tenant: wanted.tenant,
            scopes: &wanted.request.scopes,
            claims: wanted.request.claims.as_ref(),
            enable_cae: wanted.request.enable_cae,
        };
        let code = client.start_device_code(&request).await?;
        let prompt = DeviceCodePrompt {
            user_code: code.user_code.clone(),
            verification_uri: code.verification_uri.clone(),
            verification_uri_complete: code.verification_uri_complete.clone(),
            message: code.message.clone(),
            expires_on: clock.now().after(code.expires_in),
        };
        let interaction = Arc::clone(&self.interaction);
        // A terminal may block, and may even panic; neither is this task's affair.
        tokio::task::spawn_blocking(move || interaction.show_device_code(&prompt))
            .await
            .unwrap_or_else(|failed| Err(io::Error::other(failed)))
            .map_err(SignInError::CannotShowCode)?;
        let reply = client.poll_device_code(&code, &request, clock, self.timeout).await?;
        if let Some(expected) = wanted.expected {
            expected.check(&reply)?;
        }
        Ok(reply)
    }
}

impl SignIn for ByDeviceCode {
    const CREDENTIAL: &'static str = "DeviceCodeCredential";
    const GRANT_TYPE: &'static str = "urn:ietf:params:oauth:grant-type:device_code";

    fn sign_in<'a>(
        &'a self,
        client: &'a entra::Client,
        clock: &'a dyn Clock,
        wanted: SignInRequest<'a>,
    ) -> BoxFuture<'a, Result<TokenReply, SignInError>> {
        Box::pin(self.tokens(client, clock, wanted))
    }
}
