//! Gets a token in a new process without asking anybody, by the record that `device_code` wrote:
//!
//!     cargo run --example silent_reauthentication -- record.json

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::sync::Arc;

use tokenkeep::credential::{CredentialOptions, DeviceCodeCredential, SystemBrowser, TokenCredential};
use tokenkeep::{AuthenticationRecord, Error, Scopes, TokenCachePersistenceOptions, TokenRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "record.json".to_owned());
    let record = AuthenticationRecord::deserialize(&std::fs::read_to_string(&file)?)?;

    let options = CredentialOptions::default()
        .authentication_record(record)
        .cache_persistence_options(TokenCachePersistenceOptions::default())
        .disable_automatic_authentication(true);
    let credential = DeviceCodeCredential::new(options, Arc::new(SystemBrowser))?;

    let scopes = Scopes::new(["https://management.azure.com/.default"])?;
    match credential.get_token(&TokenRequest::new(scopes)).await {
        Ok(token) => println!("a token, valid until {}", token.expires_on),
        Err(Error::InteractionRequired(required)) => {
            // The program decides when to ask; `authenticate` would do it with these claims.
            println!("{required}; claims: {:?}", required.next_claims());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
