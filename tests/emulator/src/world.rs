//! All state behind one lock, and the way from a request to its answer.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authorize::SignIn;
use crate::clock::Moment;
use crate::device::DeviceFlow;
use crate::directory::{Application, Directory};
use crate::errors::Refusal;
use crate::http::{Call, Reply};
use crate::log::{self, Log, LogEntry};
use crate::mint::{AccessTokenRow, RefreshToken};
use crate::script::Scripts;
use crate::secrets::Secrets;
use crate::token::AuthorizationCode;
use crate::{authorize, device, discovery, resource, token};

/// How the emulator behaves; every member can be changed while it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds; Entra takes 60 to 90 minutes.
    pub access_token_lifetime: u64,
    /// Seconds, for clients that announce CP1.
    pub cae_access_token_lifetime: u64,
    /// Seconds; without it half of a lifetime of two hours or more, as Entra does.
    pub refresh_in: Option<u64>,
    /// Seconds without use after which a refresh token ends with AADSTS700082.
    pub refresh_token_lifetime: u64,
    /// A refresh answers with a new refresh token; otherwise with the old one.
    pub rotate_refresh_tokens: bool,
    /// A refresh token that was rotated away cannot be used again. Entra allows it.
    pub invalidate_rotated_refresh_tokens: bool,
    /// Seconds between polls.
    pub device_code_interval: u64,
    /// Seconds until AADSTS70019.
    pub device_code_lifetime: u64,
    /// Name the OpenID scopes in every answer, not only beside Microsoft Graph's.
    pub openid_scopes_always: bool,
    /// Resources that want a sign-in with claims.
    pub required_claims: Vec<RequiredClaims>,
    /// Every device login is approved at once by this user.
    pub auto_approve: Option<String>,
    /// Every authorize request is signed in at once as this user, without a page.
    pub auto_sign_in: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_token_lifetime: 4_899,
            cae_access_token_lifetime: 86_399,
            refresh_in: None,
            refresh_token_lifetime: 90 * 86_400,
            rotate_refresh_tokens: true,
            invalidate_rotated_refresh_tokens: false,
            device_code_interval: 5,
            device_code_lifetime: 900,
            openid_scopes_always: false,
            required_claims: Vec::new(),
            auto_approve: None,
            auto_sign_in: None,
        }
    }
}

/// A resource that is only given out after a sign-in with these claims.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaims {
    /// A part of the scope.
    pub scope: String,
    /// The claims as JSON text, as the refusal will carry them.
    pub claims: String,
}

/// What a person agreed to at a sign-in; codes and refresh tokens carry it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) username: String,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    /// The claims of the sign-in, which then count as satisfied.
    pub(crate) claims: Option<String>,
    pub(crate) nonce: Option<String>,
    /// Counts the user's password changes: an older one is refused with AADSTS50173.
    pub(crate) generation: u32,
    pub(crate) issued: Moment,
}

/// A user's password changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    pub(crate) generation: u32,
    pub(crate) valid_from: Moment,
}

/// The whole emulator without its sockets.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: Directory,
    pub(crate) settings: Settings,
    pub(crate) scripts: Scripts,
    pub(crate) log: Log,
    pub(crate) secrets: Secrets,
    pub(crate) advanced_seconds: u64,
    pub(crate) codes: HashMap<String, AuthorizationCode>,
    pub(crate) devices: Vec<DeviceFlow>,
    /// Users who approve the next device logins before these have begun.
    pub(crate) approvals: Vec<String>,
    pub(crate) sign_ins: HashMap<String, SignIn>,
    /// Browser sessions: cookie to user.
    pub(crate) sessions: HashMap<String, String>,
    pub(crate) refresh_tokens: Vec<RefreshToken>,
    pub(crate) access_tokens: HashMap<String, AccessTokenRow>,
    pub(crate) password_changes: HashMap<String, Credentials>,
}

