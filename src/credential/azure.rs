//! Our credentials inside the official Azure SDK for Rust (feature `azure`).

use azure_core::credentials::{
    AccessToken as AzureToken, TokenCredential as AzureCredential, TokenRequestOptions,
};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;
use secrecy::ExposeSecret as _;

use crate::cloud::TenantId;
use crate::error::{Error, Result};
use crate::token::{Claims, Scopes, TokenRequest};

use super::{
    ChainedTokenCredential, DeviceCodeCredential, InteractiveBrowserCredential, SharedTokenCacheCredential,
    TokenCredential,
};

/// What the SDK's own options have no field for (spec S-B 8.1): put it into the request's context.
///
/// ```
/// use azure_core::credentials::TokenRequestOptions;
/// use azure_core::http::{ClientMethodOptions, Context};
/// use tokenkeep::credential::TokenRequestExt;
///
/// let context = Context::default().with_value(TokenRequestExt::default().enable_cae(true));
/// let options = TokenRequestOptions {
///     method_options: ClientMethodOptions { context },
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TokenRequestExt {
    /// A claims challenge to satisfy.
    pub claims: Option<Claims>,
    /// A tenant other than the credential's own.
    pub tenant_id: Option<TenantId>,
    /// Whether the caller can handle claims challenges.
    pub enable_cae: bool,
}

impl TokenRequestExt {
    /// Answers a claims challenge.
    #[must_use]
    pub fn claims(mut self, claims: Claims) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Asks for a token of this tenant.
    #[must_use]
    pub fn tenant_id(mut self, tenant: TenantId) -> Self {
        self.tenant_id = Some(tenant);
        self
    }

    /// Says that the caller can handle claims challenges.
    #[must_use]
    pub const fn enable_cae(mut self, enable: bool) -> Self {
        self.enable_cae = enable;
        self
    }
}

fn request(scopes: &[&str], options: Option<&TokenRequestOptions<'_>>) -> Result<TokenRequest> {
    let request = TokenRequest::new(Scopes::new(scopes.iter().copied())?);
    let extension = options.and_then(|o| o.method_options.context.value::<TokenRequestExt>());
    Ok(match extension {
        None => request,
        Some(TokenRequestExt { claims, tenant_id, enable_cae }) => {
            request.claims(claims.clone()).tenant(tenant_id.clone()).enable_cae(*enable_cae)
        }
    })
}

async fn azure_token(
    credential: &dyn TokenCredential,
    scopes: &[&str],
    options: Option<TokenRequestOptions<'_>>,
) -> azure_core::Result<AzureToken> {
    let request = request(scopes, options.as_ref()).map_err(azure_error)?;
    let token = credential.get_token(&request).await.map_err(azure_error)?;
    let expires_on = OffsetDateTime::from_unix_timestamp(token.expires_on.seconds())
        .map_err(|error| azure_core::Error::new(ErrorKind::DataConversion, error))?;
    Ok(AzureToken::new(token.token.expose_secret().to_owned(), expires_on))
}

fn azure_error(error: Error) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Credential, error)
}

macro_rules! azure_credential {
    ($($credential:ty),+) => {$(
        #[async_trait::async_trait]
        impl AzureCredential for $credential {
            async fn get_token(
                &self,
                scopes: &[&str],
                options: Option<TokenRequestOptions<'_>>,
            ) -> azure_core::Result<AzureToken> {
                azure_token(self, scopes, options).await
            }
        }
    )+};
}

azure_credential!(
    ChainedTokenCredential,
    DeviceCodeCredential,
    InteractiveBrowserCredential,
    SharedTokenCacheCredential
);
