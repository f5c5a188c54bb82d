//! `tokenkeep vault init`: a new vault, and its recovery key, shown once.

use secrecy::ExposeSecret;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::arguments::VaultInit;
use super::super::caches::deadline;
use super::super::failure::Failure;
use super::super::output::{FAINT, Output, STRONG};
use super::super::settings::Settings;
use super::super::unlocking::new_protector;
use crate::error::{CacheError, VaultError};
use crate::store::vault::{AfterRemoval, ProtectorKind, RecoveryKey, Vault};

pub(super) fn run(arguments: &VaultInit, settings: &Settings, output: Output) -> Result<(), Failure> {
    let path = settings.places.vault();
    if path.symlink_metadata().is_ok() {
        return Err(CacheError::from(VaultError::AlreadyExists { path }).into());
    }
    let chosen: Vec<ProtectorKind> = arguments.protectors.iter().map(|choice| choice.kind()).collect();
    let is_default = chosen.is_empty();
    let mut kinds = if is_default { by_default() } else { chosen };
    // what may fail for a reason of its own comes last, when there is a vault that can be told of it
    kinds.sort_by_key(|kind| turn(*kind));
    kinds.dedup();

    let recovery = make_recovery_key(arguments, &mut kinds);
    let mut protectors = Vec::new();
    for kind in &kinds {
        protectors.push(new_protector(*kind, &settings.places, output)?);
    }
    if let Some(key) = &recovery {
        protectors.insert(usize::from(!protectors.is_empty()), Box::new(key.clone()));
    }
    let Some((first, others)) = protectors.split_first() else {
        return Err(Failure::usage("nothing would open the vault", "choose a --protector"));
    };
    let vault = Vault::create(&path, first.as_ref()).map_err(CacheError::from)?;
    let mut left_out = Vec::new();
    for protector in others {
        match vault.add_protector(protector.as_ref(), deadline()) {
            Ok(_) => {}
            Err(error) if is_default && protector.kind() == ProtectorKind::Kernel => {
                left_out.push(error.to_string());
            }
            Err(error) => {
                undo(vault)?;
                return Err(CacheError::from(error).into());
            }
        }
    }
    report(&vault, recovery.as_ref(), &left_out, output)
}

fn by_default() -> Vec<ProtectorKind> {
    if cfg!(target_os = "linux") {
        vec![ProtectorKind::Passphrase, ProtectorKind::Kernel]
    } else {
        vec![ProtectorKind::Passphrase]
    }
}

/// `--protector recovery` asks for what is made anyway.
fn make_recovery_key(arguments: &VaultInit, kinds: &mut Vec<ProtectorKind>) -> Option<RecoveryKey> {
    let asked_for = kinds.contains(&ProtectorKind::Recovery);
    kinds.retain(|kind| *kind != ProtectorKind::Recovery);
    (asked_for || !arguments.no_recovery_key).then(RecoveryKey::generate)
}

const fn turn(kind: ProtectorKind) -> u8 {
    match kind {
        ProtectorKind::Passphrase => 0,
        ProtectorKind::KeyFile => 1,
        ProtectorKind::Recovery => 2,
        ProtectorKind::Keyring => 3,
        ProtectorKind::Kernel => 4,
    }
}

/// Nobody has used the vault yet: it goes again, with what its protectors put into keyrings.
fn undo(vault: Vault) -> Result<(), Failure> {
    let protectors = vault.protectors().map_err(CacheError::from)?;
    for protector in protectors.iter().skip(1) {
        let removed = vault.remove_protector(protector.slot, AfterRemoval::KeepKey, deadline(), |_| {});
        let _without_rekey = removed.map_err(CacheError::from)?;
    }
    let path = vault.path().to_owned();
    drop(vault);
    std::fs::remove_file(&path).map_err(Failure::file("removing", &path))
}

fn report(
    vault: &Vault,
    recovery: Option<&RecoveryKey>,
    left_out: &[String],
    output: Output,
) -> Result<(), Failure> {
    let protectors = vault.protectors().map_err(CacheError::from)?;
    let recovery = recovery.map(RecoveryKey::to_text);
    if output.is_json() {
        let kinds: Vec<&str> = protectors.iter().map(|protector| protector.kind.as_str()).collect();
        return output.json(&json!({
            "version": 1,
            "path": vault.path(),
            "protectors": kinds,
            "recovery_key": recovery.as_ref().map(ExposeSecret::expose_secret),
        }));
    }
    let kinds: Vec<&str> = protectors.iter().map(|protector| protector.kind.as_str()).collect();
    output.remark(&format!(
        "Made the vault {STRONG}{}{STRONG:#}\n  {FAINT}opened by{FAINT:#}  {}",
        vault.path().display(),
        kinds.join(", ")
    ))?;
    for reason in left_out {
        output.remark(&format!(
            "The kernel's keyring cannot be used here ({reason}); the vault asks each time"
        ))?;
    }
    if let Some(key) = recovery {
        output.remark("Recovery key: write it down now, for it is shown only this once")?;
        output.raw(Zeroizing::new(format!("{}\n", key.expose_secret())).as_bytes())?;
    }
    output.remark(&format!("{FAINT}next:{FAINT:#} tokenkeep login --store vault"))
}
