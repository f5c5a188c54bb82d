//! Asking the agent first, if there is one, and doing without it as if there had never been one.

use super::failure::Failure;
use super::output::Output;
use super::runtime;
use super::settings::{Settings, variable};
use crate::agent_client::{AgentClient, AskError, socket_path};
use crate::error::Error;
use crate::token::{AccessToken, TokenRequest};

/// The agent that may answer for this call; `None` if none shall.
pub(super) fn client(settings: &Settings) -> Option<AgentClient> {
    if variable("TOKENKEEP_NO_AGENT").is_some() {
        return None;
    }
    let mut client = of_user(settings)
        .authority(&settings.authority)
        .cache_persistence_options(&settings.cache)
        .disable_instance_discovery(settings.disable_instance_discovery);
    if let Some(client_id) = &settings.client_id {
        client = client.client_id(client_id);
    }
    if let Some(tenant) = &settings.tenant {
        client = client.tenant_id(tenant);
    }
    Some(client)
}

/// The agent of this user, whatever it is to be asked.
pub(super) fn of_user(settings: &Settings) -> AgentClient {
    AgentClient::at(socket_path(&settings.places.state)).of_home(&settings.places)
}

/// The agent's answer. `None` if there is no agent, or it leaves this to its clients.
///
/// # Errors
/// What the agent refused for good: no other way would end better.
pub(super) fn ask<T>(
    client: &AgentClient,
    question: impl Future<Output = Result<T, AskError>>,
    output: Output,
) -> Result<Option<T>, Failure> {
    // Without an agent this is the whole cost.
    let answered = match client.is_there() {
        Ok(true) => runtime::finish(question)?,
        Ok(false) => return Ok(None),
        Err(error) => Err(error.into()),
    };
    match answered {
        Err(AskError::Call(error)) if error.is_distrust() => {
            output.remark(&format!("{error}; going on without the agent"))?;
            Ok(None)
        }
        answered => Ok(judge(answered)?),
    }
}

/// The same for a token and without a word: for a program that asks for long after it was started,
/// when the agent may have come or gone.
pub(super) async fn token(
    client: &AgentClient,
    request: &TokenRequest,
) -> Result<Option<AccessToken>, Error> {
    match client.is_there() {
        Ok(true) => judge(client.ask_token(request).await),
        Ok(false) => Ok(None),
        Err(error) => judge(Err(error.into())),
    }
}

/// What was answered; `None` if this process has to go on by itself.
fn judge<T>(answered: Result<T, AskError>) -> Result<Option<T>, Error> {
    match answered {
        Ok(answer) => Ok(Some(answer)),
        Err(AskError::Refused(refusal)) if refusal.leaves_it_to_the_client() => {
            tracing::info!(kind = refusal.kind, message = refusal.message, "doing without the agent");
            Ok(None)
        }
        Err(AskError::Refused(refusal)) => Err(refusal.into_error()),
        Err(AskError::Call(error)) => {
            tracing::info!(%error, "doing without the agent");
            Ok(None)
        }
    }
}
