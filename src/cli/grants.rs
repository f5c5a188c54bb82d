//! `tokenkeep grants`: who may ask for tokens now, and taking that back.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::arguments::{Grants, GrantsCommand};
use super::doors;
use super::failure::Failure;
use super::output::{Output, printable, table};
use super::settings::Settings;
use super::times;
use crate::error::InvalidArgument;
use crate::serve::{Listed, Registry};
use crate::time::UnixTime;

pub(super) fn run(arguments: &Grants, settings: &Settings, output: Output) -> Result<(), Failure> {
    let registry = doors::registry(settings);
    let listed = list(&registry)?;
    match &arguments.command {
        None => show(&listed, output),
        Some(GrantsCommand::Revoke { id, all: _ }) => {
            let chosen = match id {
                Some(id) => vec![choose(&listed, id)?],
                None => listed.iter().collect(),
            };
            revoke(&chosen, output)
        }
    }
}

fn list(registry: &Registry) -> Result<Vec<Listed>, Failure> {
    registry.list().map_err(Failure::file("reading", registry.folder()))
}

fn show(listed: &[Listed], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let grants: Vec<Value> = listed.iter().map(in_json).collect();
        return output.json(&json!({ "version": 1, "grants": grants }));
    }
    if listed.is_empty() {
        return output.remark("No program holds a grant");
    }
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    output.text(&table(&["ID", "PID", "FOR", "ACCOUNT", "SCOPES", "EXPIRES", "SERVED", "DENIED"], &rows))
}

fn row(listed: &Listed) -> Vec<String> {
    let Listed { entry, served, denied, .. } = listed;
    let purpose = match (&entry.command, &entry.socket) {
        (Some(command), _) => command.clone(),
        (None, Some(socket)) => socket.display().to_string(),
        (None, None) => entry.way.clone(),
    };
    let expires = entry.expires_on.map_or_else(
        || format!("with {}", entry.pid),
        |end| times::local(UnixTime::from_seconds(end), TimeZone::system()),
    );
    let cells = [
        entry.id.clone(),
        entry.pid.to_string(),
        purpose,
        entry.username.clone(),
        entry.scopes.join(" "),
        expires,
        served.to_string(),
        denied.to_string(),
    ];
    // another program of this user may have written it
    cells.iter().map(|cell| printable(cell).replace('\n', "\u{fffd}")).collect()
}

fn in_json(listed: &Listed) -> Value {
    let Listed { entry, served, denied, .. } = listed;
    json!({
        "id": entry.id,
        "pid": entry.pid,
        "way": entry.way,
        "command": entry.command,
        "socket": entry.socket,
        "account": { "username": entry.username, "home_account_id": entry.home_account_id },
        "scopes": entry.scopes,
        "tenants": entry.tenants,
        "started": entry.started,
        "expires_on": entry.expires_on,
        "served": served,
        "denied": denied,
    })
}

/// The grant of this id, or the only one whose id begins so.
fn choose<'a>(listed: &'a [Listed], id: &str) -> Result<&'a Listed, Failure> {
    let fits = |listed: &&Listed| !id.is_empty() && listed.entry.id.starts_with(id);
    let mut fitting = listed.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (first, _) => {
            let many = if first.is_some() { "several grants have an id" } else { "no grant has an id" };
            Err(InvalidArgument::new(
                "grant",
                format!("{many} that begins with {id:?}"),
                "list them: tokenkeep grants",
            )
            .into())
        }
    }
}

fn revoke(chosen: &[&Listed], output: Output) -> Result<(), Failure> {
    let mut revoked = Vec::new();
    for listed in chosen {
        let id = &listed.entry.id;
        if listed.revoke().map_err(Failure::file("revoking", id))? {
            revoked.push(id.clone());
            if !output.is_json() {
                output
                    .remark(&format!("Revoked {id}; tokens that it gave out stay valid until they expire"))?;
            }
        }
    }
    if output.is_json() {
        return output.json(&json!({ "version": 1, "revoked": revoked }));
    }
    Ok(())
}
