//! The question that a browser takes to the provider, and what only we know of it: state, nonce, and
//! the proof key of the code (PKCE, RFC 7636).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

use super::{BrowserRequest, Client, Endpoint, RedirectUri, SignInError};
use crate::token::Claims;

/// What one sign-in knows that nobody else may guess.
pub(super) struct Attempt {
    pub(super) redirect_uri: String,
    /// The last part of the one-time address that the browser is started with.
    pub(super) start_token: SecretString,
    pub(super) state: SecretString,
    pub(super) verifier: SecretString,
    nonce: SecretString,
}

impl Attempt {
    pub(super) fn new(redirect_uri: &RedirectUri) -> Result<Self, SignInError> {
        Ok(Self {
            redirect_uri: redirect_uri.to_string(),
            start_token: random_text()?,
            state: random_text()?,
            verifier: random_text()?,
            nonce: random_text()?,
        })
    }

    /// Whether an ID token's nonce is the one that this sign-in sent.
    pub(super) fn has_nonce(&self, nonce: &str) -> bool {
        let ours = nonce_on_the_wire(self.nonce.expose_secret());
        nonce.as_bytes().ct_eq(ours.as_bytes()).into()
    }
}

/// 256 random bits in 43 characters, as RFC 7636 recommends for a verifier.
fn random_text() -> Result<SecretString, SignInError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(SignInError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into())
}

/// S256 of RFC 7636, section 4.2.
fn code_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// The provider sees only the hash, so that an ID token cannot be made to fit by who reads it.
fn nonce_on_the_wire(nonce: &str) -> String {
    Sha256::digest(nonce).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Client {
    /// The provider's page with our question in it (spec S-B 4.2).
    pub(super) fn authorize_url(&self, request: &BrowserRequest<'_>, attempt: &Attempt) -> Url {
        let mut url = self.url(request.tenant, Endpoint::Authorize);
        let mut query = url.query_pairs_mut();
        query
            .append_pair("client_id", &self.client_id)
            .append_pair("response_type", "code")
            .append_pair("response_mode", "form_post")
            .append_pair("redirect_uri", &attempt.redirect_uri)
            .append_pair("scope", &request.scopes.decorated())
            .append_pair("state", attempt.state.expose_secret())
            .append_pair("nonce", &nonce_on_the_wire(attempt.nonce.expose_secret()))
            .append_pair("code_challenge", &code_challenge(attempt.verifier.expose_secret()))
            .append_pair("code_challenge_method", "S256")
            .append_pair("client_info", "1");
        if let Some(hint) = request.login_hint {
            query.append_pair("login_hint", hint);
            query.append_pair("X-AnchorMailbox", &format!("UPN:{hint}"));
        }
        let choose = request.login_hint.is_none().then_some("select_account");
        if let Some(prompt) = request.prompt.or(choose) {
            query.append_pair("prompt", prompt);
        }
        if let Some(claims) = Claims::on_the_wire(request.claims, request.enable_cae) {
            query.append_pair("claims", &claims);
        }
        drop(query);
        url
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::cloud::TenantId;
    use crate::entra::test_support::CountingPause;
    use crate::token::Scopes;

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(code_challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, other) = (random_text().unwrap(), random_text().unwrap());
        assert_eq!(one.expose_secret().len(), 43);
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn a_hint_names_the_account_instead_of_asking() {
        let client = Client::of_test_server("http://127.0.0.1:1", CountingPause::new());
        let (tenant, scopes) = (TenantId::organizations(), Scopes::new(["s"]).unwrap());
        let claims = Claims::parse(r#"{"a":1}"#).unwrap();
        let request = BrowserRequest {
            tenant: &tenant,
            scopes: &scopes,
            claims: Some(&claims),
            enable_cae: false,
            login_hint: Some("a&b@x"),
            prompt: None,
            redirect_uri: None,
            expected: None,
            timeout: Duration::ZERO,
        };
        let attempt = Attempt::new(&RedirectUri::parse("http://localhost:8400").unwrap()).unwrap();
        let url = client.authorize_url(&request, &attempt);
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(url.path(), "/organizations/oauth2/v2.0/authorize");
        assert_eq!((query["login_hint"].as_str(), query["X-AnchorMailbox"].as_str()), ("a&b@x", "UPN:a&b@x"));
        assert_eq!(
            (query["claims"].as_str(), query["redirect_uri"].as_str()),
            (r#"{"a":1}"#, "http://localhost:8400")
        );
        assert!(!query.contains_key("prompt"));
        for secret in [&attempt.verifier, &attempt.nonce, &attempt.start_token] {
            assert!(!url.as_str().contains(secret.expose_secret()));
        }
        assert!(attempt.has_nonce(&query["nonce"]) && !attempt.has_nonce("") && !attempt.has_nonce("forged"));

        let prompted = BrowserRequest { prompt: Some("login"), ..request };
        assert!(client.authorize_url(&prompted, &attempt).as_str().contains("prompt=login"));
    }
}
