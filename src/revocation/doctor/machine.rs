//! What caches stand on: agent, `config.toml`, keyring, vault, clock, proxies, the way to the authority.

use std::time::{Duration, Instant};

use url::Url;

use super::agent::AgentSurvey;
use super::catalogue as sign;
use super::{ExaminationOptions, Finding, Severity, VaultSurvey};
use crate::entra;
use crate::options::Storage;
use crate::store::KeyringState;
use crate::store::vault::ProtectorKind;
use crate::time::{Clock as _, SystemClock};

/// What Entra ID and its libraries tolerate.
const TOLERATED_SKEW: Duration = Duration::from_secs(300);

/// Sets the clock by a time server.
const SET_CLOCK: &str = if cfg!(windows) {
    "w32tm /resync"
} else if cfg!(target_os = "macos") {
    "sudo sntp -sS time.apple.com"
} else {
    "sudo timedatectl set-ntp true"
};

/// The way to the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// It answered.
    Reached {
        /// With which status.
        status: u16,
        /// How far this machine's clock is ahead of its clock, in seconds; `None` if it shows none.
        clock_ahead: Option<i64>,
        /// How long it took.
        took: Duration,
    },
    /// It is no cloud of Microsoft's, and nobody said that it is trusted.
    Unknown,
    /// It did not answer.
    Unreachable {
        /// Why.
        detail: String,
    },
}

impl Network {
    /// Asks the authority for what everybody may know, on a thread that has nothing else to do.
    pub(super) fn look(options: &ExaminationOptions) -> Self {
        let authority = options.authority.for_network();
        if !authority.is_known() && !options.disable_instance_discovery {
            return Self::Unknown;
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Self::Unreachable { detail: error.to_string() },
        };
        let started = Instant::now();
        let reached = runtime.block_on(entra::reach(&authority, options.network_wait));
        // a name server that does not answer is left to itself
        runtime.shutdown_background();
        match reached {
            Ok(entra::Reached { status, date }) => Self::Reached {
                status,
                clock_ahead: date.map(|date| SystemClock.now().seconds().saturating_sub(date.seconds())),
                took: started.elapsed(),
            },
            Err(refusal) => Self::Unreachable { detail: refusal.to_string() },
        }
    }
}

/// The proxies that the environment names, without passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxySettings {
    /// Variable and address.
    pub proxies: Vec<(String, String)>,
    /// Variables whose value is no address.
    pub malformed: Vec<String>,
    /// Whom no proxy is used for.
    pub exceptions: Option<String>,
}

impl ProxySettings {
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).filter(|value| !value.trim().is_empty());
        let mut settings = Self::default();
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let Some(value) = set(&name) else { continue };
            let with_scheme = if value.contains("://") { value } else { format!("http://{value}") };
            match Url::parse(with_scheme.trim()) {
                Ok(url) if url.has_host() => {
                    let host = url.host_str().unwrap_or_default();
                    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
                    settings.proxies.push((name.to_owned(), format!("{}://{host}{port}", url.scheme())));
                }
                _ => settings.malformed.push(name.to_owned()),
            }
        }
        settings.exceptions = ["NO_PROXY", "no_proxy"].iter().find_map(set);
        settings
    }
}

/// What caches stand on.
pub(super) struct Surroundings {
    pub(super) agent: AgentSurvey,
    pub(super) keyring: Option<KeyringState>,
    pub(super) vault: VaultSurvey,
    pub(super) proxies: ProxySettings,
    pub(super) network: Option<Network>,
}

impl Surroundings {
    pub(super) fn findings(&self, options: &ExaminationOptions, found: &mut Vec<Finding>) {
        found.extend(self.agent.finding());
        found.extend(self.agent.config_finding());
        #[cfg(feature = "cli")]
        found.extend(super::config::finding(&options.config));
        found.extend(self.of_keyring(options));
        found.extend(self.of_vault());
        for name in &self.proxies.malformed {
            let fix = format!("export {name}=http://HOST:PORT");
            found.push(Finding::new(&sign::PROXY_MALFORMED, name.clone()).fix(fix));
        }
        found.extend(self.of_network(options));
        let locking = "DOTNET_SYSTEM_IO_DISABLEFILELOCKING";
        let is_off = |value: String| value == "1" || value.eq_ignore_ascii_case("true");
        if std::env::var(locking).is_ok_and(is_off) {
            found.push(Finding::new(&sign::DOTNET_LOCKING_OFF, locking).fix(format!("unset {locking}")));
        }
    }

