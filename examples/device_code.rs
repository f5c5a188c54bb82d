//! Signs in on any device, and keeps the login for the next program:
//!
//!     cargo run --example device_code -- record.json
//!
//! What is written to the file is no secret: it only says which account signed in.

#![expect(clippy::print_stdout, reason = "a program of its own")]

mod terminal;

use std::sync::Arc;

use tokenkeep::credential::{CredentialOptions, DeviceCodeCredential};
use tokenkeep::{Scopes, TokenCachePersistenceOptions, TokenRequest};

use crate::terminal::Terminal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "record.json".to_owned());

    let options =
        CredentialOptions::default().cache_persistence_options(TokenCachePersistenceOptions::default());
    let credential = DeviceCodeCredential::new(options, Arc::new(Terminal))?;

    let scopes = Scopes::new(["https://management.azure.com/.default"])?;
    let record = credential.authenticate(&TokenRequest::new(scopes)).await?;

    std::fs::write(&file, record.serialize())?;
    println!("{} signed in; the record is in {file}", record.username());
    Ok(())
}
