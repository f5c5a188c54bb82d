//! The authorize endpoint: parameters in, sign-in page, and a code or an error to the redirect address.

use serde_json::json;
use url::Url;
use uuid::Uuid;

use crate::directory::{Application, User};
use crate::errors::{Refusal, correlation_id};
use crate::http::{Call, Reply};
use crate::mint::{client_info, opaque};
use crate::pages;
use crate::token::{AuthorizationCode, Challenge, check_scope};
use crate::world::World;

/// An authorize request that waits for a person.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    tenant: String,
    application: Application,
    redirect_uri: String,
    response_mode: ResponseMode,
    scope: String,
    claims: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    challenge: Option<Challenge>,
    login_hint: String,
    wants_client_info: bool,
}

#[derive(Clone, Copy, Debug)]
enum ResponseMode {
    FormPost,
    Fragment,
    Query,
}

const SESSION_COOKIE: &str = "ESTSAUTHPERSISTENT";
const CODE_LIFETIME: u64 = 600;

/// `GET` (or `POST`) `/{tenant}/oauth2/v2.0/authorize`.
pub(crate) fn page(world: &mut World, call: &Call, tenant: &str) -> Reply {
    let sign_in = match parse(world, call, tenant) {
        Ok(sign_in) => sign_in,
        // Nothing may be sent to a redirect address that was not checked.
        Err(Problem::Shown(refusal)) => return error_page(call, &refusal),
        Err(Problem::Redirected(sign_in, refusal)) => return fail(call, &sign_in, &refusal),
    };
    let prompt = call.param("prompt").unwrap_or_default().to_owned();
    let session = call.cookie(SESSION_COOKIE).and_then(|cookie| world.sessions.get(cookie)).cloned();
    let auto = world.settings.auto_sign_in.clone();
    let hint = sign_in.login_hint.clone();
    if let Some(user) = auto.and_then(|name| world.directory.user(&name).cloned()) {
        return finish(world, call, &sign_in, &user);
    }
    match (prompt.as_str(), session) {
        ("none", None) => fail(call, &sign_in, &Refusal::aadsts(50058)),
        ("none" | "", Some(name)) if hint.is_empty() || hint.eq_ignore_ascii_case(&name) => {
            match world.directory.user(&name).cloned() {
                Some(user) => finish(world, call, &sign_in, &user),
                None => fail(call, &sign_in, &Refusal::aadsts(50058)),
            }
        }
        ("none", Some(_)) => fail(call, &sign_in, &Refusal::aadsts(50058)),
        ("select_account", Some(name)) if hint.is_empty() => {
            let action = format!("/{tenant}/login");
            let application = sign_in.application.name.clone();
            let context = remember(world, sign_in);
            Reply::page(200, pages::pick_account(&action, &context, &application, &name))
        }
        _ => {
            let context = remember(world, sign_in.clone());
            sign_in_page(&sign_in, &context, &hint, None)
        }
    }
}

/// `POST /{tenant}/login`: what the sign-in page sends.
pub(crate) fn sign_in(world: &mut World, call: &Call) -> Reply {
    let context = call.form.get("ctx").unwrap_or_default().to_owned();
    let Some(sign_in) = world.sign_ins.get(&context).cloned() else {
        return error_page(call, &Refusal::aadsts(50089));
    };
    match call.form.get("action") {
        Some("cancel") => {
            world.sign_ins.remove(&context);
            return fail(call, &sign_in, &Refusal::aadsts(65004));
        }
        Some("other") => return sign_in_page(&sign_in, &context, "", None),
        Some("continue") => {
            let known = call
                .cookie(SESSION_COOKIE)
                .and_then(|cookie| world.sessions.get(cookie))
                .and_then(|name| world.directory.user(name))
                .cloned();
            return match known {
                Some(user) => {
                    world.sign_ins.remove(&context);
                    finish(world, call, &sign_in, &user)
                }
                None => sign_in_page(&sign_in, &context, "", None),
            };
        }
        _ => {}
    }
    let typed = call.form.get("loginfmt").unwrap_or_default().to_owned();
    let user = match world.check_password(call) {
        Ok(name) => world.directory.user(&name).cloned(),
        Err((code, problem)) => {
            return sign_in_page(&sign_in, &context, &typed, Some(problem)).with_code(code);
        }
    };
    let Some(user) = user else {
        return sign_in_page(&sign_in, &context, &typed, None);
    };
    if let Err(refusal) = world.realm(&sign_in.tenant, Some(&user.username)) {
        let text = refusal.description.unwrap_or_default();
        return sign_in_page(&sign_in, &context, &typed, Some(&text)).with_code(50020);
    }
    world.sign_ins.remove(&context);
    let cookie = Uuid::new_v4().simple().to_string();
    world.sessions.insert(cookie.clone(), user.username.clone());
    finish(world, call, &sign_in, &user).with_header(
        "Set-Cookie",
        &format!("{SESSION_COOKIE}={cookie}; path=/; secure; HttpOnly; SameSite=None"),
    )
}

impl World {
    /// The user who typed name and password, or the number and the text for the page.
    pub(crate) fn check_password(&self, call: &Call) -> Result<String, (u32, &'static str)> {
        let typed = call.form.get("loginfmt").unwrap_or_default();
        let Some(user) = self.directory.user(typed) else {
            return Err((
                50034,
                "This username may be incorrect. Make sure you typed it correctly. Otherwise, contact your admin.",
            ));
        };
        if call.form.get("passwd") == Some(&user.password) {
            Ok(user.username.clone())
        } else {
            Err((
                50126,
                "Your account or password is incorrect. If you don't remember your password, reset it now.",
            ))
        }
    }
}

