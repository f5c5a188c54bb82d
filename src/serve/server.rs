//! The server that all doors share: which requests it lets in, and what they come to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use tokio::sync::watch;

use crate::bounded_http::{self, Handler, Limits, Traffic};
use crate::token::AccessToken;

use super::desk::{Desk, Refusal};
use super::gate::{self, Hosts, Stray};
use super::listening::{Anybody, Listening};
use super::{Answer, DOORS, Door};

const LIMITS: Limits = Limits {
    // claims challenges and lists of scopes have a few kilobytes
    body: 64 * 1024,
    head: 16 * 1024,
    headers: 64,
    connections: 128,
    // programs cannot be told apart
    connections_of_a_program: 128,
    // nothing of a request that is turned away is taken for another one
    keep_alive: false,
    patience: Duration::from_secs(5),
    // longer than the provider is tried for
    answer: Some(Duration::from_secs(60)),
    farewell: Duration::ZERO,
};

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

    /// Serves until it is dropped. Connections that are open by then end with their request, or with
    /// the runtime.
    pub(crate) async fn run(self) -> Infallible {
        let (_stop, stopped) = watch::channel(false);
        let room = Arc::new(Room { hosts: self.listening.hosts(), desk: self.desk });
        bounded_http::serve(self.listening, LIMITS, room, Arc::<Traffic>::default(), stopped).await;
        unreachable!("nobody tells it to stop")
    }
}

#[derive(Debug)]
struct Room {
    desk: Arc<Desk>,
    hosts: Hosts,
}

impl Handler<Anybody> for Room {
    type Admitted = &'static dyn Door;

    fn admit(&self, head: &Parts) -> Result<&'static dyn Door, Box<Answer>> {
        let door = self.door(head).map_err(|stray| Box::new(self.turn_away(stray)))?;
        let is_secret = door.secret(&head.headers).is_some_and(|given| self.desk.grant.is_secret(given));
        // before anything else of the request is looked at: nothing else matters any more
        let stands = if is_secret { self.desk.stands() } else { Err(Refusal::WrongSecret) };
        stands.map(|()| door).map_err(|refusal| Box::new(self.refused(door, &refusal)))
    }

    async fn handle(&self, _peer: &Anybody, door: &&'static dyn Door, request: Request<Bytes>) -> Answer {
        let (head, body) = request.into_parts();
        match self.token(*door, &head, &body).await {
            Ok(token) => {
                self.desk.note(door.name(), Ok(&token));
                sealed(door.answer(&head, &token))
            }
            Err(refusal) => self.refused(*door, &refusal),
        }
    }

    fn refuse(&self, door: Option<&&'static dyn Door>, status: StatusCode) -> Answer {
        let why = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
            StatusCode::BAD_REQUEST => "the body broke off",
            StatusCode::REQUEST_TIMEOUT => "the body took too long",
            StatusCode::GATEWAY_TIMEOUT => "the answer took too long",
            _ => "not a fault of the request",
        };
        match door {
            Some(door) if status.is_client_error() => {
                self.refused(*door, &Refusal::BadRequest(why.to_owned()))
            }
            _ => self.turn_away(Stray { status, why }),
        }
    }
}

impl Room {
    fn door(&self, head: &Parts) -> Result<&'static dyn Door, Stray> {
        gate::check(head, &self.hosts)?;
        let stray = |status, why| Err(Stray { status, why });
        match DOORS.iter().find(|door| door.path() == head.uri.path()) {
            None => stray(StatusCode::NOT_FOUND, "no door has this path"),
            Some(door) if door.method() != head.method => {
                stray(StatusCode::METHOD_NOT_ALLOWED, "the door has another method")
            }
            Some(door) => Ok(*door),
        }
    }

    async fn token(&self, door: &dyn Door, head: &Parts, body: &[u8]) -> Result<AccessToken, Refusal> {
        self.desk.token(&door.asked(head, body)?).await
    }

    /// Says no in the door's own words.
    fn refused(&self, door: &dyn Door, refusal: &Refusal) -> Answer {
        self.desk.note(door.name(), Err(refusal));
        sealed(door.refuse(refusal))
    }

    /// Says no, and nothing else.
    fn turn_away(&self, Stray { status, why }: Stray) -> Answer {
        tracing::warn!(why, "a request gets nothing");
        self.desk.count(false);
        let mut answer = Answer::new(Full::default());
        *answer.status_mut() = status;
        sealed(answer)
    }
}

/// Nobody keeps an answer, or takes it for something else.
fn sealed(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