impl World {
    pub(crate) fn new(directory: Directory, settings: Settings) -> Self {
        Self {
            directory,
            settings,
            scripts: Scripts::default(),
            log: Log::default(),
            secrets: Secrets::default(),
            advanced_seconds: 0,
            codes: HashMap::new(),
            devices: Vec::new(),
            approvals: Vec::new(),
            sign_ins: HashMap::new(),
            sessions: HashMap::new(),
            refresh_tokens: Vec::new(),
            access_tokens: HashMap::new(),
            password_changes: HashMap::new(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::now(self.advanced_seconds)
    }

    /// The true answer, before any script.
    pub(crate) fn answer(&mut self, call: &Call) -> Reply {
        let (endpoint, tenant) = endpoint(call);
        let answer = match endpoint {
            "token" => token::answer(self, call, tenant),
            "devicecode" => device::start(self, call, tenant),
            "devicelogin" => Ok(device::page(self, call)),
            "authorize" => Ok(authorize::page(self, call, tenant)),
            "login" => Ok(authorize::sign_in(self, call)),
            "openid_configuration" => discovery::openid_configuration(self, call, tenant),
            "instance_discovery" => discovery::instance(call),
            "keys" => Ok(discovery::keys()),
            "resource" => Ok(resource::answer(self, call)),
            _ => Ok(Reply::page(404, crate::pages::not_found())),
        };
        answer.unwrap_or_else(|refusal| refusal.to_reply(call))
    }

    /// What the log will say, with what the grant tells about its owner.
    pub(crate) fn describe(&self, call: &Call) -> LogEntry {
        let (endpoint, tenant) = endpoint(call);
        let mut entry = log::describe(call, endpoint, Some(tenant).filter(|t| !t.is_empty()));
        if let Some(row) = call.form.get("refresh_token").and_then(|secret| self.refresh_token(secret)) {
            entry.refresh_token = Some(row.serial);
            entry.user = Some(row.grant.username.clone());
        } else if let Some(code) = call.form.get("code").or_else(|| call.form.get("device_code")) {
            entry.user = match self.codes.get(code) {
                Some(known) => Some(known.grant.username.clone()),
                None => self.device_approver(code),
            };
        }
        entry
    }

    pub(crate) fn application(&self, call: &Call) -> Result<Application, Refusal> {
        let client_id = call.param("client_id").ok_or_else(|| Refusal::missing_parameter("client_id"))?;
        self.directory.application(client_id).cloned().ok_or_else(|| {
            Refusal::aadsts(700016).described(format!(
                "Application with identifier '{client_id}' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            ))
        })
    }

    /// The tenant's GUID, for a user who is in it.
    pub(crate) fn realm(&self, segment: &str, username: Option<&str>) -> Result<String, Refusal> {
        use crate::directory::TenantChoice;
        let choice = self.directory.tenant(segment).ok_or_else(|| {
            Refusal::aadsts(90002).described(format!(
                "Tenant '{segment}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."
            ))
        })?;
        let user = username.and_then(|name| self.directory.user(name));
        match (choice, user) {
            (TenantChoice::Home, Some(user)) => Ok(user.home.tenant.clone()),
            (TenantChoice::Home, None) => Ok("organizations".into()),
            (TenantChoice::Exactly(tenant), Some(user)) if user.membership(&tenant.id).is_none() => {
                Err(Refusal::aadsts(50020).described(format!(
                    "User account '{{EmailHidden}}' from identity provider 'https://sts.windows.net/{}/' does not exist in tenant '{}' and cannot access the application in that tenant. The account needs to be added as an external user in the tenant first. Sign out and sign in again with a different Azure Active Directory user account.",
                    user.home.tenant, tenant.name
                )))
            }
            (TenantChoice::Exactly(tenant), _) => Ok(tenant.id.clone()),
        }
    }

    /// A new grant at this moment.
    pub(crate) fn grant(&self, username: &str, client_id: &str, scope: &str, now: Moment) -> Grant {
        Grant {
            username: username.to_owned(),
            client_id: client_id.to_owned(),
            scope: scope.to_owned(),
            claims: None,
            nonce: None,
            generation: self.generation(username),
            issued: now,
        }
    }

    pub(crate) fn generation(&self, username: &str) -> u32 {
        self.password_changes.get(username).map_or(0, |change| change.generation)
    }

    /// Everything issued to the user before this moment is refused from now on.
    pub(crate) fn change_password(
        &mut self,
        username: &str,
        password: Option<&str>,
    ) -> Result<(), UnknownUser> {
        let now = self.now();
        let user = self.directory.user_mut(username).ok_or(UnknownUser)?;
        if let Some(password) = password {
            user.password = password.to_owned();
        }
        let username = user.username.clone();
        let generation = self.generation(&username) + 1;
        self.sessions.retain(|_, owner| *owner != username);
        self.password_changes.insert(username, Credentials { generation, valid_from: now });
        Ok(())
    }

    /// Changes the named settings and keeps the others.
    pub(crate) fn change_settings(&mut self, changes: &Value) -> Result<(), serde_json::Error> {
        let mut all = serde_json::to_value(&self.settings)?;
        if let (Some(all), Some(changes)) = (all.as_object_mut(), changes.as_object()) {
            all.extend(changes.clone());
        }
        self.settings = serde_json::from_value(all)?;
        Ok(())
    }
}

/// Nobody of that name is in the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnknownUser;

/// Which endpoint a path is, and its tenant segment.
fn endpoint(call: &Call) -> (&'static str, &str) {
    let get = call.method == "GET";
    match (get, call.segments().as_slice()) {
        (false, [tenant, "oauth2", "v2.0", "token"]) => ("token", tenant),
        (false, [tenant, "oauth2", "v2.0", "devicecode"]) => ("devicecode", tenant),
        (_, [tenant, "oauth2", "v2.0", "authorize"]) => ("authorize", tenant),
        (false, [tenant, "login"]) => ("login", tenant),
        (_, ["devicelogin"] | ["common", "oauth2", "deviceauth"]) => ("devicelogin", ""),
        (true, [tenant, "v2.0", ".well-known", "openid-configuration"]) => ("openid_configuration", tenant),
        (true, ["common", "discovery", "instance"]) => ("instance_discovery", ""),
        (true, [_, "discovery", "keys"] | [_, "discovery", "v2.0", "keys"]) => ("keys", ""),
        (_, ["resource", ..]) => ("resource", ""),
        _ => ("other", ""),
    }
}
