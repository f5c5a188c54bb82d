//! The agent's routes, from the first connection to a clean end.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::agent_client::protocol::{
    self, AskAccounts, AskAnswer, AskForget, AskToken, AskUnlock, DoneAnswer, Hello, LOCKED, LockReason,
    StateAnswer, Status, TOO_SOON,
};
use crate::agent_client::{ErrorAnswer, Refusal};
use crate::bounded_http::{self, Handler, Limits, Response, Traffic};
use crate::error::DENIED;
use crate::process::{self, ending};
use crate::time::UnixTime;

use super::asker::{self, Asker};
use super::consent::{Answer, Questions};
use super::counters::Counters;
use super::engine::{NoAnswer, Surroundings};
use super::journal::Journal;
use super::logind::{self, Delay, Inhibitor};
use super::peer::{Ours, Peer};
use super::permit::Permit;
use super::rest;
use super::session::{SETTLE, Session, patience_before};
use super::socket::BoundSocket;

const LIMITS: Limits = Limits {
    // claims challenges and records have a few kilobytes
    body: 64 * 1024,
    head: 16 * 1024,
    headers: 64,
    // each takes two descriptors, its own and one of the client's process; the usual limit is 1024
    connections: 384,
    connections_of_a_program: 128,
    keep_alive: true,
    patience: Duration::from_secs(15),
    // what a request waits for is bounded by the engine
    answer: None,
    farewell: Duration::from_secs(5),
};

/// How long a lock waits for requests that are being answered: whoever connects meanwhile waits with
/// it, and must not take the agent for dead.
const FAREWELL_OF_A_LOCK: Duration = Duration::from_secs(1);

/// Bytes of an answer without its token, scopes and name, which is wiped byte by byte.
const USUAL_JSON: usize = 768;

/// Longer passphrases are none.
const LONGEST_PASSPHRASE: usize = 4096;

const AGENT: &str = concat!("tokenkeep/", env!("CARGO_PKG_VERSION"));

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was locked: this process is to begin anew. Until it has, a suspend is put off.
    Locked { because: LockReason, suspend: Option<Inhibitor> },
    /// Somebody wanted it to end.
    Stopped,
}

