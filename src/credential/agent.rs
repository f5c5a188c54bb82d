//! The user's agent as a credential.

use crate::agent_client::AgentClient;
use crate::error::Result;
use crate::token::{AccessToken, TokenRequest};

use super::{BoxFuture, TokenCredential};

impl TokenCredential for AgentClient {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
        Box::pin(async move { Ok(self.ask_token(request).await?) })
    }
}
