//! The control methods over HTTP, for tests in other languages and other processes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::errors::Refusal;
use crate::script::Script;
use crate::server::Shared;

type Here = State<Arc<Shared>>;

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/approve", post(approve))
        .route("/ca.pem", get(ca_pem))
        .route("/change-password", post(change_password))
        .route("/clear-scripts", post(clear_scripts))
        .route("/clock", post(clock))
        .route("/decline", post(decline))
        .route("/device-logins", get(device_logins))
        .route("/log", get(log))
        .route("/refresh-tokens", get(refresh_tokens))
        .route("/release", post(release))
        .route("/reset-log", post(reset_log))
        .route("/script", post(script))
        .route("/scripts", get(scripts))
        .route("/secrets", get(secrets))
        .route("/settings", get(settings).post(change_settings))
        .route("/sign-out", post(sign_out))
        .route("/stats", get(stats))
        .route("/wait", get(wait))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    user: String,
    user_code: Option<String>,
}

/// Without a login to approve, the next one will be.
async fn approve(State(shared): Here, Json(body): Json<Approve>) -> Response {
    let mut world = shared.world();
    match world.approve(&body.user, body.user_code.as_deref()) {
        Ok(true) => Json(json!({ "approved": "now" })).into_response(),
        Ok(false) if body.user_code.is_some() => problem("no pending login has this user code"),
        Ok(false) => {
            world.approvals.push(body.user);
            Json(json!({ "approved": "next" })).into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decline {
    user_code: Option<String>,
}

async fn decline(State(shared): Here, Json(body): Json<Decline>) -> Response {
    if shared.world().decline(body.user_code.as_deref()) {
        Json(json!({ "declined": true })).into_response()
    } else {
        problem("no login is pending")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    user: String,
    password: Option<String>,
}

async fn change_password(State(shared): Here, Json(body): Json<ChangePassword>) -> Response {
    let changed = shared.world().change_password(&body.user, body.password.as_deref());
    match changed {
        Ok(()) => Json(json!({ "changed": body.user })).into_response(),
        Err(_) => problem("no such user"),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Script>),
    One(Box<Script>),
}

async fn script(State(shared): Here, Json(body): Json<Value>) -> Response {
    // Through `Value`, because an untagged enum alone would not say what is wrong.
    let scripts = match OneOrMany::deserialize(&body) {
        Ok(OneOrMany::Many(scripts)) => scripts,
        Ok(OneOrMany::One(script)) => vec![*script],
        Err(_) => match Script::deserialize(&body) {
            Ok(script) => vec![script],
            Err(error) => return problem(&error.to_string()),
        },
    };
    let mut world = shared.world();
    for script in scripts {
        world.scripts.push(script);
    }
    Json(json!({ "queued": world.scripts.list().len() })).into_response()
}

async fn scripts(State(shared): Here) -> Response {
    Json(json!({ "scripts": shared.world().scripts.list() })).into_response()
}

async fn clear_scripts(State(shared): Here) -> Response {
    shared.world().scripts.clear();
    shared.release();
    Json(json!({ "queued": 0 })).into_response()
}

async fn release(State(shared): Here) -> Response {
    shared.release();
    Json(json!({ "released": true })).into_response()
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct LogQuery {
    kind: String,
    since: u64,
}

async fn log(State(shared): Here, Query(query): Query<LogQuery>) -> Response {
    let world = shared.world();
    let entries: Vec<_> = world
        .log
        .entries()
        .iter()
        .filter(|entry| entry.seq > query.since)
        .filter(|entry| query.kind.is_empty() || entry.is_kind(&query.kind))
        .collect();
    Json(json!({ "log": entries })).into_response()
}

async fn reset_log(State(shared): Here) -> Response {
    shared.world().log.reset();
    Json(json!({ "total": 0 })).into_response()
}

async fn stats(State(shared): Here) -> Response {
    Json(json!(shared.world().log.stats())).into_response()
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WaitQuery {
    kind: String,
    count: usize,
    timeout: u64,
}

impl Default for WaitQuery {
    fn default() -> Self {
        Self { kind: String::new(), count: 1, timeout: 60 }
    }
}

async fn wait(State(shared): Here, Query(query): Query<WaitQuery>) -> Response {
    let deadline = Duration::from_secs(query.timeout);
    let waited = tokio::time::timeout(deadline, shared.wait_for(&query.kind, query.count)).await;
    let count = shared.world().log.count(&query.kind);
    let status = if waited.is_ok() { StatusCode::OK } else { StatusCode::REQUEST_TIMEOUT };
    (status, Json(json!({ "count": count }))).into_response()
}

async fn secrets(State(shared): Here) -> Response {
    Json(json!({ "secrets": shared.world().secrets.list() })).into_response()
}

async fn refresh_tokens(State(shared): Here) -> Response {
    Json(json!({ "refresh_tokens": shared.world().refresh_token_summaries() })).into_response()
}

async fn device_logins(State(shared): Here) -> Response {
    Json(json!({ "device_logins": shared.world().device_logins() })).into_response()
}

async fn settings(State(shared): Here) -> Response {
    Json(json!(shared.world().settings)).into_response()
}

async fn change_settings(State(shared): Here, Json(body): Json<Value>) -> Response {
    let mut world = shared.world();
    match world.change_settings(&body) {
        Ok(()) => Json(json!(world.settings)).into_response(),
        Err(error) => problem(&error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    advance: u64,
}

async fn clock(State(shared): Here, Json(body): Json<Clock>) -> Response {
    let mut world = shared.world();
    world.advanced_seconds += body.advance;
    Json(json!({ "advanced": world.advanced_seconds })).into_response()
}

async fn sign_out(State(shared): Here) -> Response {
    shared.world().sessions.clear();
    Json(json!({ "sessions": 0 })).into_response()
}

async fn ca_pem(State(shared): Here) -> Response {
    ([(CONTENT_TYPE, "application/x-pem-file")], shared.ca_pem.clone()).into_response()
}

fn refused(refusal: &Refusal) -> Response {
    problem(refusal.description.as_deref().unwrap_or(&refusal.error))
}

fn problem(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "problem": text }))).into_response()
}
