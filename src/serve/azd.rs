//! The Azure Developer CLI's external authentication: it asks the program that started it.
//!
//! Source: `cli/azd/docs/external-authentication.md` of Azure/azure-dev.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;

use crate::cloud::TenantId;
use crate::token::{AccessToken, Scopes};

use super::{Answer, Asked, Door, Refusal, bearer, check_version, json, query};

const API_VERSION: &str = "2023-07-12-preview";

pub(super) struct Azd;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    scopes: Vec<String>,
    #[serde(default)]
    tenant_id: Option<String>,
}

impl Door for Azd {
    fn name(&self) -> &'static str {
        "azd"
    }

    fn method(&self) -> Method {
        Method::POST
    }

    fn path(&self) -> &'static str {
        "/token"
    }

    fn secret<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        bearer(headers)
    }

    fn asked(&self, parts: &Parts, body: &[u8]) -> Result<Asked, Refusal> {
        check_version(&query(parts), API_VERSION)?;
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| Refusal::BadRequest(format!("the body is not the request's JSON: {error}")))?;
        let tenant = body.tenant_id.filter(|tenant| !tenant.is_empty());
        Ok(Asked {
            scopes: Scopes::new(body.scopes)?,
            tenant: tenant.map(|tenant| TenantId::parse(&tenant)).transpose()?,
            refused_token: None,
        })
    }

    fn answer(&self, _parts: &Parts, token: &AccessToken) -> Answer {
        let expires_on = Timestamp::from_second(token.expires_on.seconds()).unwrap_or(Timestamp::MAX);
        json(
            StatusCode::OK,
            &json!({
                "status": "success",
                "token": token.token.expose_secret(),
                "expiresOn": expires_on.to_string(),
            }),
        )
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        // with any other status azd shows the number instead of the message
        let status = match refusal {
            Refusal::WrongSecret => StatusCode::UNAUTHORIZED,
            _ => StatusCode::OK,
        };
        let code = if refusal.is_not_signed_in() { "NotSignedInError" } else { "GetTokenError" };
        json(status, &json!({ "status": "error", "code": code, "message": refusal.to_string() }))
    }
}
