//! Whether the Secret Service really keeps what it is given, layer by layer.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::{Encoding, ItemShape, Keyring, Refusal, SecretServiceItem};
use crate::error::{CacheError, EncryptionLayer};
use crate::store::KeyringState;

/// What no tool looks for.
const PROBE: [(&str, &str); 2] = [("xdg:schema", "tokenkeep.doctor"), ("tokenkeep", "probe")];

/// Bus, service, default collection, lock; then an item is stored, read back and removed. Never
/// prompts, and waits no longer than a keyring may take for everything.
pub(in crate::store) fn check() -> KeyringState {
    let shape = ItemShape { label: String::new(), attributes: Default::default() };
    let item = SecretServiceItem::new("probe", "Secret Service".to_owned(), shape, Encoding::Json);
    match item.ask(keep_a_probe) {
        Ok(None) => KeyringState::Works,
        Ok(Some(detail)) => KeyringState::Forgets { detail },
        Err(CacheError::Locked { .. }) => KeyringState::Locked,
        Err(CacheError::Timeout { waited, .. }) => KeyringState::Silent { waited },
        Err(CacheError::EncryptionUnavailable { layer, detail, .. }) => match layer {
            EncryptionLayer::Bus => KeyringState::NoBus { detail },
            EncryptionLayer::Collection => KeyringState::NoCollection,
            EncryptionLayer::Platform | EncryptionLayer::Service => KeyringState::NoService { detail },
        },
        Err(error) => KeyringState::Forgets { detail: error.to_string() },
    }
}

/// What went wrong with a working keyring, if anything did.
fn keep_a_probe(keyring: &Keyring<'_>) -> Result<Option<String>, Refusal> {
    let collection = keyring.default_collection()?;
    let mut secret = Zeroizing::new([0_u8; 32]);
    // no randomness only makes the probe less surprising
    let _random = getrandom::fill(&mut *secret);
    let attributes: HashMap<_, _> = PROBE.into();
    collection.create_item(
        "tokenkeep doctor",
        attributes.clone(),
        &*secret,
        true,
        "application/octet-stream",
    )?;
    let found = collection.search_items(attributes.clone())?;
    let kept = found.first().map(|item| item.get_secret().map(Zeroizing::new)).transpose();
    // in any case: also one that an earlier check left when it was killed
    for item in found {
        item.delete()?;
    }
    Ok(match kept? {
        None => Some("an item that was just stored cannot be found".to_owned()),
        Some(kept) if *kept != *secret => Some("an item comes back with another secret".to_owned()),
        Some(_) if !collection.search_items(attributes)?.is_empty() => {
            Some("an item that was removed is still there".to_owned())
        }
        Some(_) => None,
    })
}