/// Serves until SIGTERM, SIGINT or a request ends it, or it is locked; then everything is saved.
///
/// # Errors
/// When the socket cannot be listened on. Whatever happens later is one request's trouble.
pub(crate) async fn serve(
    socket: &BoundSocket,
    surroundings: Surroundings,
    locked_because: Option<LockReason>,
    ready: impl FnOnce(),
) -> io::Result<Ended> {
    let (stop, stopped) = watch::channel(false);
    let counters = Arc::<Counters>::default();
    let traffic = Arc::<Traffic>::default();
    let asked = Arc::<Notify>::default();
    let listener = Ours::at(socket, Arc::clone(&counters))?;
    let session = Session::new(locked_because, surroundings.clone(), Arc::clone(&counters), stop.clone());
    let session = Arc::new(session);
    let suspend = Arc::<Delay>::default();
    let chosen = Arc::clone(&surroundings.chosen);
    let desktop = logind::watch(Arc::clone(&session), chosen.subscribe(), Arc::clone(&suspend));
    let journal = Journal::new(Arc::clone(&surroundings.clock), surroundings.places.clone());
    let journal = Arc::new(journal);
    let questions = Questions::new(
        Arc::clone(&chosen),
        Arc::clone(&surroundings.clock),
        Arc::clone(&journal),
        surroundings.places.clone(),
    );
    let permit = Permit {
        chosen: Arc::clone(&chosen),
        clock: Arc::clone(&surroundings.clock),
        counters: Arc::clone(&counters),
        journal: Arc::clone(&journal),
        questions: Arc::clone(&questions),
    };
    let desk = Arc::new(Desk {
        started_at: surroundings.clock.now(),
        socket: socket.path.display().to_string(),
        session: Arc::clone(&session),
        permit,
        surroundings,
        counters,
        traffic: Arc::clone(&traffic),
        stop: stop.clone(),
        asked: Arc::clone(&asked),
    });
    let quiet = tokio::spawn(rest::when_quiet(asked, process::let_go_of_idle_code));
    let (asked_for, left) = (ending::asked_for(), ending::left_by_the_terminal());
    let signals = tokio::spawn(async move {
        tokio::select! {
            () = asked_for => {}
            () = left => {}
        }
        ending::ask();
        stop.send_replace(true);
    });
    let keeper = Arc::clone(&session);
    let clocks = tokio::spawn(async move { keeper.lock_in_time().await });
    let (writer, of) = (Arc::clone(&journal), Arc::clone(&session));
    let writer = tokio::spawn(async move { writer.keep_writing(&of).await });
    let desktop = tokio::spawn(desktop);
    let clock = Arc::clone(&desk.surroundings.clock);
    let choices = tokio::spawn(async move { chosen.keep_up(clock).await });
    tell_the_system("READY=1");
    ready();
    let mut ending = stopped.clone();
    let serving = bounded_http::serve(listener, LIMITS, Arc::clone(&desk), traffic, stopped);
    let is_lock = || session.leaves_because().is_some() && !ending::was_asked_for();
    let told = Once::new();
    let tell = || told.call_once(|| tell_the_system("STOPPING=1"));
    let until_left = async {
        ending.wait_for(|stop| *stop).await.ok();
        if is_lock() {
            sleep(FAREWELL_OF_A_LOCK).await;
        } else {
            tell();
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // The manager is told before the serving ends,
        biased;
        () = until_left => {}
        // unless it ends on the spot, with the request that wanted that.
        () = serving => if !is_lock() {
            tell();
        },
    }
    signals.abort();
    clocks.abort();
    desktop.abort();
    choices.abort();
    writer.abort();
    quiet.abort();
    let written = async {
        questions.saved().await;
        journal.write_all(&session).await;
    };
    let patience = session.leaves_because().map_or(SETTLE, patience_before);
    if timeout(patience, written).await.is_err() {
        tracing::warn!("who asked was not written before the end");
    }
    if let Some(because) = session.leaves_because()
        && !ending::was_asked_for()
    {
        return Ok(Ended::Locked { because, suspend: suspend.take() });
    }
    // A refresh token that the provider renewed just now is still to be written.
    if timeout(SETTLE, desk.session.settled()).await.is_err() {
        tracing::warn!("a provider did not answer before the end");
    }
    Ok(Ended::Stopped)
}

/// Tells a service manager, if there is one.
fn tell_the_system(state: &str) {
    #[cfg(target_os = "linux")]
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Custom(state)]) {
        tracing::debug!(%error, state, "the service manager was not told");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = state;
}

/// Where every request arrives.
struct Desk {
    started_at: UnixTime,
    socket: String,
    session: Arc<Session>,
    permit: Permit,
    surroundings: Surroundings,
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
    stop: watch::Sender<bool>,
    asked: Arc<Notify>,
}

impl Handler<Peer> for Desk {
    type Admitted = ();

    /// Whoever may connect may ask.
    fn admit(&self, _head: &Parts) -> Result<(), Box<Response>> {
        Ok(())
    }

    async fn handle(&self, peer: &Peer, (): &(), request: Request<Bytes>) -> Response {
        self.asked.notify_one();
        let name = request.headers().get(header::USER_AGENT);
        let name = name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        self.counters.client(peer.pid, name.as_deref(), self.surroundings.clock.now());
        let (head, body) = request.into_parts();
        match self.answer(peer, name.as_deref(), &head.method, head.uri.path(), &body).await {
            Ok(response) => response,
            Err(refused) => self.tell(&refused),
        }
    }

    fn refuse(&self, _admitted: Option<&()>, status: StatusCode) -> Response {
        let (kind, message) = match status {
            StatusCode::SERVICE_UNAVAILABLE => ("busy", "this program has too many requests under way"),
            StatusCode::PAYLOAD_TOO_LARGE => ("malformed", "the request's body is too long"),
            StatusCode::REQUEST_TIMEOUT => ("malformed", "the request's body did not come in time"),
            StatusCode::BAD_REQUEST => ("malformed", "the request's body broke off"),
            _ => ("internal", "the agent made a mistake; its log says more"),
        };
        self.counters.refusal(kind);
        json(status, &ErrorAnswer::told(kind, message, None))
    }
}

