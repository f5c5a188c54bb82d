//! The small server that all doors share: everything about it is bounded.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::desk::{Desk, Refusal};
use super::gate::{self, Hosts};
use super::listening::{Listening, Stream};
use super::{Answer, DOORS, Door};

/// What may be open at once. Beyond that the oldest that has not asked for anything yet is closed.
const CONNECTIONS: usize = 128;
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 64 * 1024;
const TIME_FOR_HEADERS: Duration = Duration::from_secs(5);
const TIME_FOR_BODY: Duration = Duration::from_secs(5);
/// Longer than the provider is tried for.
const TIME_FOR_ALL: Duration = Duration::from_secs(60);
/// Where there are no more descriptors, asking at once again would only burn time.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener with a desk behind it.
#[derive(Debug)]
pub(crate) struct Server {
    listening: Listening,
    desk: Arc<Desk>,
}

impl Server {
    pub(crate) const fn new(listening: Listening, desk: Arc<Desk>) -> Self {
        Self { listening, desk }
    }

    /// Serves until it is dropped, and every connection with it.
    pub(crate) async fn run(self) -> Infallible {
        let room = Arc::new(Room { desk: self.desk, hosts: self.listening.hosts() });
        let mut open = Open::default();
        loop {
            tokio::select! {
                _ = open.tasks.join_next(), if !open.tasks.is_empty() => {}
                accepted = self.listening.accept(), if open.has_place() => match accepted {
                    Ok(stream) => open.start(stream, &room),
                    Err(error) => pause_after(&error).await,
                },
            }
        }
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be taken");
    sleep(PAUSE).await;
}

#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    /// Oldest first, and whether it has asked for something.
    all: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Open {
    fn has_place(&mut self) -> bool {
        self.all.retain(|(task, _)| !task.is_finished());
        self.all.len() < CONNECTIONS || self.oldest_idle().is_some()
    }

    fn oldest_idle(&self) -> Option<usize> {
        self.all.iter().position(|(_, asked)| !asked.load(Ordering::Relaxed))
    }

    fn start(&mut self, stream: Box<dyn Stream>, room: &Arc<Room>) {
        if self.all.len() >= CONNECTIONS
            && let Some((task, _)) = self.oldest_idle().and_then(|at| self.all.remove(at))
        {
            tracing::debug!("an idle connection makes room");
            task.abort();
        }
        let asked = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(serve(stream, Arc::clone(room), Arc::clone(&asked)));
        self.all.push_back((task, asked));
    }
}

/// One connection is good for one request.
async fn serve(stream: Box<dyn Stream>, room: Arc<Room>, asked: Arc<AtomicBool>) {
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let room = Arc::clone(&room);
        async move { Ok::<_, Infallible>(room.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIME_FOR_HEADERS)
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(TIME_FOR_ALL, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}

#[derive(Debug)]
struct Room {
    desk: Arc<Desk>,
    hosts: Hosts,
}

impl Room {
    async fn respond(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let mut answer = match self.door(&parts) {
            Ok(door) => self.through(door, &parts, body).await,
            Err(gate::Stray { status, why }) => {
                tracing::warn!(why, "a request that no client of ours sends");
                self.desk.count(false);
                nothing(status)
            }
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }

    fn door(&self, parts: &Parts) -> Result<&'static dyn Door, gate::Stray> {
        gate::check(parts, &self.hosts)?;
        let stray = |status, why| Err(gate::Stray { status, why });
        match DOORS.iter().find(|door| door.path() == parts.uri.path()) {
            None => stray(StatusCode::NOT_FOUND, "no door has this path"),
            Some(door) if door.method() != parts.method => {
                stray(StatusCode::METHOD_NOT_ALLOWED, "the door has another method")
            }
            Some(door) => Ok(*door),
        }
    }

    async fn through(&self, door: &dyn Door, parts: &Parts, body: Incoming) -> Answer {
        let is_secret = door.secret(&parts.headers).is_some_and(|given| self.desk.grant.is_secret(given));
        let outcome = if is_secret { self.token(door, parts, body).await } else { Err(Refusal::WrongSecret) };
        self.desk.note(door.name(), outcome.as_ref());
        match outcome {
            Ok(token) => door.answer(parts, &token),
            Err(refusal) => door.refuse(&refusal),
        }
    }

    async fn token(
        &self,
        door: &dyn Door,
        parts: &Parts,
        body: Incoming,
    ) -> Result<crate::token::AccessToken, Refusal> {
        // before anything of the request is looked at: nothing else matters any more
        self.desk.stands()?;
        let body = match timeout(TIME_FOR_BODY, Limited::new(body, BODY_BYTES).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return Err(Refusal::BadRequest("the body is too long, or broke off".to_owned())),
            Err(_) => return Err(Refusal::BadRequest("the body took too long".to_owned())),
        };
        self.desk.token(&door.asked(parts, &body)?).await
    }
}

/// Says no, and nothing else.
fn nothing(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}
