//! The token endpoint: one function per grant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::clock::Moment;
use crate::device;
use crate::directory::{Application, resources};
use crate::errors::Refusal;
use crate::http::{Call, Reply};
use crate::mint::Order;
use crate::world::{Grant, World};

/// A code from the authorize endpoint, until it is redeemed and a little longer.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizationCode {
    pub(crate) grant: Grant,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) expires: Moment,
    pub(crate) redeemed: bool,
}

/// A PKCE challenge, RFC 7636.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) value: String,
    pub(crate) s256: bool,
}

impl Challenge {
    fn is_met_by(&self, verifier: &str) -> bool {
        if self.s256 {
            BASE64URL.encode(Sha256::digest(verifier)) == self.value
        } else {
            verifier == self.value
        }
    }
}

/// `POST /{tenant}/oauth2/v2.0/token`.
pub(crate) fn answer(world: &mut World, call: &Call, tenant: &str) -> Result<Reply, Refusal> {
    let grant_type = call.form.get("grant_type").ok_or_else(|| Refusal::missing_parameter("grant_type"))?;
    let application = world.application(call)?;
    check_secret(&application, call)?;
    let reply = match grant_type {
        "authorization_code" => authorization_code(world, call, tenant, &application),
        "client_credentials" => client_credentials(world, call, tenant, &application),
        "refresh_token" => refresh_token(world, call, tenant, &application),
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
            device_code(world, call, tenant, &application)
        }
        other => Err(Refusal::aadsts(70003)
            .described(format!("The app requested an unsupported grant type '{other}'."))),
    }?;
    Ok(Reply::json(200, &reply))
}

/// At most one resource, and `.default` not beside its other scopes.
pub(crate) fn check_scope(scope: &str) -> Result<(), Refusal> {
    if resources(scope).len() > 1 {
        return Err(Refusal::aadsts(28000).described(format!(
            "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope {scope} is not valid."
        )));
    }
    let (default, other): (Vec<&str>, Vec<&str>) = scope
        .split_whitespace()
        .filter(|scope| !matches!(*scope, "openid" | "profile" | "email" | "offline_access"))
        .partition(|scope| scope.ends_with("/.default"));
    if !default.is_empty() && !other.is_empty() {
        return Err(Refusal::aadsts(70011).described(format!(
            "The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid. .default scope can't be combined with resource-specific scopes."
        )));
    }
    Ok(())
}

fn authorization_code(
    world: &mut World,
    call: &Call,
    tenant: &str,
    application: &Application,
) -> Result<Value, Refusal> {
    let secret = required(call, "code")?;
    let code = world.codes.get_mut(secret).ok_or_else(|| Refusal::aadsts(9002313))?;
    if !code.grant.client_id.eq_ignore_ascii_case(&application.client_id) {
        return Err(
            Refusal::aadsts(70000).described("The provided authorization code was issued to another client.")
        );
    }
    if code.redeemed {
        return Err(Refusal::aadsts(54005));
    }
    if code.expires < call.now {
        return Err(Refusal::aadsts(70008));
    }
    let redirect_uri = required(call, "redirect_uri")?;
    if redirect_uri != code.redirect_uri {
        return Err(Refusal::aadsts(500112).described(format!(
            "The reply address '{redirect_uri}' does not match the reply address '{}' provided when requesting Authorization code.",
            code.redirect_uri
        )));
    }
    match (&code.challenge, call.form.get("code_verifier")) {
        (None, _) => {}
        (Some(_), None) => return Err(Refusal::aadsts(50148)),
        (Some(challenge), Some(verifier)) if !challenge.is_met_by(verifier) => {
            return Err(Refusal::aadsts(501481));
        }
        (Some(_), Some(_)) => {}
    }
    code.redeemed = true;
    let grant = code.grant.clone();
    let scope = call.form.get("scope").map_or_else(|| grant.scope.clone(), str::to_owned);
    issue(world, call, tenant, application, &grant, &scope, None)
}

fn device_code(
    world: &mut World,
    call: &Call,
    tenant: &str,
    application: &Application,
) -> Result<Value, Refusal> {
    let code = call
        .form
        .get("device_code")
        .or_else(|| call.form.get("code"))
        .ok_or_else(|| Refusal::missing_parameter("device_code"))?;
    let grant = device::redeem(world, code, application, call.now)?;
    let scope = grant.scope.clone();
    issue(world, call, tenant, application, &grant, &scope, None)
}

