//! Whether the platform's keyring can be relied on.

use std::time::Duration;

/// How far one gets with a keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyringState {
    /// It answers, but does not give back what it was given.
    Forgets {
        /// What happened.
        detail: String,
    },
    /// It is there and locked. Nobody was asked to unlock it.
    Locked,
    /// There is no D-Bus session to ask on.
    NoBus {
        /// What the bus said.
        detail: String,
    },
    /// The user never made a keyring.
    NoCollection,
    /// Nobody on the bus offers a Secret Service.
    NoService {
        /// What the bus said.
        detail: String,
    },
    /// It does not answer.
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It stored an item, gave it back, and removed it again.
    Works,
}

/// Checks the Secret Service layer by layer; `None` where the platform has none: the Keychain and
/// DPAPI are always there. Blocks for as long as a keyring may take, and never prompts.
#[must_use]
pub fn check_keyring() -> Option<KeyringState> {
    #[cfg(target_os = "linux")]
    return Some(super::secret_service::check());
    #[cfg(not(target_os = "linux"))]
    None
}
