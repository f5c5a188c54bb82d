//! How our stand-in for `az` asks its door.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::net::TcpStream;
use url::form_urlencoded;

use super::az::PATH;

const MAX_ANSWER: usize = 256 * 1024;

/// What the door answered to our stand-in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AzToken {
    pub(crate) access_token: SecretString,
    #[serde(rename = "expires_on")]
    pub(crate) expires_on: i64,
    pub(crate) tenant: String,
    pub(crate) token_type: String,
}

/// Asks the door at `address` (`127.0.0.1:PORT`), as the stand-in does.
///
/// # Errors
/// What the door said, or why it could not be asked.
pub(crate) async fn token(
    address: &str,
    secret: &SecretString,
    scopes: &[String],
    tenant: Option<&str>,
) -> Result<AzToken, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    query.extend_pairs(tenant.map(|tenant| ("tenant", tenant)));
    let request = axum::http::Request::get(format!("{PATH}?{}", query.finish()))
        .header(header::HOST, address)
        .header(header::AUTHORIZATION, format!("Bearer {}", secret.expose_secret()))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let gone = |error: &dyn std::fmt::Display| {
        format!(
            "the server of this grant does not answer at {address} ({error}); it ends with its tokenkeep exec"
        )
    };
    let stream = TcpStream::connect(address).await.map_err(|error| gone(&error))?;
    let (mut door, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
    let exchange = async {
        let answer = door.send_request(request).await.map_err(|error| gone(&error))?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| gone(&error))?;
        Ok::<_, String>((status, body.to_bytes()))
    };
    let (status, body) = tokio::select! {
        // drives the exchange, and has nothing to say itself
        Err(error) = connection => return Err(gone(&error)),
        exchanged = exchange => exchanged?,
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| gone(&error));
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Err(said["message"].as_str().map_or_else(|| gone(&status), str::to_owned))
}
