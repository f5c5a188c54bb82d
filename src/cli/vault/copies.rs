//! `tokenkeep vault backup` and `restore`.

use std::path::Path;

use serde_json::json;

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::settings::Settings;
use crate::error::CacheError;
use crate::store::vault::LockedVault;
use crate::time::{Clock as _, SystemClock};

pub(super) fn backup(file: &Path, settings: &Settings, output: Output) -> Result<(), Failure> {
    let vault = LockedVault::open(&settings.places.vault()).map_err(CacheError::from)?;
    vault.backup(file).map_err(CacheError::from)?;
    if output.is_json() {
        return output.json(&json!({ "version": 1, "backup": file }));
    }
    output.remark(&format!("Wrote {}; it opens by the protectors that the vault has now", file.display()))
}

pub(super) fn restore(file: &Path, yes: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    let path = settings.places.vault();
    if path.symlink_metadata().is_ok() && !yes {
        if !output.has_person() {
            return Err(Failure::usage(
                "nobody is here to ask whether the vault may be replaced",
                "say --yes; what is there is kept beside it",
            ));
        }
        let question = format!("Put {} in the place of {}?", file.display(), path.display());
        if !output.ask(&question, false)? {
            return Err(Failure::Cancelled);
        }
    }
    let (_, aside) = LockedVault::restore(file, &path, SystemClock.now()).map_err(CacheError::from)?;
    if output.is_json() {
        return output.json(&json!({ "version": 1, "path": path, "set_aside": aside }));
    }
    output.remark(&format!("Restored {} from {}", path.display(), file.display()))?;
    match aside {
        Some(aside) => output.remark(&format!("What was there was kept: {}", aside.display())),
        None => Ok(()),
    }
}
