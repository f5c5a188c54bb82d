//! Uses the login that some other developer tool made, azure-identity for Python for example:
//!
//!     cargo run --example share_with_python

#![expect(clippy::print_stdout, reason = "a program of its own")]

use tokenkeep::credential::{CredentialOptions, SharedTokenCacheCredential, TokenCredential};
use tokenkeep::error::Unavailable;
use tokenkeep::{Error, Scopes, TokenCachePersistenceOptions, TokenRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options =
        CredentialOptions::default().cache_persistence_options(TokenCachePersistenceOptions::default());
    let credential = SharedTokenCacheCredential::new(options)?;

    let scopes = Scopes::new(["https://management.azure.com/.default"])?;
    match credential.get_token(&TokenRequest::new(scopes)).await {
        Ok(token) => {
            let account = token.details.account.as_ref();
            let username = account.map_or("somebody", |account| account.username.as_str());
            println!("a token for {username}, valid until {}", token.expires_on);
        }
        Err(Error::Unavailable(unavailable)) => match *unavailable {
            Unavailable::SeveralAccounts { candidates, .. } => {
                println!("several people share this cache; choose one of them:");
                for candidate in candidates {
                    println!("  {}", candidate.username);
                }
            }
            other => println!("{other}"),
        },
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
