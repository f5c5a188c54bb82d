//! What `exec` and `serve` share: an account, a grant, and the doors in front of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::runtime::Runtime;

use super::arguments::GrantOptions;
use super::caches::OpenCache;
use super::failure::Failure;
use super::settings::Settings;
use super::token;
use crate::cloud::TenantId;
use crate::credential::{SharedTokenCacheCredential, TokenCredential};
use crate::error::InvalidArgument;
use crate::record::AuthenticationRecord;
use crate::serve::{AllowedScopes, AllowedTenants, Desk, Entry, Grant, Listening, Registry, Server, Terms};
use crate::store::vault::{Attempts, ProtectorKind, Unattended, Unlocking};
use crate::time::{Clock as _, SystemClock, UnixTime};

/// Whose tokens a grant is about.
pub(super) struct Behind {
    credential: Arc<dyn TokenCredential>,
    record: AuthenticationRecord,
    prompts: Arc<AtomicBool>,
}

impl Behind {
    /// Opens the cache and chooses the account; a person may be asked to unlock a vault, but only
    /// now and never in the middle of another program's work.
    pub(super) fn open(options: &GrantOptions, settings: &Settings) -> Result<Self, Failure> {
        let prompts = Arc::new(AtomicBool::new(true));
        let unlocking = UntilServing {
            person: Arc::clone(&settings.unlocking),
            alone: Unattended::of_environment(&settings.places),
            prompts: Arc::clone(&prompts),
        };
        let settings = settings.with_unlocking(Arc::new(unlocking));
        let cache = OpenCache::open(&settings, false)?;
        let record = token::of_account(options.account.as_deref(), &cache, &settings)?;
        let of_credential = settings
            .credential(Arc::clone(&cache.store))
            .authentication_record(record.clone())
            // which ones it may be is the grant's affair
            .additionally_allowed_tenants(["*"]);
        let credential = Arc::new(SharedTokenCacheCredential::new(of_credential)?);
        Ok(Self { credential, record, prompts })
    }

    pub(super) const fn tenant(&self) -> &TenantId {
        self.record.tenant_id()
    }
}

/// What the options say about the grant.
pub(super) fn terms(options: &GrantOptions, own_tenant: &TenantId, now: UnixTime) -> Result<Terms, Failure> {
    Ok(Terms {
        scopes: AllowedScopes::parse(&options.scopes)?,
        tenants: AllowedTenants::parse(own_tenant, &options.tenants)?,
        expires_on: options.expires.as_deref().map(duration).transpose()?.map(|length| now.after(length)),
    })
}

/// Checks what can be checked before the cache is opened.
pub(super) fn check(options: &GrantOptions) -> Result<(), Failure> {
    terms(options, &TenantId::organizations(), UnixTime::default()).map(drop)
}

fn duration(text: &str) -> Result<Duration, Failure> {
    let refuse = || {
        Failure::from(InvalidArgument::new(
            "duration",
            format!("{text:?} is not a time to come"),
            "give hours, minutes or seconds, such as 8h, 30m or 1h30m",
        ))
    };
    let length: SignedDuration = text.parse().map_err(|_| refuse())?;
    let length = Duration::try_from(length).map_err(|_| refuse())?;
    if length < Duration::from_secs(1) { Err(refuse()) } else { Ok(length) }
}

/// A server with its grant, on the list of grants until it is dropped.
pub(super) struct Doors {
    pub(super) desk: Arc<Desk>,
    pub(super) grant: Arc<Grant>,
    pub(super) server: Server,
}

/// For whom a grant is, as the list of grants shows it.
pub(super) struct Purpose<'a> {
    pub(super) way: &'static str,
    pub(super) command: Option<&'a Path>,
    pub(super) socket: Option<&'a Path>,
}

impl Doors {
    /// Makes a grant, puts it on the list, and is ready to serve it.
    pub(super) fn open(
        options: &GrantOptions,
        behind: Behind,
        listening: Listening,
        purpose: &Purpose<'_>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let now = SystemClock.now();
        let terms = terms(options, behind.tenant(), now)?;
        let grant = Grant::new(terms).map_err(|error| {
            Failure::file("asking for random bytes", "the system")(std::io::Error::other(error))
        })?;
        let entry = Entry {
            version: Entry::VERSION,
            id: grant.id().to_owned(),
            pid: std::process::id(),
            way: purpose.way.to_owned(),
            command: purpose
                .command
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned()),
            username: behind.record.username().to_owned(),
            home_account_id: behind.record.home_account_id().to_owned(),
            tenants: grant.terms().tenants.as_slice().to_vec(),
            scopes: grant.terms().scopes.as_slice().to_vec(),
            started: now.seconds(),
            expires_on: grant.terms().expires_on.map(UnixTime::seconds),
            socket: purpose.socket.map(Path::to_owned),
        };
        let registry = registry(settings);
        let registration =
            registry.register(&entry).map_err(Failure::file("listing a grant in", registry.folder()))?;
        behind.prompts.store(false, Ordering::Relaxed);
        let grant = Arc::new(grant);
        let desk =
            Arc::new(Desk::new(Arc::clone(&grant), behind.credential, Arc::new(SystemClock), registration));
        let server = Server::new(listening, Arc::clone(&desk));
        Ok(Self { desk, grant, server })
    }
}

/// The list of this user's grants.
pub(super) fn registry(settings: &Settings) -> Registry {
    Registry::below(&settings.places.running())
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::file("starting", "the runtime"))
}

/// Unlocks with a person's help until the doors are open, and alone from then on.
#[derive(Debug)]
struct UntilServing {
    person: Arc<dyn Unlocking>,
    alone: Unattended,
    prompts: Arc<AtomicBool>,
}

impl Unlocking for UntilServing {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        if self.prompts.load(Ordering::Relaxed) {
            self.person.attempts(kinds)
        } else {
            self.alone.attempts(kinds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_hours_minutes_and_seconds() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1_800), ("8h", 28_800), ("1h30m", 5_400), ("PT1H", 3_600)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "0s", "-1h", "1h ago", "8", "soon"] {
            duration(bad).unwrap_err();
        }
    }
}
