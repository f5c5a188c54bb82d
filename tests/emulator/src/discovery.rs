//! Metadata: the OpenID configuration, the cloud instances and their aliases, the keys.

use serde_json::{Value, json};

use crate::directory::TenantChoice;
use crate::errors::Refusal;
use crate::http::{Call, Reply};
use crate::world::World;

/// The `kid` of all tokens.
pub(crate) const KEY_ID: &str = "CNv0OI3RwqlHFEVnaoMAshCH2XE";

/// Preferred network, preferred cache, aliases; as the public cloud answers.
const CLOUDS: &[(&str, &str, &[&str])] = &[
    (
        "login.microsoftonline.com",
        "login.windows.net",
        &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
    ),
    (
        "login.partner.microsoftonline.cn",
        "login.partner.microsoftonline.cn",
        &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
    ),
    ("login.microsoftonline.de", "login.microsoftonline.de", &["login.microsoftonline.de"]),
    (
        "login.microsoftonline.us",
        "login.microsoftonline.us",
        &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    ),
    ("login-us.microsoftonline.com", "login-us.microsoftonline.com", &["login-us.microsoftonline.com"]),
];

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`.
pub(crate) fn openid_configuration(world: &World, call: &Call, segment: &str) -> Result<Reply, Refusal> {
    let choice = world.directory.tenant(segment);
    let (tenant, issuer) = match choice {
        None => {
            world.realm(segment, None)?;
            (segment, segment)
        }
        Some(TenantChoice::Home) => (segment, "{tenantid}"),
        Some(TenantChoice::Exactly(tenant)) => (tenant.id.as_str(), tenant.id.as_str()),
    };
    let base = format!("https://{}/{tenant}", call.host);
    Ok(Reply::json(
        200,
        &json!({
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": format!("https://{}/{issuer}/v2.0", call.host),
            "request_uri_parameter_supported": false,
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
            "http_logout_supported": true,
            "frontchannel_logout_supported": true,
            "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
            "claims_supported": ["sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"],
            "tenant_region_scope": Value::Null,
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
            "rbac_url": "https://pas.windows.net",
        }),
    ))
}

/// `GET /common/discovery/instance`.
pub(crate) fn instance(call: &Call) -> Result<Reply, Refusal> {
    let asked = call
        .query
        .get("authorization_endpoint")
        .ok_or_else(|| Refusal::missing_parameter("authorization_endpoint"))?;
    let known = |host: &str| CLOUDS.iter().any(|cloud| cloud.2.contains(&host));
    let asked = url::Url::parse(asked).map_err(|_| Refusal::aadsts(50049))?;
    let authority = match (asked.host_str(), asked.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    if !known(&authority) && authority != call.host {
        return Err(Refusal::aadsts(50049));
    }
    let mut metadata: Vec<Value> = CLOUDS
        .iter()
        .map(|(network, cache, aliases)| {
            json!({ "preferred_network": network, "preferred_cache": cache, "aliases": aliases })
        })
        .collect();
    if !known(&call.host) {
        metadata.push(json!({
            "preferred_network": call.host, "preferred_cache": call.host, "aliases": [call.host],
        }));
    }
    let tenant = asked.path_segments().and_then(|mut segments| segments.next()).unwrap_or("common");
    Ok(Reply::json(
        200,
        &json!({
            "tenant_discovery_endpoint": format!("https://{authority}/{tenant}/v2.0/.well-known/openid-configuration"),
            "api-version": "1.1",
            "metadata": metadata,
        }),
    ))
}

/// The keys. Nobody can check a signature with them, and the libraries do not try.
pub(crate) fn keys() -> Reply {
    Reply::json(
        200,
        &json!({ "keys": [{
            "kty": "RSA", "use": "sig", "kid": KEY_ID, "x5t": KEY_ID, "e": "AQAB",
            "n": "t".repeat(342),
        }] }),
    )
}
