//! A protected resource: anything under `/resource/` wants a bearer token of ours, with CAE.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::http::{Call, Reply};
use crate::world::World;

/// Who the token is for; 401 with a claims challenge once a CAE token was revoked.
pub(crate) fn answer(world: &World, call: &Call) -> Reply {
    let row = call
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|token| world.access_tokens.get(token));
    let challenge = format!(
        r#"Bearer realm="", authorization_uri="https://{}/common/oauth2/authorize", client_id="{}""#,
        call.host,
        row.map_or("", |row| &row.client_id),
    );
    let Some(row) = row.filter(|row| row.expires > call.now) else {
        let body = json!({ "error": { "code": "InvalidAuthenticationToken", "message": "The access token is missing, unknown or expired." } });
        return Reply::json(401, &body)
            .with_header("WWW-Authenticate", &format!(r#"{challenge}, error="invalid_token""#));
    };
    let revoked =
        row.username.as_ref().is_some_and(|user| row.cae && row.generation < world.generation(user));
    if revoked {
        let claims = json!({ "access_token": { "nbf": { "essential": true, "value": call.now.seconds().to_string() } } });
        let body = json!({ "error": { "code": "InvalidAuthenticationToken", "message": "Continuous access evaluation resulted in challenge." } });
        return Reply::json(401, &body).with_header(
            "WWW-Authenticate",
            &format!(
                r#"{challenge}, error="insufficient_claims", claims="{}""#,
                BASE64.encode(claims.to_string())
            ),
        );
    }
    Reply::json(
        200,
        &json!({
            "user": row.username, "tenant": row.tenant, "scope": row.scope, "client_id": row.client_id,
        }),
    )
}
