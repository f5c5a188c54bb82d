//! Asks one credential twice for the one signed-in account's token, and says `answered 1` and
//! `answered 2`, so that a trace of this process shows what each answer took.
//!
//! `ask-twice HOME CACHE SCOPE`, with the cache in the platform's keyring.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tokenkeep::credential::{CredentialOptions, SharedTokenCacheCredential, TokenCredential as _};
use tokenkeep::store::Places;
use tokenkeep::{CacheName, Scopes, TokenCachePersistenceOptions, TokenRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [home, cache, scope] = arguments.as_slice() else {
        return Err("usage: ask-twice HOME CACHE SCOPE".into());
    };
    let persistence = TokenCachePersistenceOptions::default().name(CacheName::new(cache.clone())?);
    let options = CredentialOptions::default().cache_persistence_options_in(persistence, Places::below(home));
    let credential = SharedTokenCacheCredential::new(options)?;
    let request = TokenRequest::new(Scopes::new([scope.as_str()])?);
    for time in 1..=2 {
        credential.get_token(&request).await?;
        writeln!(io::stdout(), "answered {time}")?;
    }
    Ok(())
}
