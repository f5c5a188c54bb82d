//! The device code flow, RFC 8628: its start, its page, its polls.

use serde::Serialize;
use serde_json::json;

use crate::clock::Moment;
use crate::directory::Application;
use crate::errors::Refusal;
use crate::http::{Call, Reply};
use crate::mint::opaque;
use crate::pages;
use crate::token::check_scope;
use crate::world::{Grant, World};

/// One device login.
#[derive(Clone, Debug)]
pub(crate) struct DeviceFlow {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
    pub(crate) client_id: String,
    pub(crate) tenant: String,
    pub(crate) scope: String,
    pub(crate) claims: Option<String>,
    pub(crate) expires: Moment,
    pub(crate) state: State,
    pub(crate) polls: u32,
}

/// How far a device login has come.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Pending,
    Approved(Grant),
    Declined,
    Redeemed,
}

/// What control tells about a device login.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceLogin {
    /// What the person types in.
    pub user_code: String,
    /// The client that began it.
    pub client_id: String,
    /// The scopes asked for.
    pub scope: String,
    /// The claims asked for.
    pub claims: Option<String>,
    /// `pending`, `approved`, `declined` or `redeemed`.
    pub state: &'static str,
    /// How often the client asked.
    pub polls: u32,
}

/// `POST /{tenant}/oauth2/v2.0/devicecode`.
pub(crate) fn start(world: &mut World, call: &Call, tenant: &str) -> Result<Reply, Refusal> {
    let application = world.application(call)?;
    if application.secret.is_some() {
        return Err(Refusal::aadsts(7000218));
    }
    world.realm(tenant, None)?;
    let scope = call.form.get("scope").ok_or_else(|| Refusal::missing_parameter("scope"))?;
    check_scope(scope)?;
    let user_code = user_code();
    let device_code = opaque("DC");
    world.secrets.add("device_code", &device_code);
    world.devices.push(DeviceFlow {
        device_code: device_code.clone(),
        user_code: user_code.clone(),
        client_id: application.client_id,
        tenant: tenant.to_owned(),
        scope: scope.to_owned(),
        claims: call.form.get("claims").map(str::to_owned),
        expires: call.now.plus(world.settings.device_code_lifetime),
        state: State::Pending,
        polls: 0,
    });
    let approver = world
        .settings
        .auto_approve
        .clone()
        .or_else(|| (!world.approvals.is_empty()).then(|| world.approvals.remove(0)));
    if let Some(user) = approver {
        // The user was checked when the approval was ordered; a stranger leaves the login pending.
        let _ = world.approve(&user, Some(&user_code));
    }
    let page = format!("https://{}/devicelogin", call.host);
    Ok(Reply::json(
        200,
        &json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": world.settings.device_code_lifetime,
            "interval": world.settings.device_code_interval,
            "message": format!("To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."),
        }),
    ))
}

/// A poll: the grant, if somebody approved.
pub(crate) fn redeem(
    world: &mut World,
    device_code: &str,
    application: &Application,
    now: Moment,
) -> Result<Grant, Refusal> {
    let flow = world
        .devices
        .iter_mut()
        .find(|flow| flow.device_code == device_code && flow.client_id == application.client_id)
        .ok_or_else(|| Refusal::aadsts(70018))?;
    flow.polls += 1;
    if flow.expires < now && !matches!(flow.state, State::Redeemed) {
        return Err(Refusal::aadsts(70019));
    }
    match &flow.state {
        State::Pending => Err(Refusal::aadsts(70016)),
        State::Declined => {
            let mut refusal = Refusal::aadsts(65004);
            refusal.error = "authorization_declined".into();
            Err(refusal)
        }
        State::Redeemed => Err(Refusal::aadsts(90120)),
        State::Approved(grant) => {
            let grant = grant.clone();
            flow.state = State::Redeemed;
            Ok(grant)
        }
    }
}