enum Problem {
    Shown(Refusal),
    Redirected(Box<SignIn>, Refusal),
}

fn parse(world: &World, call: &Call, tenant: &str) -> Result<SignIn, Problem> {
    let application = world.application(call).map_err(Problem::Shown)?;
    world.realm(tenant, None).map_err(Problem::Shown)?;
    let redirect_uri = call
        .param("redirect_uri")
        .ok_or_else(|| Problem::Shown(Refusal::missing_parameter("redirect_uri")))?;
    if !application.may_redirect_to(redirect_uri) {
        return Err(Problem::Shown(Refusal::aadsts(50011).described(format!(
            "The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs configured for the application '{}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal.",
            application.client_id
        ))));
    }
    let owned = |name: &str| call.param(name).map(str::to_owned);
    let sign_in = SignIn {
        tenant: tenant.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        response_mode: match call.param("response_mode") {
            Some("form_post") => ResponseMode::FormPost,
            Some("fragment") => ResponseMode::Fragment,
            _ => ResponseMode::Query,
        },
        scope: owned("scope").unwrap_or_default(),
        claims: owned("claims"),
        state: owned("state"),
        nonce: owned("nonce"),
        challenge: call.param("code_challenge").map(|value| Challenge {
            value: value.to_owned(),
            s256: call.param("code_challenge_method") == Some("S256"),
        }),
        login_hint: owned("login_hint").unwrap_or_default(),
        wants_client_info: call.param("client_info") == Some("1"),
        application,
    };
    let problem = if call.param("response_type") != Some("code") {
        Some(Refusal::aadsts(700054))
    } else if sign_in.scope.is_empty() {
        Some(Refusal::missing_parameter("scope"))
    } else {
        check_scope(&sign_in.scope).err()
    };
    match problem {
        Some(refusal) => Err(Problem::Redirected(Box::new(sign_in), refusal)),
        None => Ok(sign_in),
    }
}

fn remember(world: &mut World, sign_in: SignIn) -> String {
    let context = Uuid::new_v4().simple().to_string();
    world.sign_ins.insert(context.clone(), sign_in);
    context
}

fn sign_in_page(sign_in: &SignIn, context: &str, username: &str, problem: Option<&str>) -> Reply {
    Reply::page(
        200,
        pages::sign_in(&pages::SignInForm {
            action: &format!("/{}/login", sign_in.tenant),
            hidden: &[("ctx", context)],
            application: &sign_in.application.name,
            username,
            problem,
        }),
    )
}

fn finish(world: &mut World, call: &Call, sign_in: &SignIn, user: &User) -> Reply {
    let mut grant = world.grant(&user.username, &sign_in.application.client_id, &sign_in.scope, call.now);
    grant.claims.clone_from(&sign_in.claims);
    grant.nonce.clone_from(&sign_in.nonce);
    let code = opaque("AC");
    world.secrets.add("code", &code);
    world.codes.insert(
        code.clone(),
        AuthorizationCode {
            grant,
            redirect_uri: sign_in.redirect_uri.clone(),
            challenge: sign_in.challenge.clone(),
            expires: call.now.plus(CODE_LIFETIME),
            redeemed: false,
        },
    );
    let mut members = vec![("code", code)];
    if sign_in.wants_client_info {
        let info = client_info(user);
        world.secrets.add("client_info", &info);
        members.push(("client_info", info));
    }
    if let Some(state) = &sign_in.state {
        members.push(("state", state.clone()));
    }
    members.push(("session_state", Uuid::new_v4().to_string()));
    respond(sign_in, &members)
}

fn fail(call: &Call, sign_in: &SignIn, refusal: &Refusal) -> Reply {
    let trace = Uuid::new_v4().to_string();
    let description = refusal.full_description(call, &trace, &correlation_id(call));
    let mut members = vec![("error", refusal.error.clone())];
    if refusal.error == "access_denied" {
        members.push(("error_subcode", "cancel".into()));
    }
    members.push(("error_description", description));
    if let Some(code) = refusal.codes.first() {
        let uri = format!("https://{}/error?code={code}", call.host);
        members.push(("error_uri", uri));
    }
    if let Some(state) = &sign_in.state {
        members.push(("state", state.clone()));
    }
    let mut reply = respond(sign_in, &members);
    reply.code = refusal.codes.first().copied();
    reply.error = Some(refusal.error.clone());
    reply
}

fn respond(sign_in: &SignIn, members: &[(&str, String)]) -> Reply {
    if let ResponseMode::FormPost = sign_in.response_mode {
        return Reply::page(200, pages::form_post(&sign_in.redirect_uri, members));
    }
    let Ok(mut target) = Url::parse(&sign_in.redirect_uri) else {
        return Reply::json(400, &json!({ "error": "invalid_request" }));
    };
    if let ResponseMode::Query = sign_in.response_mode {
        target.query_pairs_mut().extend_pairs(members);
    } else {
        let pairs = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(members).finish();
        target.set_fragment(Some(&pairs));
    }
    Reply::redirect(target.as_str())
}

fn error_page(call: &Call, refusal: &Refusal) -> Reply {
    let trace = Uuid::new_v4().to_string();
    let correlation = correlation_id(call);
    let description = refusal.full_description(call, &trace, &correlation);
    let mut reply = Reply::page(400, pages::error(&description));
    reply.code = refusal.codes.first().copied();
    reply.error = Some(refusal.error.clone());
    reply
}
