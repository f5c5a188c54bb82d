//! The platform's keyring, through the `keyring` family of crates.
//!
//! A store is built for each attempt: the process-wide default of those crates remembers its
//! first failure, and an agent that started before the desktop would never see the keyring.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use keyring_core::{CredentialStore, Entry, Error};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::ProtectorError;

use super::super::keys::SecretKey;
use super::{Protector, ProtectorKind, SlotContext, Wrapped};
use super::{parameters, random_hex, unwrap_with, wrap_with};

const SERVICE: &str = "tokenkeep vault";
const PATIENCE: Duration = Duration::from_secs(10);

/// The keyring of the user who runs this process.
#[derive(Clone, Debug)]
pub struct Keyring {
    may_prompt: bool,
    given: Option<Arc<CredentialStore>>,
}

impl Keyring {
    /// The platform's. With `may_prompt` a locked one may ask the person to unlock it, and that
    /// may take as long as it takes; without, it answers within ten seconds or not at all.
    #[must_use]
    pub const fn new(may_prompt: bool) -> Self {
        Self { may_prompt, given: None }
    }

    /// Another store of the `keyring` family, such as its mock.
    #[must_use]
    pub fn with_store(store: Arc<CredentialStore>) -> Self {
        Self { may_prompt: false, given: Some(store) }
    }

    /// Asks on a thread of its own, so that the wait has an end.
    fn ask<T: Send + 'static>(
        &self,
        item: String,
        question: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ProtectorError> {
        let (sender, receiver) = mpsc::channel();
        let (may_prompt, given) = (self.may_prompt, self.given.clone());
        let asking = thread::Builder::new().name("keyring".to_owned()).spawn(move || {
            let answer = given
                .map_or_else(|| platform::store(may_prompt), Ok)
                .and_then(|store| store.build(SERVICE, &item, None).map_err(explain))
                .and_then(|entry| question(&entry).map_err(explain));
            // nobody listens any more after a timeout
            let _listened = sender.send(answer);
        });
        asking.map_err(|error| gone(error.to_string()))?;
        let answer = if self.may_prompt {
            receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(PATIENCE)
        };
        match answer {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(ProtectorError::Timeout { waited: PATIENCE }),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone("it did not answer".to_owned())),
        }
    }
}

impl Protector for Keyring {
    fn kind(&self) -> ProtectorKind {
        ProtectorKind::Keyring
    }

    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError> {
        let parameters = Parameters { item: random_hex() };
        let wrapping = SecretKey::generate();
        let kept = wrapping.clone();
        self.ask(parameters.item.clone(), move |entry| entry.set_secret(kept.expose()))?;
        Ok(wrap_with(&wrapping, key, self.kind(), &parameters, slot))
    }

    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError> {
        let Parameters { item } = parameters(wrapped)?;
        let bytes = self.ask(item, |entry| entry.get_secret().map(Zeroizing::new))?;
        SecretKey::from_bytes(&bytes)
            .and_then(|wrapping| unwrap_with(&wrapping, self.kind(), wrapped, slot))
            .ok_or(ProtectorError::WrongSecret { what: "key in the keyring" })
    }

    fn forget(&self, wrapped: &Wrapped) -> Result<(), ProtectorError> {
        let Parameters { item } = parameters(wrapped)?;
        self.ask(item, |entry| match entry.delete_credential() {
            // it is what we want
            Err(Error::NoEntry) => Ok(()),
            other => other,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Parameters {
    item: String,
}

fn explain(error: Error) -> ProtectorError {
    match error {
        Error::NoEntry => gone("it has no such item".to_owned()),
        Error::NoStorageAccess(cause) if platform::is_dismissed(cause.as_ref()) => {
            ProtectorError::PromptRefused
        }
        Error::NoStorageAccess(_) => ProtectorError::KeyringLocked,
        // these carry what was read
        Error::BadDataFormat(bytes, _) | Error::BadEncoding(bytes) => {
            drop(Zeroizing::new(bytes));
            gone("its item is not what was put there".to_owned())
        }
        other => gone(other.to_string()),
    }
}

fn gone(detail: String) -> ProtectorError {
    ProtectorError::Gone { keeper: "keyring", detail }
}

#[cfg(target_os = "linux")]
mod platform {
    use secret_service::EncryptionType;
    use secret_service::blocking::SecretService;

    use super::{Arc, CredentialStore, ProtectorError, gone};

    /// The store unlocks, and so prompts, on every search: ask first whether it has to.
    pub(super) fn store(may_prompt: bool) -> Result<Arc<CredentialStore>, ProtectorError> {
        if !may_prompt {
            let is_locked = SecretService::connect(EncryptionType::Plain)
                .and_then(|service| service.get_default_collection()?.is_locked());
            match is_locked {
                Ok(false) => {}
                Ok(true) => return Err(ProtectorError::KeyringLocked),
                Err(error) => return Err(gone(error.to_string())),
            }
        }
        let store = zbus_secret_service_keyring_store::Store::new().map_err(super::explain)?;
        Ok(store)
    }

    pub(super) fn is_dismissed(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
        matches!(cause.downcast_ref(), Some(secret_service::Error::Prompt))
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use super::{Arc, CredentialStore, ProtectorError};

    pub(super) fn store(_may_prompt: bool) -> Result<Arc<CredentialStore>, ProtectorError> {
        let store = apple_native_keyring_store::keychain::Store::new().map_err(super::explain)?;
        Ok(store)
    }

    /// The Keychain's own words for a person who said no.
    pub(super) fn is_dismissed(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
        cause.to_string().contains("User canceled")
    }
}

#[cfg(windows)]
mod platform {
    use super::{Arc, CredentialStore, ProtectorError};

    pub(super) fn store(_may_prompt: bool) -> Result<Arc<CredentialStore>, ProtectorError> {
        let store = windows_native_keyring_store::Store::new().map_err(super::explain)?;
        Ok(store)
    }

    pub(super) const fn is_dismissed(_cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
        false
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod platform {
    use super::{Arc, CredentialStore, ProtectorError, gone};

    pub(super) fn store(_may_prompt: bool) -> Result<Arc<CredentialStore>, ProtectorError> {
        Err(gone("this platform has no keyring that we know".to_owned()))
    }

    pub(super) const fn is_dismissed(_cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use keyring_core::mock;

    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn the_keyring_keeps_a_key_until_it_is_told_to_forget_it() {
        let keyring = Keyring::with_store(mock::Store::new().unwrap());
        let wrapped = round_trip(&keyring);
        keyring.forget(&wrapped).unwrap();
        let slot = SlotContext { vault_id: &[1; 16] };
        let error = keyring.unwrap(&wrapped, &slot).unwrap_err();
        assert_eq!(error.to_string(), "its key is gone from the keyring: it has no such item");
        keyring.forget(&wrapped).unwrap();
    }

    #[test]
    fn a_locked_keyring_a_refused_prompt_and_a_missing_one_are_three_errors() {
        let locked = explain(Error::NoStorageAccess("locked".into()));
        let missing = explain(Error::PlatformFailure("no bus".into()));
        assert!(matches!(locked, ProtectorError::KeyringLocked));
        assert!(matches!(missing, ProtectorError::Gone { keeper: "keyring", .. }));
        #[cfg(target_os = "linux")]
        {
            let refused = explain(Error::NoStorageAccess(Box::new(secret_service::Error::Prompt)));
            assert!(matches!(refused, ProtectorError::PromptRefused));
        }
    }

    #[test]
    fn what_a_damaged_item_held_is_not_in_the_message() {
        let error = explain(Error::BadEncoding(b"secret\xff".to_vec()));
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