fn refresh_token(
    world: &mut World,
    call: &Call,
    tenant: &str,
    application: &Application,
) -> Result<Value, Refusal> {
    let secret = required(call, "refresh_token")?;
    let Some(row) = world.refresh_token(secret).cloned() else {
        // A token of another make is malformed to Entra, one of its own make is unknown or revoked.
        return Err(Refusal::aadsts(if secret.contains('.') { 70000 } else { 9002313 }));
    };
    let own = row.grant.client_id.eq_ignore_ascii_case(&application.client_id);
    let family = row.family.is_some() && row.family == application.family;
    if !own && !family {
        return Err(Refusal::aadsts(70000)
            .with_suberror("client_mismatch")
            .described(format!(
                "Provided grant is invalid or malformed. The refresh token was issued to client '{}' and cannot be redeemed by client '{}'.",
                row.grant.client_id, application.client_id
            )));
    }
    if row.rotated_into.is_some() && world.settings.invalidate_rotated_refresh_tokens {
        return Err(Refusal::aadsts(70000)
            .described("Provided grant is invalid or malformed. The refresh token was already used."));
    }
    if row.last_used.plus(world.settings.refresh_token_lifetime) < call.now {
        return Err(Refusal::aadsts(700082).described(format!(
            "The refresh token has expired due to inactivity. The token was issued on {} and was inactive for {}.00:00:00.",
            row.grant.issued.with_ticks(),
            world.settings.refresh_token_lifetime / 86_400
        )));
    }
    let scope = call.form.get("scope").map_or_else(|| row.grant.scope.clone(), str::to_owned);
    issue(world, call, tenant, application, &row.grant, &scope, Some(row.serial))
}

fn client_credentials(
    world: &mut World,
    call: &Call,
    tenant: &str,
    application: &Application,
) -> Result<Value, Refusal> {
    if application.secret.is_none() {
        return Err(Refusal::aadsts(7000218));
    }
    let scope = required(call, "scope")?;
    if !scope.ends_with("/.default") {
        return Err(Refusal::aadsts(70011).described(format!(
            "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."
        )));
    }
    let realm = world.realm(tenant, None)?;
    Ok(world.service_reply(call, application, &realm, scope))
}

fn issue(
    world: &mut World,
    call: &Call,
    tenant: &str,
    application: &Application,
    grant: &Grant,
    scope: &str,
    redeemed: Option<u64>,
) -> Result<Value, Refusal> {
    if let Some(change) = world.password_changes.get(&grant.username)
        && grant.generation < change.generation
    {
        return Err(Refusal::aadsts(50173).described(format!(
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '{}' and the TokensValidFrom date (before which tokens are not valid) for this user is '{}'.",
            grant.issued.with_ticks(),
            change.valid_from.with_ticks()
        )));
    }
    check_scope(scope)?;
    let user = world.directory.user(&grant.username).cloned().ok_or_else(|| Refusal::aadsts(50034))?;
    let realm = world.realm(tenant, Some(&user.username))?;
    let claims = call.form.get("claims");
    let unmet = world
        .settings
        .required_claims
        .iter()
        .find(|rule| scope.contains(&rule.scope) && !includes(grant.claims.as_deref(), &rule.claims));
    if let Some(rule) = unmet {
        return Err(Refusal::aadsts(50076).with_claims(&rule.claims));
    }
    Ok(world.token_reply(&Order {
        call,
        grant,
        application,
        user: &user,
        realm: &realm,
        scope,
        claims,
        redeemed,
    }))
}

/// All that `wanted` asks for under `access_token` and `id_token` was asked for at the sign-in.
fn includes(asked: Option<&str>, wanted: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (Some(asked), Some(wanted)) = (asked.and_then(parse), parse(wanted)) else {
        return false;
    };
    wanted.as_object().is_some_and(|groups| {
        groups.iter().all(|(group, members)| {
            members.as_object().is_some_and(|members| {
                members.iter().all(|(name, value)| asked[group.as_str()].get(name) == Some(value))
            })
        })
    })
}

fn check_secret(application: &Application, call: &Call) -> Result<(), Refusal> {
    match (&application.secret, call.form.get("client_secret")) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::aadsts(700025)),
        (Some(_), None) => Err(Refusal::aadsts(7000218)),
        (Some(known), Some(sent)) if known == sent => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::aadsts(7000215)),
    }
}

fn required<'a>(call: &'a Call, name: &str) -> Result<&'a str, Refusal> {
    call.form.get(name).ok_or_else(|| Refusal::missing_parameter(name))
}
