//! Where answers rest: in the vault if there is one, else in a file of mode 0600.

use std::time::Duration;

use crate::error::CacheError;
use crate::store::vault::{self, Unattended};
use crate::store::{Places, StateFile};
use crate::time::Deadline;

use super::consent::Remembered;

const PATIENCE: Duration = Duration::from_secs(10);

/// What is remembered. Blocks.
pub(super) fn read(places: &Places) -> Result<Vec<Remembered>, CacheError> {
    let text = if has_vault(places) {
        vault::open(&places.vault(), &Unattended::of_environment(places))?.consents()?.map(String::into_bytes)
    } else {
        file(places).read()?.map(|bytes| bytes.to_vec())
    };
    // What cannot be understood allows nothing, and is asked again.
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
}

/// Replaces what is remembered. Blocks.
pub(super) fn write(places: &Places, all: &[Remembered]) -> Result<(), CacheError> {
    let text = serde_json::to_string(all).unwrap_or_default();
    let deadline = Deadline::within(PATIENCE);
    if has_vault(places) {
        let vault = vault::open(&places.vault(), &Unattended::of_environment(places))?;
        return Ok(vault.set_consents(text, deadline)?);
    }
    file(places).update(deadline, |_before| Ok((text.clone().into_bytes(), ())))
}

fn has_vault(places: &Places) -> bool {
    places.vault().symlink_metadata().is_ok()
}

fn file(places: &Places) -> StateFile {
    StateFile::new(places.state.join("tokenkeep").join("consents.json"))
}
