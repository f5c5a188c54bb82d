//! Makes tokens. Each secret carries a canary word that can be looked for in any output.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::clock::Moment;
use crate::directory::{Application, User, asks_cp1, granted_scopes, resources};
use crate::http::Call;
use crate::world::{Grant, World};

/// A refresh token that was given out.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) serial: u64,
    pub(crate) secret: String,
    pub(crate) grant: Grant,
    pub(crate) family: Option<String>,
    pub(crate) last_used: Moment,
    pub(crate) uses: u32,
    pub(crate) rotated_into: Option<u64>,
}

/// What control tells about a refresh token: everything but the secret.
#[derive(Clone, Debug, Serialize)]
pub struct RefreshTokenSummary {
    /// 1, 2, 3 … in the order of issue.
    pub serial: u64,
    /// Whose it is.
    pub user: String,
    /// The client it was issued to.
    pub client_id: String,
    /// The client's family.
    pub family: Option<String>,
    /// How often it was redeemed.
    pub uses: u32,
    /// The refresh token that came out of the last redemption.
    pub rotated_into: Option<u64>,
    /// Issued before a password change.
    pub dead: bool,
}

/// An access token that was given out; the emulated resource checks it.
#[derive(Clone, Debug)]
pub(crate) struct AccessTokenRow {
    pub(crate) username: Option<String>,
    pub(crate) scope: String,
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) expires: Moment,
    pub(crate) generation: u32,
    pub(crate) cae: bool,
}

impl World {
    pub(crate) fn refresh_token(&self, secret: &str) -> Option<&RefreshToken> {
        self.refresh_tokens.iter().find(|row| row.secret == secret)
    }

    /// The whole token answer for a user's grant.
    pub(crate) fn token_reply(&mut self, order: &Order<'_>) -> Value {
        let Order { call, grant, application, user, realm, scope, claims, .. } = *order;
        let cae = claims.is_some_and(asks_cp1) || grant.claims.as_deref().is_some_and(asks_cp1);
        let granted = granted_scopes(scope, self.settings.openid_scopes_always);
        let mut reply = self.access_token_members(cae);
        let lifetime = reply["expires_in"].as_u64().unwrap_or_default();
        let access_token = access_token(order, &granted, lifetime, cae);
        self.secrets.add("access_token", &access_token);
        self.access_tokens.insert(
            access_token.clone(),
            AccessTokenRow {
                username: Some(user.username.clone()),
                scope: granted.clone(),
                tenant: realm.to_owned(),
                client_id: application.client_id.clone(),
                expires: call.now.plus(lifetime),
                generation: grant.generation,
                cae,
            },
        );
        reply.insert("scope".into(), json!(granted));
        reply.insert("access_token".into(), json!(access_token));
        if let Some(secret) = self.refresh_token_member(order) {
            self.secrets.add("refresh_token", &secret);
            reply.insert("refresh_token".into(), json!(secret));
        }
        if scope.split_whitespace().any(|scope| scope == "openid") {
            let id_token = id_token(order);
            self.secrets.add("id_token", &id_token);
            reply.insert("id_token".into(), json!(id_token));
        }
        if let Some(family) = &application.family {
            reply.insert("foci".into(), json!(family));
        }
        if call.form.get("client_info") == Some("1") {
            let info = client_info(user);
            self.secrets.add("client_info", &info);
            reply.insert("client_info".into(), json!(info));
        }
        in_entras_order(reply)
    }

    /// The token answer for an application itself.
    pub(crate) fn service_reply(
        &mut self,
        call: &Call,
        application: &Application,
        realm: &str,
        scope: &str,
    ) -> Value {
        let mut reply = self.access_token_members(false);
        let lifetime = reply["expires_in"].as_u64().unwrap_or_default();
        let payload = json!({
            "aud": resources(scope).first(), "iss": format!("https://sts.windows.net/{realm}/"),
            "iat": call.now.seconds(), "exp": call.now.plus(lifetime).seconds(),
            "appid": application.client_id, "idtyp": "app", "tid": realm, "ver": "1.0",
        });
        let access_token = jwt(&payload, "AT");
        self.secrets.add("access_token", &access_token);
        self.access_tokens.insert(
            access_token.clone(),
            AccessTokenRow {
                username: None,
                scope: scope.to_owned(),
                tenant: realm.to_owned(),
                client_id: application.client_id.clone(),
                expires: call.now.plus(lifetime),
                generation: 0,
                cae: false,
            },
        );
        reply.insert("access_token".into(), json!(access_token));
        in_entras_order(reply)
    }

    fn access_token_members(&self, cae: bool) -> Map<String, Value> {
        let lifetime =
            if cae { self.settings.cae_access_token_lifetime } else { self.settings.access_token_lifetime };
        let mut members = Map::new();
        members.insert("token_type".into(), json!("Bearer"));
        members.insert("expires_in".into(), json!(lifetime));
        members.insert("ext_expires_in".into(), json!(lifetime));
        if let Some(refresh_in) =
            self.settings.refresh_in.or_else(|| (lifetime >= 7_200).then_some(lifetime / 2))
        {
            members.insert("refresh_in".into(), json!(refresh_in));
        }
        members
    }

