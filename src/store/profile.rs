//! Each tool's names: places, encodings, locks, signals. A profile is a row of a table, not a
//! subclass (spec S-C 2, 3.3 and 6).

mod table;

use std::path::{Path, PathBuf};

use crate::options::CacheName;

use super::encoding::Encoding;
use super::lock::{LockPaths, Mechanism};
use super::{Place, Places, Writing};

pub(super) use self::table::AZURE_IDENTITY;
pub use self::table::PROFILES;

/// How one tool, or one family of SDKs, keeps its caches: a row of [`PROFILES`].
#[derive(Debug)]
pub struct Profile {
    /// A short name to type, such as `dotnet`.
    pub id: &'static str,
    /// What people call the tool.
    pub title: &'static str,
    names: Names,
    /// In the order in which the tool itself looks.
    sites: &'static [SiteRule],
}

/// What a tool calls its caches (spec S-C 2.1).
#[derive(Debug)]
struct Names {
    base: &'static str,
    /// What is added without, and with, continuous access evaluation; equal if one cache is for both.
    suffixes: [&'static str; 2],
    /// The same for a name of the user's choosing; `None` if there can be no such.
    custom: Option<[&'static str; 2]>,
}

/// One kind of place in which a tool keeps its caches, on some systems.
#[derive(Debug)]
struct SiteRule {
    systems: &'static [System],
    place: PlaceRule,
    encoding: Encoding,
    locks: Locks,
    writing: Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Linux,
    MacOs,
    Windows,
}

impl System {
    const CURRENT: Option<Self> = if cfg!(target_os = "linux") {
        Some(Self::Linux)
    } else if cfg!(target_os = "macos") {
        Some(Self::MacOs)
    } else if cfg!(windows) {
        Some(Self::Windows)
    } else {
        None
    };
}

#[derive(Debug)]
enum PlaceRule {
    File(Folder),
    /// An item of the Secret Service, and the folder of its signal files.
    Item(ItemRule, Folder),
    /// A generic password of the Keychain, and the folder of its signal files.
    Keychain {
        service: Word,
        account: Word,
        signals: Folder,
    },
}

#[derive(Debug)]
struct ItemRule {
    /// What libsecret keeps as `xdg:schema`.
    schema: Word,
    attributes: &'static [(&'static str, &'static str)],
    label: Word,
}

/// A word that may depend on the cache's full name.
#[derive(Clone, Copy, Debug)]
enum Word {
    Fixed(&'static str),
    Name,
    /// The name, but with another word in the default's place: Java's Keychain account.
    NameWithBase(&'static str),
    /// The name, but for one of them: Python's Keychain account.
    NameBut(&'static str, &'static str),
}

impl Word {
    fn of(self, names: &Names, full_name: &str) -> String {
        match self {
            Self::Fixed(word) => word.to_owned(),
            Self::NameBut(name, word) if full_name == name => word.to_owned(),
            Self::NameWithBase(word) => match full_name.strip_prefix(names.base) {
                Some(suffix) if names.suffixes.contains(&suffix) => format!("{word}{suffix}"),
                _ => full_name.to_owned(),
            },
            Self::Name | Self::NameBut(..) => full_name.to_owned(),
        }
    }
}

/// Which lock files a tool takes (spec S-C 3.1): they belong to the data or signal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locks {
    /// `PATH.lockfile`.
    Beside,
    /// The same, and the folder's that Java takes.
    BesideAndFolders,
    /// Only the folder's.
    Folders,
    /// azd's `PATH.lock`, which is locked by `flock` alone and stays.
    Kept,
}

const LOCK_SUFFIX: &str = ".lockfile";
const FOLDER_LOCK: &str = ".lockfile";

impl Locks {
    fn of(self, path: &Path) -> LockPaths {
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let own = (Mechanism::Flock, beside(LOCK_SUFFIX));
        let folders = (Mechanism::RecordLock, path.with_file_name(FOLDER_LOCK));
        match self {
            Self::Beside => LockPaths::new(own, []),
            Self::BesideAndFolders => LockPaths::new(own, [folders]),
            Self::Folders => LockPaths::new(folders, []),
            Self::Kept => LockPaths::new((Mechanism::KeptFlock, beside(".lock")), []),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    base: Base,
    below: &'static str,
    /// What is added to a cache's name to make a file's.
    extension: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    AzdConfig,
    AzureConfig,
    Cache,
    Data,
    Home,
    LocalData,
}

impl Folder {
    fn path(self, places: &Places) -> PathBuf {
        let base = match self.base {
            Base::AzdConfig => &places.azd_config,
            Base::AzureConfig => &places.azure_config,
            Base::Cache => &places.cache,
            Base::Data => &places.data,
            Base::Home => &places.home,
            Base::LocalData => &places.local_data,
        };
        // part by part, so that each platform gets its own separators
        self.below.split('/').filter(|part| !part.is_empty()).fold(base.clone(), |path, part| path.join(part))
    }

    fn file_name(self, full_name: &str) -> String {
        format!("{full_name}{}", self.extension)
    }
}

/// One cache of one tool: what a row comes to on this machine.
#[derive(Debug)]
pub(super) struct Site {
    /// What it is called.
    pub(super) name: String,
    /// Whether it is the one for continuous access evaluation; `None` if it is for both.
    pub(super) cae: Option<bool>,
    /// Where it rests.
    pub(super) place: Place,
    /// How its bytes are written.
    pub(super) encoding: Encoding,
    /// Its files.
    pub(super) files: CacheFiles,
    /// Whether we may write it.
    pub(super) writing: Writing,
}

impl Site {
    /// A file in a folder of caches that no tool we know would name so.
    pub(super) fn of_nobody(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        Self {
            name: name.to_owned(),
            cae: None,
            place: Place::File(path.clone()),
            encoding: Encoding::Json,
            files: CacheFiles { lock: Locks::Beside.of(&path), path, signals: Vec::new() },
            writing: Writing::ReadOnly {
                why: "no tool that we know keeps a cache under this name",
                instead: "find out whose it is; if nobody's, remove it",
            },
        }
    }
}

impl Profile {
    /// The cache's full name, with what tells continuous access evaluation (spec S-C 2.1).
    #[must_use]
    pub fn full_name(&self, name: &CacheName, cae: bool) -> String {
        let is_default = name.as_str() == self.names.base;
        let suffixes = self.names.custom.filter(|_| !is_default).unwrap_or(self.names.suffixes);
        format!("{name}{}", suffixes[usize::from(cae)])
    }

    /// The files of a cache in the `.IdentityService` folder below `base`.
    pub(super) fn files(&self, base: &Path, full_name: &str) -> CacheFiles {
        let path = base.join(".IdentityService").join(full_name);
        CacheFiles { lock: Locks::BesideAndFolders.of(&path), path, signals: Vec::new() }
    }

    /// Every place in which the tool keeps its own caches on this system.
    pub(super) fn default_sites(&self, places: &Places) -> Vec<Site> {
        let mut sites = Vec::new();
        for rule in self.rules() {
            for name in self.default_names() {
                sites.push(self.site(rule, places, &name));
            }
        }
        sites
    }

    /// Where the tool keeps the caches of a name, if its keyring works or not: the first place in
    /// which it looks, for each of the two modes.
    pub(super) fn sites_in_use(&self, places: &Places, name: &CacheName, has_keyring: bool) -> Vec<Site> {
        let works = |rule: &&'static SiteRule| has_keyring || !matches!(rule.place, PlaceRule::Item(..));
        let Some(rule) = self.rules().find(works) else { return Vec::new() };
        let names = match self.names.custom {
            Some(_) => vec![self.full_name(name, false), self.full_name(name, true)],
            None => self.default_names(),
        };
        let mut sites: Vec<Site> = names.iter().map(|name| self.site(rule, places, name)).collect();
        sites.dedup_by(|later, first| {
            let is_one = later.name == first.name;
            if is_one {
                first.cae = None; // one for both modes
            }
            is_one
        });
        sites
    }

    /// Where the tool keeps a cache of this full name in that folder, if it may be the tool's.
    /// `by_suffix`: only if the name says so itself.
    pub(super) fn custom_file(
        &self,
        places: &Places,
        folder: &Path,
        full_name: &str,
        by_suffix: bool,
    ) -> Option<Site> {
        let suffixes = self.names.custom?;
        let is_named = |suffix: &str| !suffix.is_empty() && full_name.ends_with(suffix);
        if by_suffix != suffixes.into_iter().any(is_named) {
            return None;
        }
        if !by_suffix && !suffixes.contains(&"") {
            return None;
        }
        let rule = self
            .rules()
            .find(|rule| matches!(&rule.place, PlaceRule::File(own) if own.path(places) == folder))?;
        Some(self.site(rule, places, full_name))
    }

    /// Where the tool keeps a cache of this full name if it can encrypt it: where it looks first.
    pub(super) fn encrypted_site(&self, places: &Places, full_name: &str) -> Option<Site> {
        self.rules().next().map(|rule| self.site(rule, places, full_name))
    }

    /// The folders that hold nothing but caches, in which any file is one.
    pub(super) fn cache_folders(&self, places: &Places) -> impl Iterator<Item = PathBuf> {
        self.rules().filter_map(|rule| {
            let (PlaceRule::File(folder) | PlaceRule::Item(_, folder)) = &rule.place else { return None };
            folder.below.ends_with(".IdentityService").then(|| folder.path(places))
        })
    }

    fn rules(&self) -> impl Iterator<Item = &'static SiteRule> {
        self.sites.iter().filter(|rule| System::CURRENT.is_some_and(|system| rule.systems.contains(&system)))
    }

    fn default_names(&self) -> Vec<String> {
        let [without, with] = self.names.suffixes;
        let mut names = vec![format!("{}{without}", self.names.base)];
        if with != without {
            names.push(format!("{}{with}", self.names.base));
        }
        names
    }

    fn site(&self, rule: &SiteRule, places: &Places, full_name: &str) -> Site {
        let word = |word: Word| word.of(&self.names, full_name);
        let (place, folder) = match &rule.place {
            PlaceRule::File(folder) => {
                (Place::File(folder.path(places).join(folder.file_name(full_name))), folder)
            }
            PlaceRule::Item(item, signals) => {
                let schema = ("xdg:schema".to_owned(), word(item.schema));
                let others =
                    item.attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                let attributes = std::iter::once(schema).chain(others).collect();
                (Place::SecretService { label: word(item.label), attributes }, signals)
            }
            PlaceRule::Keychain { service, account, signals } => {
                (Place::Keychain { service: word(*service), account: word(*account) }, signals)
            }
        };
        let path = folder.path(places).join(folder.file_name(full_name));
        Site {
            name: folder.file_name(full_name),
            cae: self.is_for_cae(full_name),
            place,
            encoding: rule.encoding,
            files: CacheFiles { lock: rule.locks.of(&path), path, signals: Vec::new() },
            writing: rule.writing,
        }
    }

    fn is_for_cae(&self, full_name: &str) -> Option<bool> {
        let [without, with] = self.names.suffixes;
        (without != with).then(|| full_name.ends_with(with))
    }
}

/// The files that belong to one cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheFiles {
    /// The data; with a keyring, the signal: its time tells other programs of a change.
    pub(super) path: PathBuf,
    /// Signals of the other caches that rest in the same item.
    pub(super) signals: Vec<PathBuf>,
    /// The locks.
    pub(super) lock: LockPaths,
}

impl CacheFiles {
    /// Takes over what another tool watches and locks for the same thing.
    pub(super) fn add(&mut self, other: Self) {
        for signal in std::iter::once(other.path).chain(other.signals) {
            if signal != self.path && !self.signals.contains(&signal) {
                self.signals.push(signal);
            }
        }
        self.lock.add(other.lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> &'static Profile {
        PROFILES.iter().find(|profile| profile.id == id).unwrap()
    }

    #[test]
    fn names_and_paths_are_those_of_azure_identity() {
        let name = CacheName::default();
        assert_eq!(AZURE_IDENTITY.full_name(&name, false), "msal.cache.nocae");
        assert_eq!(AZURE_IDENTITY.full_name(&name, true), "msal.cache.cae");

        let files = AZURE_IDENTITY.files(Path::new("home"), "msal.cache.cae");
        let folder = Path::new("home").join(".IdentityService");
        assert_eq!(files.path, folder.join("msal.cache.cae"));
        let locks: Vec<_> = files.lock.iter().collect();
        assert_eq!(locks, [folder.join("msal.cache.cae.lockfile"), folder.join(".lockfile")]);
    }

    #[test]
    fn every_tool_has_its_own_rule_for_names() {
        let (default, own) = (CacheName::default(), CacheName::new("own").unwrap());
        for (id, names) in [
            ("python", ["msal.cache.nocae", "msal.cache.cae", "own.nocae", "own.cae"]),
            ("dotnet", ["msal.cache.nocae", "msal.cache.cae", "own.nocae", "own.cae"]),
            ("java", ["msal.cache.nocae", "msal.cache.cae", "own.nocae", "own.cae"]),
            ("node", ["msal.cache.nocae", "msal.cache.cae", "own", "own"]),
            ("go", ["msal.cache", "msal.cache.cae", "own", "own.cae"]),
        ] {
            let found = [(&default, false), (&default, true), (&own, false), (&own, true)]
                .map(|(name, cae)| row(id).full_name(name, cae));
            assert_eq!(found, names, "{id}");
        }
    }

    #[test]
    fn ids_are_unique_and_short() {
        let mut ids: Vec<_> = PROFILES.iter().map(|profile| profile.id).collect();
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{ids:?}");
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn keychain_accounts_are_each_tools_own() {
        for (id, name, expected) in [
            ("python", "msal.cache.nocae", ["Microsoft.Developer.IdentityService", "MSALCache"]),
            ("python", "msal.cache.cae", ["Microsoft.Developer.IdentityService", "msal.cache.cae"]),
            ("python", "other.nocae", ["Microsoft.Developer.IdentityService", "other.nocae"]),
            ("java", "msal.cache.cae", ["Microsoft.Developer.IdentityService", "MSALCache.cae"]),
            ("java", "own.cae", ["Microsoft.Developer.IdentityService", "own.cae"]),
            ("node", "own", ["Microsoft.Developer.IdentityService", "MSALCache"]),
            ("dotnet", "msal.cache.cae", ["Microsoft.Developer.IdentityService", "msal.cache.cae"]),
            ("go", "msal.cache", ["msal.cache", "MSALCache"]),
        ] {
            let rules = row(id).sites.iter();
            let found: Vec<_> = rules
                .filter(|rule| matches!(rule.place, PlaceRule::Keychain { .. }))
                .map(|rule| row(id).site(rule, &Places::below("home"), name).place)
                .collect();
            let [service, account] = expected.map(str::to_owned);
            assert_eq!(found, [Place::Keychain { service, account }], "{id} {name}");
        }
    }
}
