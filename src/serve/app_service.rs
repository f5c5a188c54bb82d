//! The managed identity endpoint of App Service, version 2019-08-01: every SDK of Azure knows it
//! (spec S-B 5.4).

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use secrecy::ExposeSecret as _;

use crate::Error;
use crate::token::{AccessToken, Scopes};

use super::{Answer, Asked, Door, Refusal, check_version, json, parameter, query, retry_after, the_only};

pub(super) const PATH: &str = "/msi/token";
const API_VERSION: &str = "2019-08-01";
/// Which identity of several: a machine in Azure may have them, the person behind a grant is one.
/// So all of these are taken, and mean that person.
const IDENTITIES: [&str; 5] = ["client_id", "mi_res_id", "msi_res_id", "object_id", "principal_id"];

pub(super) struct AppService;

impl Door for AppService {
    fn name(&self) -> &'static str {
        "app-service"
    }

    fn method(&self) -> Method {
        Method::GET
    }

    fn path(&self) -> &'static str {
        PATH
    }

    fn secret<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        the_only(headers, "x-identity-header")
    }

    fn asked(&self, parts: &Parts, _body: &[u8]) -> Result<Asked, Refusal> {
        let query = query(parts);
        check_version(&query, API_VERSION)?;
        let mut identities = 0;
        for name in IDENTITIES {
            identities += usize::from(parameter(&query, name)?.is_some());
        }
        if identities > 1 {
            return Err(Refusal::BadRequest("several identities are asked for at once".to_owned()));
        }
        let resource = parameter(&query, "resource")?
            .ok_or_else(|| Refusal::BadRequest("no resource is asked for".to_owned()))?;
        Ok(Asked {
            scopes: Scopes::new([scope(resource)])?,
            tenant: None,
            refused_token: parameter(&query, "token_sha256_to_refresh")?.map(str::to_owned),
        })
    }

    fn answer(&self, parts: &Parts, token: &AccessToken) -> Answer {
        let query = query(parts);
        let resource = parameter(&query, "resource").ok().flatten();
        json(
            StatusCode::OK,
            &json!({
                "access_token": token.token.expose_secret(),
                "expires_on": token.expires_on.to_string(),
                "resource": resource,
                "token_type": token.details.token_type,
                "client_id": token.details.client_id,
            }),
        )
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let status = status(refusal);
        let mut answer = json(
            status,
            &json!({
                "statusCode": status.as_u16(),
                "message": refusal.to_string(),
                "correlationId": correlation_id(refusal),
            }),
        );
        retry_after(&mut answer, refusal);
        answer
    }
}

/// The slashes of a resource stay: they are part of the token's audience (spec S-B 2.1).
fn scope(resource: &str) -> String {
    if resource.ends_with("/.default") { resource.to_owned() } else { format!("{resource}/.default") }
}

/// Only what may be better a moment later gets a status that the SDKs try again at.
pub(super) const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::WrongSecret => StatusCode::UNAUTHORIZED,
        Refusal::Revoked | Refusal::Expired | Refusal::Scope(_) | Refusal::Tenant(_) => StatusCode::FORBIDDEN,
        Refusal::NoToken(Error::Denied(_)) => StatusCode::FORBIDDEN,
        Refusal::NoToken(Error::Network(_)) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::BadRequest(_) | Refusal::NoToken(_) => StatusCode::BAD_REQUEST,
    }
}

fn correlation_id(refusal: &Refusal) -> String {
    let of_provider = match refusal {
        Refusal::NoToken(error) => error.provider().and_then(|provider| provider.correlation_id.clone()),
        _ => None,
    };
    of_provider.unwrap_or_else(|| Uuid::new_v4().to_string())
}