    fn refresh_token_member(&mut self, order: &Order<'_>) -> Option<String> {
        let old =
            order.redeemed.and_then(|serial| self.refresh_tokens.iter().position(|row| row.serial == serial));
        if let Some(old) = old {
            self.refresh_tokens[old].uses += 1;
            self.refresh_tokens[old].last_used = order.call.now;
            if !self.settings.rotate_refresh_tokens {
                return Some(self.refresh_tokens[old].secret.clone());
            }
        } else {
            let asked = order.scope.split_whitespace();
            if !asked.into_iter().any(|scope| scope == "offline_access" || scope.ends_with("/.default")) {
                return None;
            }
        }
        let serial = self.refresh_tokens.len() as u64 + 1;
        if let Some(old) = old {
            self.refresh_tokens[old].rotated_into = Some(serial);
        }
        let secret = format!("1.{}-{}", filler("AX", 40), canary("RT"));
        self.refresh_tokens.push(RefreshToken {
            serial,
            secret: secret.clone(),
            grant: Grant {
                client_id: order.application.client_id.clone(),
                nonce: None,
                ..order.grant.clone()
            },
            family: order.application.family.clone(),
            last_used: order.call.now,
            uses: 0,
            rotated_into: None,
        });
        Some(secret)
    }

    pub(crate) fn refresh_token_summaries(&self) -> Vec<RefreshTokenSummary> {
        self.refresh_tokens
            .iter()
            .map(|row| RefreshTokenSummary {
                serial: row.serial,
                user: row.grant.username.clone(),
                client_id: row.grant.client_id.clone(),
                family: row.family.clone(),
                uses: row.uses,
                rotated_into: row.rotated_into,
                dead: row.grant.generation < self.generation(&row.grant.username),
            })
            .collect()
    }
}

/// What a token answer is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) call: &'a Call,
    pub(crate) grant: &'a Grant,
    /// The client that asks now; in a family it may be another than the grant's.
    pub(crate) application: &'a Application,
    pub(crate) user: &'a User,
    pub(crate) realm: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) claims: Option<&'a str>,
    /// The refresh token that was sent.
    pub(crate) redeemed: Option<u64>,
}

/// `CANARY` + kind + a UUID: found by grep in any output.
pub(crate) fn canary(kind: &str) -> String {
    format!("CANARY{kind}{}", Uuid::new_v4().simple())
}

/// A secret of the shape in which Entra makes its codes.
pub(crate) fn opaque(kind: &str) -> String {
    format!("1.{}-{}", filler("AX", 24), canary(kind))
}

/// `client_info` of the user: uid and utid are the home ones in every tenant.
pub(crate) fn client_info(user: &User) -> String {
    let info = json!({ "uid": user.home.oid, "utid": user.home.tenant });
    BASE64URL.encode(info.to_string())
}

fn access_token(order: &Order<'_>, granted: &str, lifetime: u64, cae: bool) -> String {
    let Order { call, application, user, realm, scope, .. } = *order;
    let scp = granted
        .split_whitespace()
        .filter(|scope| !scope.ends_with("/.default"))
        .map(|scope| scope.rsplit('/').next().unwrap_or(scope))
        .collect::<Vec<_>>()
        .join(" ");
    let mut payload = json!({
        "aud": resources(scope).first(),
        "iss": format!("https://sts.windows.net/{realm}/"),
        "iat": call.now.seconds(), "nbf": call.now.seconds(), "exp": call.now.plus(lifetime).seconds(),
        "appid": application.client_id, "name": user.name, "oid": oid(user, realm), "scp": scp,
        "sub": pairwise(user, &application.client_id), "tid": realm,
        "unique_name": user.username, "upn": user.username, "ver": "1.0",
    });
    if cae {
        payload["xms_cc"] = json!(["CP1"]);
    }
    jwt(&payload, "AT")
}

fn id_token(order: &Order<'_>) -> String {
    let Order { call, grant, application, user, realm, .. } = *order;
    let mut payload = json!({
        "aud": application.client_id,
        "iss": format!("https://{}/{realm}/v2.0", call.host),
        "iat": call.now.seconds(), "nbf": call.now.seconds(), "exp": call.now.plus(3_600).seconds(),
    });
    if realm != user.home.tenant {
        payload["idp"] = json!(format!("https://sts.windows.net/{}/", user.home.tenant));
    }
    payload["name"] = json!(user.name);
    if let Some(nonce) = &grant.nonce {
        payload["nonce"] = json!(nonce);
    }
    payload["oid"] = json!(oid(user, realm));
    payload["preferred_username"] = json!(user.username);
    payload["sub"] = json!(pairwise(user, &application.client_id));
    payload["tid"] = json!(realm);
    payload["ver"] = json!("2.0");
    jwt(&payload, "ID")
}

/// Header and payload as in a real one; the signature is a canary and is never checked.
fn jwt(payload: &Value, kind: &str) -> String {
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": crate::discovery::KEY_ID });
    format!(
        "{}.{}.{}",
        BASE64URL.encode(header.to_string()),
        BASE64URL.encode(payload.to_string()),
        canary(kind)
    )
}

fn oid<'a>(user: &'a User, realm: &str) -> &'a str {
    &user.membership(realm).unwrap_or(&user.home).oid
}

fn pairwise(user: &User, client_id: &str) -> String {
    BASE64URL.encode(Sha256::digest(format!("{}|{client_id}", user.home.oid)))
}

fn filler(start: &str, length: usize) -> String {
    let random = Uuid::new_v4().simple().to_string() + &Uuid::new_v4().simple().to_string();
    let mut text = start.to_owned() + &random;
    text.truncate(length);
    text
}

/// Entra's own order of members; some readers of captured traffic look for it.
fn in_entras_order(mut members: Map<String, Value>) -> Value {
    const ORDER: [&str; 10] = [
        "token_type",
        "scope",
        "expires_in",
        "ext_expires_in",
        "refresh_in",
        "access_token",
        "refresh_token",
        "foci",
        "id_token",
        "client_info",
    ];
    let mut ordered = Map::new();
    for name in ORDER {
        if let Some(value) = members.shift_remove(name) {
            ordered.insert(name.into(), value);
        }
    }
    Value::Object(ordered)
}
