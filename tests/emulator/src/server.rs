//! From the socket to [`World`] and back: log, script, hold, answer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::control;
use crate::errors::correlation_id;
use crate::http::{Call, Params, Reply};
use crate::pages;
use crate::script::{Answer, Script};
use crate::world::World;

/// What all connections and the control methods share.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    /// Counts changes of the log, for those who wait for a request.
    pub(crate) changed: watch::Sender<u64>,
    /// Counts releases, for answers that are held.
    released: watch::Sender<u64>,
    pub(crate) ca_pem: String,
}

impl Shared {
    pub(crate) fn new(world: World, ca_pem: String) -> Self {
        Self {
            world: Mutex::new(world),
            changed: watch::Sender::new(0),
            released: watch::Sender::new(0),
            ca_pem,
        }
    }

    /// A test that panicked must not take the emulator with it.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Returns when at least `count` requests of the kind have arrived.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) {
        let mut changed = self.changed.subscribe();
        while self.world().log.count(kind) < count {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn log_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Everything: `/_control/…`, and Entra under all other paths.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().nest("/_control", control::router()).fallback(entra).with_state(shared)
}

async fn entra(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let now = shared.world().now();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 1 << 20).await else {
        return respond(None, Reply::new(413, "text/plain", ""));
    };
    let call = Call {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        host: host(&parts),
        query: Params::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        form: Params::parse(&body),
        headers: parts.headers,
        now,
    };
    let mut released = shared.released.subscribe();
    released.mark_unchanged();
    let (seq, script) = {
        let mut world = shared.world();
        world.secrets.note(&call);
        let mut entry = world.describe(&call);
        let script = world.scripts.take(&entry);
        entry.scripted = script.is_some();
        (world.log.begin(entry), script)
    };
    shared.log_changed();
    let script = script.unwrap_or_else(|| Script::once(Answer::Normal));
    if script.hold {
        let _ = released.changed().await;
    }
    if script.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(script.delay_ms)).await;
    }
    let dropped = matches!(script.answer, Answer::Dropped);
    let mut reply = {
        let mut world = shared.world();
        let mut reply = carry_out(&mut world, &call, script.answer);
        if dropped {
            reply.status = 0;
        }
        world.log.finish(seq, &reply);
        reply
    };
    shared.log_changed();
    if dropped {
        return broken(&reply);
    }
    reply.status = reply.status.max(200);
    respond(Some(&call), reply)
}

fn carry_out(world: &mut World, call: &Call, answer: Answer) -> Reply {
    match answer {
        Answer::BadGateway => Reply::page(502, pages::BAD_GATEWAY.into()),
        Answer::Dropped | Answer::Normal => world.answer(call),
        Answer::Edited { without, with } => {
            let mut reply = world.answer(call);
            if let Ok(serde_json::Value::Object(mut members)) = serde_json::from_str(&reply.body) {
                members.retain(|name, _| !without.contains(name));
                members.extend(with);
                reply.body = serde_json::Value::Object(members).to_string();
            }
            reply
        }
        Answer::Empty => Reply::new(200, "application/json; charset=utf-8", ""),
        Answer::Error(error) => error.to_refusal().to_reply(call),
        Answer::Malformed => {
            let mut reply = world.answer(call);
            let mut half = reply.body.len() / 2;
            while !reply.body.is_char_boundary(half) {
                half -= 1;
            }
            reply.body.truncate(half);
            reply
        }
        Answer::Raw { status, headers, body } => {
            let content_type = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
                .map_or("application/json", |(_, value)| value.as_str());
            let mut reply = Reply::new(status, content_type, body);
            for (name, value) in &headers {
                if !name.eq_ignore_ascii_case("content-type") {
                    reply = reply.with_header(name, value);
                }
            }
            reply
        }
    }
}

/// With the header fields that Entra always sends.
fn respond(call: Option<&Call>, reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut always = vec![
        ("Cache-Control".to_owned(), "no-store, no-cache".to_owned()),
        ("Pragma".to_owned(), "no-cache".to_owned()),
        ("Strict-Transport-Security".to_owned(), "max-age=31536000; includeSubDomains".to_owned()),
        ("X-Content-Type-Options".to_owned(), "nosniff".to_owned()),
        ("x-ms-request-id".to_owned(), uuid::Uuid::new_v4().to_string()),
        ("x-ms-ests-server".to_owned(), "2.1.0 - EMULATOR".to_owned()),
    ];
    if let Some(call) = call {
        always.push(("client-request-id".to_owned(), correlation_id(call)));
    }
    for (name, value) in always.into_iter().chain(reply.headers) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Announces the whole answer, sends half of it and breaks the connection.
fn broken(reply: &Reply) -> Response {
    let whole = Bytes::from(reply.body.clone());
    let half = whole.slice(..whole.len() / 2);
    let chunks =
        futures_util::stream::iter([Ok(half), Err(io::Error::other("scripted"))]).then(|chunk| async move {
            // hyper writes out what it has when the body is not ready.
            tokio::time::sleep(Duration::from_millis(5)).await;
            chunk
        });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len().max(2)));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

fn host(parts: &axum::http::request::Parts) -> String {
    parts
        .headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str))
        .unwrap_or("localhost")
        .to_ascii_lowercase()
}
