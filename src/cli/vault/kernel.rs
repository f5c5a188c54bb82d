//! `tokenkeep vault unlock` and `lock`: the key in the kernel's keyring, or out of it.

use serde_json::json;

use super::super::caches::deadline;
use super::super::failure::Failure;
use super::super::output::Output;
use super::super::settings::Settings;
use super::super::unlocking::new_protector;
use crate::error::{CacheError, VaultError};
use crate::store::vault::{
    AfterRemoval, Attempts, LockedVault, Protector, ProtectorKind, ProtectorSummary, Unlocking, Vault,
    unlock as open,
};

/// Only the kernel's keyring.
#[derive(Debug)]
struct ByKernel;

impl Unlocking for ByKernel {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        let kernel = kinds.contains(&ProtectorKind::Kernel).then(kernel).flatten();
        Box::new(kernel.map(Ok).into_iter())
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other platforms have none")]
fn kernel() -> Option<Box<dyn Protector>> {
    Some(Box::new(crate::store::vault::Kernel::new()))
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> Option<Box<dyn Protector>> {
    None
}

pub(super) fn unlock(settings: &Settings, output: Output) -> Result<(), Failure> {
    let was_open = match open_by_kernel(settings) {
        Ok(_) => true,
        Err(VaultError::Protector { .. } | VaultError::Locked { .. }) => false,
        Err(error) => return Err(CacheError::from(error).into()),
    };
    if !was_open {
        let vault = settings.vault()?;
        let old = of_kernel(vault)?;
        let protector = new_protector(ProtectorKind::Kernel, &settings.places, output)?;
        vault.add_protector(protector.as_ref(), deadline()).map_err(CacheError::from)?;
        // of earlier sessions: their keys are gone, so nothing opens by them
        forget(vault, &old)?;
    }
    if output.is_json() {
        return output.json(&json!({ "version": 1, "state": "unlocked", "changed": !was_open }));
    }
    output.remark(if was_open {
        "The vault is open already, by the kernel's keyring"
    } else {
        "The vault is open for your programs until this machine is started again, or tokenkeep vault lock"
    })
}

pub(super) fn lock(settings: &Settings, output: Output) -> Result<(), Failure> {
    let was_open = match open_by_kernel(settings) {
        Ok(vault) => {
            let keys = of_kernel(&vault)?;
            forget(&vault, &keys)?;
            true
        }
        Err(VaultError::Protector { .. } | VaultError::Locked { .. }) => false,
        Err(error) => return Err(CacheError::from(error).into()),
    };
    let left = LockedVault::open(&settings.places.vault()).map_err(CacheError::from)?.protectors();
    let opens_by_itself =
        |slot: &&ProtectorSummary| matches!(slot.kind, ProtectorKind::KeyFile | ProtectorKind::Keyring);
    let others: Vec<&str> = left.iter().filter(opens_by_itself).map(|slot| slot.kind.as_str()).collect();
    if output.is_json() {
        return output.json(
            &json!({ "version": 1, "state": "locked", "changed": was_open, "still_opened_by": others }),
        );
    }
    output.remark(if was_open {
        "The kernel's keyring has the key no more"
    } else {
        "The kernel's keyring does not have the key"
    })?;
    if others.is_empty() {
        return Ok(());
    }
    output
        .remark(&format!("Programs still open the vault by its {}, without asking", others.join(" and its ")))
}

fn open_by_kernel(settings: &Settings) -> Result<Vault, VaultError> {
    let locked = LockedVault::open(&settings.places.vault())?;
    open(locked, &ByKernel).map_err(|(_, error)| error)
}

fn of_kernel(vault: &Vault) -> Result<Vec<ProtectorSummary>, CacheError> {
    let mut protectors = vault.protectors()?;
    protectors.retain(|protector| protector.kind == ProtectorKind::Kernel);
    Ok(protectors)
}

/// The key in the kernel is destroyed, so the data key may stay.
fn forget(vault: &Vault, protectors: &[ProtectorSummary]) -> Result<(), CacheError> {
    for protector in protectors {
        let _without_rekey =
            vault.remove_protector(protector.slot, AfterRemoval::KeepKey, deadline(), |_| {})?;
    }
    Ok(())
}
