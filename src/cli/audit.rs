//! `tokenkeep audit`: what happened to the logins of the vault.

use serde_json::json;

use super::arguments::Audit;
use super::failure::Failure;
use super::output::{Output, printable, table};
use super::settings::Settings;
use super::times;
use crate::error::CacheError;
use crate::store::vault::AuditEntry;
use crate::time::UnixTime;

pub(super) fn run(arguments: &Audit, settings: &Settings, output: Output) -> Result<(), Failure> {
    let vault = settings.vault()?;
    let report = if arguments.verify { Some(vault.verify().map_err(CacheError::from)?) } else { None };
    let events = vault.audit().map_err(CacheError::from)?;
    if output.is_json() {
        let verified = report
            .map(|report| json!({ "caches": report.caches, "rows": report.rows, "events": report.events }));
        return output.json(&json!({ "version": 1, "verified": verified, "events": events }));
    }
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    output.text(&table(&["NUMBER", "WHEN", "WHAT", "WHY", "ACCOUNT", "OF", "CACHE", "WHO"], &rows))?;
    match report {
        Some(report) => output.remark(&format!(
            "In order: {} rows of {} caches, and a chain of {} events",
            report.rows, report.caches, report.events
        )),
        None => Ok(()),
    }
}

fn row(entry: &AuditEntry) -> Vec<String> {
    let event = &entry.event;
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells = [
        entry.seq.to_string(),
        times::rfc_3339(UnixTime::from_seconds(event.at)),
        event.action.clone(),
        or_empty(&event.reason),
        or_empty(&event.account),
        or_empty(&event.subject),
        or_empty(&event.cache),
        event.actor.clone(),
    ];
    cells.iter().map(|cell| printable(cell).into_owned()).collect()
}