    fn of_keyring(&self, options: &ExaminationOptions) -> Option<Finding> {
        const UNLOCK: &str = "sign in to the desktop, or unlock it with your keyring's manager";
        const WITHOUT: &str = "tokenkeep vault init";
        let subject = "the keyring";
        let finding = match self.keyring.as_ref()? {
            KeyringState::Works => return None,
            KeyringState::Forgets { detail } => {
                Finding::new(&sign::KEYRING_FORGETS, subject).detail(detail.clone()).fix(WITHOUT)
            }
            KeyringState::Locked => Finding::new(&sign::KEYRING_LOCKED, subject).fix(UNLOCK),
            KeyringState::NoBus { detail } => {
                Finding::new(&sign::KEYRING_NO_BUS, subject).detail(detail.clone()).fix(WITHOUT)
            }
            KeyringState::NoCollection => Finding::new(&sign::KEYRING_NO_COLLECTION, subject)
                .fix("make a default keyring with your keyring's manager, or: tokenkeep vault init"),
            KeyringState::NoService { detail } => {
                Finding::new(&sign::KEYRING_NO_SERVICE, subject).detail(detail.clone()).fix(WITHOUT)
            }
            KeyringState::Silent { waited } => Finding::new(&sign::KEYRING_SILENT, subject)
                .detail(format!("no answer within {} s", waited.as_secs_f32()))
                .fix(UNLOCK),
        };
        // whoever has chosen something else does not need it
        let is_replaced = match options.storage {
            Storage::Auto => matches!(self.vault, VaultSurvey::Sealed { .. }) && is_missing(&finding),
            Storage::Platform => false,
            Storage::Plaintext | Storage::Vault => true,
        };
        Some(if is_replaced { finding.severity(Severity::Note) } else { finding })
    }

    fn of_vault(&self) -> Option<Finding> {
        match &self.vault {
            VaultSurvey::Absent => None,
            VaultSurvey::Sealed { path, protectors, .. } => {
                let only_kernel = protectors.iter().all(|slot| slot.kind == ProtectorKind::Kernel);
                only_kernel.then(|| {
                    Finding::new(&sign::VAULT_KERNEL_ONLY, path.display().to_string())
                        .fix("tokenkeep vault protector add passphrase")
                })
            }
            VaultSurvey::Unusable { path, error } => Some(
                Finding::new(&sign::VAULT_UNUSABLE, path.display().to_string())
                    .detail(error.to_string())
                    .fix(error.hint()),
            ),
        }
    }

    fn of_network(&self, options: &ExaminationOptions) -> Option<Finding> {
        let subject = options.authority.for_network().to_string();
        match self.network.as_ref()? {
            Network::Unknown => Some(
                Finding::new(&sign::AUTHORITY_UNKNOWN, subject)
                    .fix("if you trust it: tokenkeep doctor --disable-instance-discovery"),
            ),
            Network::Unreachable { detail } => {
                let proxies = self.proxies.proxies.iter().map(|(name, address)| format!("{name}={address}"));
                let by = proxies.collect::<Vec<_>>().join(", ");
                let detail = if by.is_empty() { detail.clone() } else { format!("{detail}; with {by}") };
                Some(
                    Finding::new(&sign::AUTHORITY_UNREACHABLE, subject)
                        .detail(detail)
                        .fix("see whether this machine is online and needs a proxy: export HTTPS_PROXY=http://HOST:PORT"),
                )
            }
            Network::Reached { clock_ahead: Some(ahead), .. }
                if ahead.unsigned_abs() > TOLERATED_SKEW.as_secs() =>
            {
                let side = if *ahead > 0 { "ahead of" } else { "behind" };
                let detail = format!("{} s {side} the authority's", ahead.unsigned_abs());
                Some(Finding::new(&sign::CLOCK_SKEW, "this machine's clock").detail(detail).fix(SET_CLOCK))
            }
            Network::Reached { .. } => None,
        }
    }
}

/// Whether there is no keyring at all, which a vault makes up for. A locked one still hides caches.
fn is_missing(finding: &Finding) -> bool {
    [&sign::KEYRING_NO_BUS, &sign::KEYRING_NO_COLLECTION, &sign::KEYRING_NO_SERVICE].contains(&finding.sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_shown_without_who_uses_them() {
        let settings = ProxySettings::of(|name| match name {
            "HTTPS_PROXY" => Some("http://user:canary@proxy.example:3128/x".to_owned()),
            "ALL_PROXY" => Some("proxy.example".to_owned()),
            "https_proxy" => Some("http://".to_owned()),
            "no_proxy" => Some("localhost".to_owned()),
            _ => None,
        });
        let shown = [("HTTPS_PROXY", "http://proxy.example:3128"), ("ALL_PROXY", "http://proxy.example")];
        let shown = shown.map(|(name, address)| (name.to_owned(), address.to_owned()));
        assert_eq!(settings.proxies, shown);
        assert_eq!(
            (settings.malformed, settings.exceptions.as_deref()),
            (vec!["https_proxy".to_owned()], Some("localhost"))
        );
    }
}