impl World {
    /// Approves one pending device login: the named one, or the newest.
    pub(crate) fn approve(&mut self, username: &str, user_code: Option<&str>) -> Result<bool, Refusal> {
        let user = self.directory.user(username).ok_or_else(|| Refusal::aadsts(50034))?.username.clone();
        let now = self.now();
        let Some(index) = self.pending(user_code) else {
            return Ok(false);
        };
        let flow = &self.devices[index];
        self.realm(&flow.tenant, Some(&user))?;
        let mut grant = self.grant(&user, &flow.client_id, &flow.scope, now);
        grant.claims.clone_from(&flow.claims);
        self.devices[index].state = State::Approved(grant);
        Ok(true)
    }

    /// Declines one pending device login: the named one, or the newest.
    pub(crate) fn decline(&mut self, user_code: Option<&str>) -> bool {
        let pending = self.pending(user_code);
        if let Some(index) = pending {
            self.devices[index].state = State::Declined;
        }
        pending.is_some()
    }

    pub(crate) fn device_logins(&self) -> Vec<DeviceLogin> {
        self.devices
            .iter()
            .map(|flow| DeviceLogin {
                user_code: flow.user_code.clone(),
                client_id: flow.client_id.clone(),
                scope: flow.scope.clone(),
                claims: flow.claims.clone(),
                state: match flow.state {
                    State::Pending => "pending",
                    State::Approved(_) => "approved",
                    State::Declined => "declined",
                    State::Redeemed => "redeemed",
                },
                polls: flow.polls,
            })
            .collect()
    }

    /// Who approved the login that this device code belongs to.
    pub(crate) fn device_approver(&self, device_code: &str) -> Option<String> {
        let flow = self.devices.iter().find(|flow| flow.device_code == device_code)?;
        match &flow.state {
            State::Approved(grant) => Some(grant.username.clone()),
            State::Declined | State::Pending | State::Redeemed => None,
        }
    }

    fn pending(&self, user_code: Option<&str>) -> Option<usize> {
        let now = self.now();
        self.devices.iter().rposition(|flow| {
            matches!(flow.state, State::Pending)
                && flow.expires >= now
                && user_code.is_none_or(|code| flow.user_code.eq_ignore_ascii_case(code.trim()))
        })
    }
}

/// `GET` and `POST /devicelogin`: code, then name and password, then the end.
pub(crate) fn page(world: &mut World, call: &Call) -> Reply {
    if call.method == "GET" {
        let prefilled = call.query.get("otc").unwrap_or_default();
        return Reply::page(200, pages::device_code(prefilled, None));
    }
    let typed = call.form.get("otc").unwrap_or_default().to_owned();
    let Some(index) = world.pending(Some(&typed)) else {
        let problem = "That code didn't work. Check the code and try again.";
        return Reply::page(200, pages::device_code(&typed, Some(problem))).with_code(70018);
    };
    let flow = world.devices[index].clone();
    let application = world
        .directory
        .application(&flow.client_id)
        .map_or_else(|| flow.client_id.clone(), |known| known.name.clone());
    let form = pages::SignInForm {
        action: "/devicelogin",
        hidden: &[("otc", &flow.user_code)],
        application: &application,
        username: call.form.get("loginfmt").unwrap_or_default(),
        problem: None,
    };
    match call.form.get("action") {
        Some("cancel") => {
            world.decline(Some(&typed));
            Reply::page(200, pages::device_declined(&application)).with_code(65004)
        }
        Some("signin") => match world.check_password(call) {
            Ok(user) => match world.approve(&user, Some(&typed)) {
                Ok(_) => Reply::page(200, pages::device_done(&application)),
                Err(refusal) => {
                    let text = refusal.description.clone().unwrap_or_default();
                    Reply::page(200, pages::sign_in(&form.with_problem(&text)))
                        .with_code(refusal.codes.first().copied().unwrap_or_default())
                }
            },
            Err((code, problem)) => {
                Reply::page(200, pages::sign_in(&form.with_problem(problem))).with_code(code)
            }
        },
        _ => Reply::page(200, pages::sign_in(&form)),
    }
}

/// Nine characters that cannot be taken for one another, as Entra makes them.
fn user_code() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .rev()
        .take(9)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}
