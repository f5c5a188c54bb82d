//! `tokenkeep agent lock` and `unlock`.

use std::io;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::super::failure::Failure;
use super::super::hidden_input;
use super::super::output::Output;
use super::super::runtime;
use super::super::settings::Settings;
use super::present;
use crate::agent_client::AgentClient;
use crate::error::{CacheError, Error, VaultError};
use crate::store::vault::{Unattended, passphrase_file};

/// How often a person may mistype a passphrase.
const PROMPTS: usize = 3;

/// What an agent says that would open the vault by a passphrase if it had one.
const WANTS_A_PASSPHRASE: [&str; 6] = [
    "vault_key_gone",
    "vault_keyring_locked",
    "vault_keyring_timeout",
    "vault_locked",
    "vault_prompt_refused",
    "vault_wrong_secret",
];

pub(super) fn lock(settings: &Settings, output: Output) -> Result<(), Failure> {
    let client = present(settings)?;
    runtime::wait_for(client.lock())?;
    report("locked", "The agent is locked", output)
}

pub(super) fn unlock(settings: &Settings, output: Output) -> Result<(), Failure> {
    let client = present(settings)?;
    let unattended = Unattended::of_environment(&settings.places);
    let given = unattended.passphrase_files.first().map(|file| passphrase_file(file)).transpose();
    let given = given.map_err(|source| VaultError::Protector { path: settings.places.vault(), source });
    let first = try_once(&client, given.map_err(CacheError::from)?)?;
    let unlocked = match first {
        Err(error) if WANTS_A_PASSPHRASE.contains(&error.kind()) && output.has_person() => {
            by_person(&client, error, output)?
        }
        first => first,
    };
    unlocked?;
    report("unlocked", "The agent is unlocked", output)
}

/// Asks a person until it opens, they give up, or it would be too often.
fn by_person(client: &AgentClient, first: Error, output: Output) -> Result<Result<(), Error>, Failure> {
    let mut refused = first;
    for attempt in 0..PROMPTS {
        if attempt > 0 {
            output.say("That does not open the vault").map_err(Failure::Output)?;
        }
        let text = hidden_input::ask("Passphrase of the vault (or its recovery key): ");
        let text = text.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => Failure::Cancelled,
            _ => Failure::file("reading", "the terminal")(error),
        })?;
        // an empty answer gives up
        if text.expose_secret().is_empty() {
            break;
        }
        match try_once(client, Some(text))? {
            Err(error) if error.kind() == "vault_wrong_secret" => refused = error,
            done => return Ok(done),
        }
    }
    Ok(Err(refused))
}

/// The outer error is ours, such as Ctrl-C, and the inner one the agent's.
fn try_once(client: &AgentClient, passphrase: Option<SecretString>) -> Result<Result<(), Error>, Failure> {
    runtime::finish(client.unlock(passphrase))
}

fn report(state: &str, sentence: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({"version": 1, "state": state}));
    }
    output.remark(sentence)
}
