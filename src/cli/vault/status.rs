//! `tokenkeep vault status`: what can be told without a key, and more if it opens without asking.

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::output::{FAINT, Output, printable};
use super::super::settings::Settings;
use super::protectors;
use crate::error::{CacheError, VaultError};
use crate::store::vault::{LockedVault, Unattended, unlock};

pub(super) fn run(settings: &Settings, output: Output) -> Result<(), Failure> {
    let path = settings.places.vault();
    let locked = LockedVault::open(&path).map_err(CacheError::from)?;
    let (epoch, slots) = (locked.epoch(), locked.protectors());
    let size = std::fs::metadata(&path).map_err(Failure::file("looking at", &path))?.len();
    let inside = match unlock(locked, &Unattended::of_environment(&settings.places)) {
        Ok(vault) => Ok((
            vault.caches().map_err(CacheError::from)?,
            vault.record_names().map_err(CacheError::from)?,
            vault.has_unfinished_rekey(),
        )),
        Err((_, error @ (VaultError::Protector { .. } | VaultError::Locked { .. })))
            if !error.is_damage() =>
        {
            Err(error)
        }
        Err((_, error)) => return Err(CacheError::from(error).into()),
    };
    if output.is_json() {
        let opened = inside.as_ref().ok();
        let protectors: Vec<Value> = slots.iter().map(protectors::to_json).collect();
        return output.json(&json!({
            "version": 1,
            "path": path,
            "state": if opened.is_some() { "unlocked" } else { "locked" },
            "why": inside.as_ref().err().map(VaultError::kind),
            "size": size,
            "epoch": epoch,
            "protectors": protectors,
            "caches": opened.map(|(caches, ..)| caches),
            "records": opened.map(|(_, records, _)| records),
            "unfinished_rekey": opened.map(|(.., unfinished)| unfinished),
        }));
    }
    let line = |name: &str, value: &str| format!("{FAINT}{name:<8}{FAINT:#}  {}", printable(value));
    let mut lines = vec![line("vault", &path.display().to_string())];
    match &inside {
        Ok((caches, records, unfinished)) => {
            lines.push(line("state", "unlocked: it opens without asking"));
            lines.push(line("caches", &listed(caches)));
            lines.push(line("records", &listed(records)));
            if *unfinished {
                lines.push(line("rekey", "interrupted; finish it: tokenkeep vault rekey"));
            }
        }
        Err(VaultError::Protector { source, .. }) => lines.push(line("state", &format!("locked: {source}"))),
        Err(_) => lines.push(line("state", "locked")),
    }
    lines.push(line("size", &format!("{} KiB", size.div_ceil(1024))));
    lines.push(line("epoch", &format!("{epoch} (each rekey counts it up)")));
    lines.push(protectors::in_a_table(&slots));
    output.text(&lines.join("\n"))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
