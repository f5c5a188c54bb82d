//! What our stand-in for `az account get-access-token` asks: an address of our own.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::cloud::TenantId;
use crate::token::{AccessToken, Scopes};

use super::{Answer, Asked, Door, Refusal, app_service, bearer, json, parameter, query, retry_after};

pub(super) const PATH: &str = "/az/token";

pub(super) struct Az;

impl Door for Az {
    fn name(&self) -> &'static str {
        "az"
    }

    fn method(&self) -> Method {
        Method::GET
    }

    fn path(&self) -> &'static str {
        PATH
    }

    fn secret<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        bearer(headers)
    }

    fn asked(&self, parts: &Parts, _body: &[u8]) -> Result<Asked, Refusal> {
        let query = query(parts);
        let scopes = query.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| scope);
        Ok(Asked {
            scopes: Scopes::new(scopes)?,
            tenant: parameter(&query, "tenant")?.map(TenantId::parse).transpose()?,
            refused_token: None,
        })
    }

    fn answer(&self, _parts: &Parts, token: &AccessToken) -> Answer {
        json(
            StatusCode::OK,
            &json!({
                "accessToken": token.token.expose_secret(),
                "expires_on": token.expires_on.seconds(),
                "tenant": token.details.tenant,
                "tokenType": token.details.token_type,
            }),
        )
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let mut answer = json(app_service::status(refusal), &json!({ "message": refusal.to_string() }));
        retry_after(&mut answer, refusal);
        answer
    }
}