impl Desk {
    async fn answer(
        &self,
        peer: &Peer,
        name: Option<&str>,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<Response, Box<ErrorAnswer>> {
        let expected = match path {
            protocol::HELLO | protocol::STATUS | protocol::CONSENTS => Method::GET,
            protocol::TOKEN
            | protocol::ACCOUNTS
            | protocol::ANSWER
            | protocol::FORGET
            | protocol::LOCK
            | protocol::UNLOCK
            | protocol::SHUTDOWN => Method::POST,
            _ => return Err(unsupported(format!("there is nothing at {path}"))),
        };
        if *method != expected {
            return Err(unsupported(format!("{path} is asked by {expected}")));
        }
        match path {
            protocol::HELLO => Ok(json(StatusCode::OK, &self.hello())),
            protocol::STATUS => Ok(json(StatusCode::OK, &self.status())),
            protocol::TOKEN => {
                let ask: AskToken = parse(body)?;
                let petition = self.permit.petition(Asker::of(peer, name, ask.behind.as_ref()));
                let answered = match self.session.engine() {
                    // Large as it is, it is moved about once.
                    Some(engine) => Box::pin(engine.token(ask, &petition)).await.map_err(NoAnswer::boxed),
                    None => Err(locked()),
                };
                petition.ended(answered.as_ref().map(|answer| answer.found).map_err(|refused| &**refused));
                let answer = answered?;
                let scopes: usize = answer.scopes.iter().map(|scope| scope.len() + 3).sum();
                let name = answer.account.as_ref().map_or(0, |account| account.username.len());
                let size = answer.token.expose_secret().len() + scopes + name + USUAL_JSON;
                Ok(json_within(size, StatusCode::OK, &answer))
            }
            protocol::ACCOUNTS => {
                let ask: AskAccounts = parse(body)?;
                let engine = self.session.engine().ok_or_else(locked)?;
                Ok(json(
                    StatusCode::OK,
                    &engine.accounts(ask).await.map_err(|answer| Box::new(answer.told()))?,
                ))
            }
            protocol::CONSENTS => Ok(json(StatusCode::OK, &self.questions(peer)?.list().await)),
            protocol::ANSWER => {
                let AskAnswer { id, allow, holds_seconds } = parse(body)?;
                let holds = holds_seconds.map(Duration::from_secs);
                let who = format!("tokenkeep (process {})", peer.pid.unwrap_or(0));
                let answered = self.questions(peer)?.answer(&id, Answer { allow, holds }, &who);
                answered.ok_or_else(|| {
                    let hint = "see which are: tokenkeep agent consent".to_owned();
                    Box::new(ErrorAnswer::told("no_such_question", "no such question is open", Some(hint)))
                })?;
                Ok(json(StatusCode::OK, &DoneAnswer::of(1)))
            }
            protocol::FORGET => {
                let AskForget { id } = parse(body)?;
                let forgotten = self.questions(peer)?.forget(id.as_deref()).await;
                Ok(json(StatusCode::OK, &DoneAnswer::of(forgotten)))
            }
            protocol::LOCK => {
                let session = Arc::clone(&self.session);
                // Whoever asked may go away; a lock that has begun goes on.
                finished(tokio::spawn(async move { session.lock(LockReason::Asked).await })).await;
                Ok(self.state())
            }
            protocol::UNLOCK => {
                let AskUnlock { passphrase } = parse(body)?;
                if passphrase.as_ref().is_some_and(|text| text.expose_secret().len() > LONGEST_PASSPHRASE) {
                    let message = format!("a passphrase has at most {LONGEST_PASSPHRASE} bytes");
                    return Err(Box::new(ErrorAnswer::told("invalid_argument", message, None)));
                }
                let session = Arc::clone(&self.session);
                // Whoever asked may go away; an attempt that has begun counts.
                let unlocked = finished(tokio::spawn(async move { session.unlock(passphrase).await })).await;
                unlocked.map_err(|kept| Box::new(kept.told()))?;
                Ok(self.state())
            }
            _ => {
                ending::ask();
                self.stop.send_replace(true);
                Ok(self.state())
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: protocol::VERSION,
            agent: AGENT.to_owned(),
            pid: std::process::id(),
            state: self.session.state(),
        }
    }

    /// What is asked and was answered, for a person's own command. A locked agent has none.
    fn questions(&self, peer: &Peer) -> Result<&Arc<Questions>, Box<ErrorAnswer>> {
        if !asker::is_our_command(peer) {
            let message = "only tokenkeep itself sees and answers questions";
            let hint = "use it: tokenkeep agent consent".to_owned();
            return Err(Box::new(ErrorAnswer::told(DENIED, message, Some(hint))));
        }
        match self.session.state() {
            protocol::State::Unlocked => Ok(&self.permit.questions),
            _ => Err(locked()),
        }
    }

    fn state(&self) -> Response {
        json(StatusCode::OK, &StateAnswer::new(self.session.state()))
    }

    fn status(&self) -> Status {
        let engine = self.session.look();
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            version: 1,
            protocol: protocol::VERSION,
            agent: AGENT.to_owned(),
            pid: std::process::id(),
            state: self.session.state(),
            locked_because: self.session.locked_because(),
            socket: self.socket.clone(),
            started_at: self.started_at.seconds(),
            uptime_seconds: self.started_at.until(self.surroundings.clock.now()).as_secs(),
            locks_in_seconds: self.session.left().map(|left| left.as_secs()),
            config: self.surroundings.chosen.status(),
            caches: engine.as_ref().map(|engine| engine.held()).unwrap_or_default(),
            next_refreshes: engine.as_ref().map(|engine| engine.next_refreshes()).unwrap_or_default(),
            clients: self.counters.clients(),
            connections: read(&self.traffic.open),
            counters: self.counters.told(read(&self.traffic.evicted), read(&self.traffic.panics)),
        }
    }

    fn tell(&self, refused: &ErrorAnswer) -> Response {
        self.counters.refusal(&refused.error.kind);
        let status = match refused.error.kind.as_str() {
            "invalid_argument" | "malformed" => StatusCode::BAD_REQUEST,
            "interaction_required" => StatusCode::UNAUTHORIZED,
            "authentication_failed" | "declined" | DENIED => StatusCode::FORBIDDEN,
            "no_accounts" | "no_matching_account" | "no_such_question" | "unsupported" => {
                StatusCode::NOT_FOUND
            }
            "several_accounts" | "several_matching_accounts" => StatusCode::CONFLICT,
            "other_home" => StatusCode::MISDIRECTED_REQUEST,
            LOCKED => StatusCode::LOCKED,
            TOO_SOON => StatusCode::TOO_MANY_REQUESTS,
            "network" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        json(status, refused)
    }
}

/// What the task came to. Its panic is this request's.
async fn finished<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and nobody waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}

fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Box<ErrorAnswer>> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        // The text itself is not repeated: a client may have sent anything.
        let place = format!("line {}, column {}", error.line(), error.column());
        let message = format!("the request's body is not what is expected here ({place})");
        let hint = "see docs/agent-protocol.md".to_owned();
        Box::new(ErrorAnswer::told("malformed", message, Some(hint)))
    })
}

fn locked() -> Box<ErrorAnswer> {
    Box::new(ErrorAnswer { error: Refusal::locked() })
}

fn unsupported(problem: String) -> Box<ErrorAnswer> {
    let hint = format!("this agent speaks version {}; use the newer tokenkeep", protocol::VERSION);
    Box::new(ErrorAnswer::told("unsupported", problem, Some(hint)))
}

/// A JSON answer, wiped once it is sent as far as that is ours to say.
fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    json_within(USUAL_JSON, status, answer)
}

/// The same for an answer whose size is known: a text that grows leaves copies behind, and all of its
/// room is wiped byte by byte.
fn json_within(size: usize, status: StatusCode, answer: &impl Serialize) -> Response {
    let mut text = Zeroizing::new(Vec::with_capacity(size));
    let written = serde_json::to_writer(&mut *text, answer);
    debug_assert!(written.is_ok(), "our own types have a form in JSON");
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from_owner(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
