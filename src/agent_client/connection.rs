//! One question to the agent, and its answer, both bounded in time and size.

#[cfg(unix)]
#[path = "connection/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "connection/windows.rs"]
mod platform;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::place;
use super::{CallError, Reply, protocol};

use self::platform::Stream;

/// A local program that does not even take a connection for so long is not going to answer.
const CONNECT: Duration = Duration::from_secs(5);

/// After so long without an answer the agent is asked whether it is still there at all,
const DOUBT: Duration = Duration::from_secs(5);

/// and after so long nobody waits any more: a provider's answer takes less, retries included.
const LONGEST: Duration = Duration::from_secs(150);

/// The longest answer: a list of accounts, or a token, which has some kilobytes.
const MAX_ANSWER: usize = 4 << 20;

/// Whether there is a socket that is this user's.
pub(super) fn is_there(path: &Path) -> Result<bool, CallError> {
    Ok(place::check(path)?)
}

/// Who listens, whether or not they ever answer: the system keeps connections for them.
pub(super) async fn listener(path: &Path) -> Option<i32> {
    platform::process_of(&connect(path).await.ok()?)
}

/// Removes a socket that nobody listens on any more.
pub(super) fn remove_left_over(path: &Path) -> Result<bool, CallError> {
    Ok(place::remove_left_over(path)?)
}

/// Asks once. Nothing is sent before it is clear that this very user listens there.
pub(super) async fn call(
    path: &Path,
    method: Method,
    target: &str,
    body: Zeroizing<Vec<u8>>,
) -> Result<Reply, CallError> {
    let stream = connect(path).await?;
    let question = exchange(path, stream, method, target, body);
    tokio::pin!(question);
    match timeout(DOUBT, &mut question).await {
        Ok(answer) => return answer,
        // It may be waiting for the provider. Or it was stopped, and the system keeps its socket.
        Err(_) => is_alive(path).await?,
    }
    timeout(LONGEST, question).await.unwrap_or_else(|_| Err(silent(path, "it took too long")))
}

async fn is_alive(path: &Path) -> Result<(), CallError> {
    let stream = connect(path).await?;
    let hello = exchange(path, stream, Method::GET, protocol::HELLO, Zeroizing::default());
    match timeout(DOUBT, hello).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(silent(path, "it is stopped or overloaded")),
    }
}

async fn connect(path: &Path) -> Result<Stream, CallError> {
    if !place::check(path)? {
        return Err(absent(path));
    }
    match timeout(CONNECT, platform::open(path)).await {
        Ok(opened) => opened,
        Err(_) => Err(silent(path, "it takes no connection")),
    }
}

async fn exchange(
    path: &Path,
    stream: Stream,
    method: Method,
    target: &str,
    body: Zeroizing<Vec<u8>>,
) -> Result<Reply, CallError> {
    let broken = |error: &dyn std::error::Error| CallError::Broken {
        path: path.to_owned(),
        detail: crate::error::with_causes(error),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "tokenkeep")
        .header(header::USER_AGENT, concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_owner(body)))
        .map_err(|error| broken(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let is_success = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
        Ok(Reply { is_success, body })
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        // The answer's future ends with the connection; only its error is worth a word.
        ended = drive(connection) => Err(broken(&ended)),
    }
}

/// Moves the bytes until the connection fails; never ends otherwise, so that the answer comes first.
async fn drive(connection: http1::Connection<TokioIo<Stream>, Full<Bytes>>) -> hyper::Error {
    match connection.await {
        Err(error) => error,
        Ok(()) => std::future::pending().await,
    }
}

fn absent(path: &Path) -> CallError {
    CallError::Absent { path: path.to_owned() }
}

fn silent(path: &Path, detail: &str) -> CallError {
    CallError::Silent { path: path.to_owned(), detail: detail.to_owned() }
}
