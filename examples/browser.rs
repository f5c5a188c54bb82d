//! Signs in with this machine's browser; the login stays in memory:
//!
//!     cargo run --example browser

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::sync::Arc;

use tokenkeep::credential::{
    CredentialOptions, InteractiveBrowserCredential, SystemBrowser, TokenCredential,
};
use tokenkeep::{Scopes, TokenRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let credential =
        InteractiveBrowserCredential::new(CredentialOptions::default(), Arc::new(SystemBrowser))?;

    let scopes = Scopes::new(["https://graph.microsoft.com/User.Read"])?;
    let token = credential.get_token(&TokenRequest::new(scopes)).await?;

    let account = token.details.account.as_ref();
    let username = account.map_or("somebody", |account| account.username.as_str());
    println!("{username} signed in; the token is valid until {}", token.expires_on);
    Ok(())
}
