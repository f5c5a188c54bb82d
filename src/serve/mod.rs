//! Front doors: the signed-in user's tokens for unchanged tools, each by a protocol that it knows
//! already. Every request needs the secret of a grant.
//!
//! A new door is a file that implements `Door`, and a line in `DOORS`.

mod app_service;
mod az;
#[cfg(unix)]
mod az_client;
mod azd;
mod desk;
mod gate;
mod grant;
mod listening;
mod registry;
#[cfg(unix)]
mod relay;
mod server;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use http_body_util::Full;
use url::form_urlencoded;

use crate::bounded_http::Response as Answer;
use crate::token::AccessToken;

use self::desk::{Asked, Refusal};

#[cfg(unix)]
pub(crate) use self::az_client::token as az_token;
pub(crate) use self::desk::Desk;
pub(crate) use self::grant::{AllowedScopes, AllowedTenants, Grant, Terms};
pub(crate) use self::listening::Listening;
pub(crate) use self::registry::{Entry, Listed, Registry};
#[cfg(unix)]
pub(crate) use self::relay::relay;
pub(crate) use self::server::Server;

/// One protocol, at one address.
trait Door: Sync {
    fn name(&self) -> &'static str;
    fn method(&self) -> Method;
    fn path(&self) -> &'static str;

    /// The secret that the request carries, if it carries exactly one.
    fn secret<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]>;

    /// What is asked for.
    fn asked(&self, parts: &Parts, body: &[u8]) -> Result<Asked, Refusal>;

    fn answer(&self, parts: &Parts, token: &AccessToken) -> Answer;

    /// The protocol's own error, so that its client says the right thing.
    fn refuse(&self, refusal: &Refusal) -> Answer;
}

const DOORS: [&dyn Door; 3] = [&app_service::AppService, &azd::Azd, &az::Az];

/// The variables that lead a child to the doors at this address, and the secret that opens them.
pub(crate) fn variables(address: &str, secret: &str) -> [(&'static str, String); 5] {
    [
        // whatever else is set, such as a service principal's leftovers
        ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential".to_owned()),
        ("IDENTITY_ENDPOINT", format!("http://{address}{}", app_service::PATH)),
        ("IDENTITY_HEADER", secret.to_owned()),
        ("AZD_AUTH_ENDPOINT", format!("http://{address}")),
        ("AZD_AUTH_KEY", secret.to_owned()),
    ]
}

/// Variables that would lead the SDKs to another managed identity than ours (spec S-B 5.4; Node's
/// takes a federated token before everything else), or azd to expect a certificate.
pub(crate) const MISLEADING: [&str; 6] = [
    "AZD_AUTH_CERT",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
];

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = the_only(headers, header::AUTHORIZATION.as_str())?;
    let (scheme, secret) = given.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(secret)
}

/// The header's value, unless it stands twice: then it would be open which of them counts.
fn the_only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Some(value.as_bytes())
}

/// The query's parameters, in order.
fn query(parts: &Parts) -> Vec<(String, String)> {
    form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The parameter's value; an error if it stands twice.
fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
        _ => Err(Refusal::BadRequest(format!("{name} stands twice"))),
    }
}

fn check_version(query: &[(String, String)], version: &str) -> Result<(), Refusal> {
    match parameter(query, "api-version")? {
        Some(given) if given == version => Ok(()),
        given => Err(Refusal::BadRequest(format!(
            "api-version {:?} is not served here, only {version}",
            given.unwrap_or_default()
        ))),
    }
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// How long the provider wants to be left alone, for clients that try again by themselves.
fn retry_after(answer: &mut Answer, refusal: &Refusal) {
    if let Refusal::NoToken(crate::Error::Network(error)) = refusal
        && let Some(wait) = error.retry_after
    {
        answer.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().into());
    }
}
