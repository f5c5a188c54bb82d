//! What is wrong with the caches of a machine and with what they stand on, what it means, and how
//! it is put right.
//!
//! [`examine`] looks and changes nothing; [`Examination::repair`] does what one finding says, under
//! the cache's own lock and only if it is still so. `docs/doctor.md` explains every finding.

mod agent;
mod caches;
mod catalogue;
#[cfg(feature = "cli")]
mod config;
mod machine;
mod repair;

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::inventory::{Survey, VaultSurvey, survey};
use super::memory::Memory;
use crate::cloud::Authority;
#[cfg(feature = "cli")]
use crate::config::ConfigFile;
use crate::document::EntryPlace;
use crate::error::CacheError;
use crate::options::Storage;
use crate::store::{KeyringState, Places, check_keyring};
use crate::time::UnixTime;

pub use self::agent::{AgentState, AgentSurvey};
pub use self::catalogue::{CATALOGUE, Severity, Sign};
pub use self::machine::{Network, ProxySettings};
pub use self::repair::{Repair, Repaired};

use self::machine::Surroundings;
use self::repair::Work;

/// What to look at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExaminationOptions {
    /// Where caches are looked for.
    pub places: Places,
    /// Whose tokens they hold.
    pub authority: Authority,
    /// Whether an authority that is no cloud of Microsoft's is trusted.
    pub disable_instance_discovery: bool,
    /// Where the user wants tokens to be: what cannot work there matters more.
    pub storage: Storage,
    /// Whether to ask nobody outside this machine.
    pub offline: bool,
    /// How long the authority may take to answer.
    pub network_wait: Duration,
    /// The moment at which tokens count as expired.
    pub now: UnixTime,
    /// What the agent and the front doors go by.
    #[cfg(feature = "cli")]
    pub(crate) config: ConfigFile,
}

impl ExaminationOptions {
    /// Everything, for the public cloud and an encrypted store.
    #[must_use]
    pub fn new(places: Places, now: UnixTime) -> Self {
        Self {
            #[cfg(feature = "cli")]
            config: ConfigFile::usual(&places.config),
            places,
            authority: Authority::public(),
            disable_instance_discovery: false,
            storage: Storage::Auto,
            offline: false,
            network_wait: Duration::from_secs(5),
            now,
        }
    }
}

/// What was found, at one moment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Examination {
    /// Every cache that there is.
    pub caches: Vec<Survey>,
    /// What was set aside in its time and is still there.
    pub damaged_copies: Vec<PathBuf>,
    /// The user's agent.
    pub agent: AgentSurvey,
    /// The keyring; `None` where the platform needs no Secret Service.
    pub keyring: Option<KeyringState>,
    /// The user's vault.
    pub vault: VaultSurvey,
    /// The proxies that the environment names.
    pub proxies: ProxySettings,
    /// The way to the authority; `None` if nobody was to be asked.
    pub network: Option<Network>,
    /// What is wrong, or worth knowing: for each cache in turn, then for what they stand on.
    pub findings: Vec<Finding>,
    /// When that was.
    pub now: UnixTime,
}

impl Examination {
    /// Whether there is something that somebody should do. Notes do not count.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Note)
    }
}

/// One thing that is wrong, or worth knowing. Nothing in it is secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What it is a case of.
    pub sign: &'static Sign,
    /// How much it matters here: usually [`Sign::severity`].
    pub severity: Severity,
    /// What it is about: a cache, a file, the keyring.
    pub subject: String,
    /// What exactly was found; empty if the meaning says it all.
    pub detail: String,
    /// Entries it is about.
    pub entries: Vec<EntryPlace>,
    /// The command that puts it right, if one does.
    pub fix: Option<String>,
    /// What [`Examination::repair`] would do.
    pub repair: Option<Repair>,
}

impl Finding {
    fn new(sign: &'static Sign, subject: impl Into<String>) -> Self {
        Self {
            sign,
            severity: sign.severity,
            subject: subject.into(),
            detail: String::new(),
            entries: Vec::new(),
            fix: None,
            repair: None,
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }

    fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    fn repair(mut self, repair: Repair) -> Self {
        self.fix = Some("tokenkeep doctor --repair".to_owned());
        self.repair = Some(repair);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sign, severity, subject, detail, .. } = self;
        write!(f, "{severity} {}: {subject}: {}", sign.id, sign.meaning)?;
        if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
    }
}

/// Looks at everything at once: caches, keyring, agent and authority wait for each other no longer
/// than for the slowest of them. Changes nothing, but for an item that the keyring is given to keep and
/// that is removed again.
#[must_use]
pub fn examine(options: &ExaminationOptions) -> Examination {
    let (surveyed, keyring, agent, network) = thread::scope(|scope| {
        let network = scope.spawn(|| (!options.offline).then(|| Network::look(options)));
        let agent = scope.spawn(|| AgentSurvey::of(options));
        let keyring = scope.spawn(check_keyring);
        let surveyed = survey(&options.places);
        // a thread that panicked found nothing out
        let (agent, keyring) = (agent.join().unwrap_or_default(), keyring.join().unwrap_or_default());
        (surveyed, keyring, agent, network.join().unwrap_or_default())
    });
    let surroundings = Surroundings {
        agent,
        keyring,
        vault: VaultSurvey::of(&options.places.vault()),
        proxies: ProxySettings::of_environment(),
        network,
    };
    conclude(options, surveyed, surroundings)
}

/// Looks once more at what can be repaired; what else caches stand on is taken over.
#[must_use]
pub fn examine_again(options: &ExaminationOptions, before: Examination) -> Examination {
    let Examination { agent, keyring, vault, proxies, network, .. } = before;
    let agent = if agent.is_left_over() { AgentSurvey::of(options) } else { agent };
    let surroundings = Surroundings { agent, keyring, vault, proxies, network };
    conclude(options, survey(&options.places), surroundings)
}

fn conclude(
    options: &ExaminationOptions,
    (caches, damaged_copies): (Vec<Survey>, Vec<PathBuf>),
    surroundings: Surroundings,
) -> Examination {
    let keyring_works = !matches!(&surroundings.keyring, Some(state) if *state != KeyringState::Works);
    // without a memory that can be read nothing is known to be dead
    let memory = Memory::of(&options.places);
    let (known, unknown) =
        memory.recall().map_or_else(|error| (None, Some(error)), |known| (Some(known), None));
    let mut findings = Vec::new();
    for (place, cache) in caches.iter().enumerate() {
        let known = known.as_ref();
        caches::Findings { place, cache, options, keyring_works, known, found: &mut findings }.collect();
    }
    findings.extend(unknown.map(|error| of_memory(memory, &error)));
    findings.extend(damaged_copies.iter().map(|copy| caches::of_copy(copy)));
    surroundings.findings(options, &mut findings);
    let Surroundings { agent, keyring, vault, proxies, network } = surroundings;
    Examination {
        caches,
        damaged_copies,
        agent,
        keyring,
        vault,
        proxies,
        network,
        findings,
        now: options.now,
    }
}

fn of_memory(memory: Memory, error: &CacheError) -> Finding {
    let subject = memory.path().display().to_string();
    let finding = Finding::new(&catalogue::REVOCATIONS_UNREADABLE, subject).detail(error.to_string());
    match error {
        CacheError::Damaged { .. } => finding.repair(Repair(Work::Revocations(memory))),
        other => finding.fix(other.hint()),
    }
}
