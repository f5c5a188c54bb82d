//! What holds for a whole call: an option wins over the environment, and that over the default.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::ValueEnum as _;

use super::arguments::{GlobalOptions, StoreChoice};
use super::output::Output;
use super::unlocking::AtTheTerminal;
use crate::cloud::{Authority, TenantId};
use crate::config::ConfigFile;
use crate::credential::{CredentialOptions, DEVELOPER_SIGN_ON_CLIENT_ID};
use crate::error::{CacheError, Error, InvalidArgument, Result};
use crate::options::{self, CacheName, Storage, TokenCachePersistenceOptions};
use crate::revocation::Everywhere;
use crate::store::vault::{Unlocking, Vault};
use crate::store::{self, ChosenStorage, Places, Store};
use crate::token::Scopes;

/// The settings of one call.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) authority: Authority,
    /// Whether the authority was asked for by option, so that nothing else may stand in for it.
    pub(super) authority_is_explicit: bool,
    pub(super) cache: TokenCachePersistenceOptions,
    /// `None` means the client of developer tools, or a record's own.
    pub(super) client_id: Option<String>,
    /// What the user chose for good, which only some commands read.
    pub(super) config_file: ConfigFile,
    pub(super) disable_instance_discovery: bool,
    pub(super) no_input: bool,
    pub(super) places: Places,
    pub(super) tenant: Option<TenantId>,
    /// How a vault is opened.
    pub(super) unlocking: Arc<dyn Unlocking>,
    /// The vault once it was opened: this call keeps it open.
    vault: OnceLock<Vault>,
    /// The options of this call that a next command needs as well.
    pub(super) to_repeat: Vec<String>,
    /// The same as words that no shell reads.
    pub(super) given: Vec<String>,
}

impl Settings {
    /// Puts the settings together; `variable` looks into the environment.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the option or variable whose value cannot be used.
    pub(super) fn new(
        given: &GlobalOptions,
        variable: impl Fn(&str) -> Option<String>,
        places: Places,
        output: Output,
    ) -> Result<Self> {
        let chosen = |option: &Option<String>, name: &'static str| match option {
            Some(value) => Some(Chosen { value: value.clone(), variable: None }),
            None => variable(name).map(|value| Chosen { value, variable: Some(name) }),
        };
        let storage = match given.store {
            Some(store) => storage(store),
            None => chosen(&None, "TOKENKEEP_STORE")
                .map_or(Ok(Storage::Auto), |chosen| chosen.parse(storage_named))?,
        };
        let name = chosen(&given.cache, "TOKENKEEP_CACHE")
            .map_or_else(|| Ok(CacheName::default()), |chosen| chosen.parse(|name| CacheName::new(name)))?;
        Ok(Self {
            authority: chosen(&given.authority, "AZURE_AUTHORITY_HOST")
                .map_or_else(|| Ok(Authority::public()), |chosen| chosen.parse(Authority::parse))?,
            authority_is_explicit: given.authority.is_some(),
            cache: TokenCachePersistenceOptions::default().name(name).storage(storage),
            client_id: chosen(&given.client_id, "TOKENKEEP_CLIENT_ID")
                .map(|chosen| chosen.parse(options::client_id))
                .transpose()?,
            config_file: variable("TOKENKEEP_CONFIG").map_or_else(
                || ConfigFile::usual(&places.config),
                |named| ConfigFile::named(PathBuf::from(named)),
            ),
            disable_instance_discovery: given.disable_instance_discovery,
            no_input: given.no_input,
            unlocking: Arc::new(AtTheTerminal::new(&places, output)),
            vault: OnceLock::new(),
            places,
            tenant: chosen(&given.tenant, "AZURE_TENANT_ID")
                .map(|chosen| chosen.parse(TenantId::parse))
                .transpose()?,
            to_repeat: given.to_repeat(),
            given: given.words(),
        })
    }

    /// The client whose tokens are asked for.
    pub(super) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or(DEVELOPER_SIGN_ON_CLIENT_ID)
    }

    /// The options for a process of another environment, which is to mean the same cache.
    pub(super) fn given_anywhere(&self) -> Vec<String> {
        let mut words = self.given.clone();
        let lacks = |option: &str| !self.given.iter().any(|word| word.starts_with(option));
        if lacks("--cache=") && self.cache.name != CacheName::default() {
            words.push(format!("--cache={}", self.cache.name.as_str()));
        }
        let chosen =
            StoreChoice::value_variants().iter().find(|choice| storage(**choice) == self.cache.storage);
        if let Some(choice) = chosen.filter(|choice| lacks("--store=") && **choice != StoreChoice::Auto) {
            words.push(format!("--store={}", store_name(*choice)));
        }
        words
    }

    /// Opens one of the two caches.
    pub(super) fn open_store(&self, cae: bool) -> Result<Arc<dyn Store>, CacheError> {
        store::open_with(&self.cache, cae, &self.places, &self.unlocking)
    }

    /// The same settings for another store.
    pub(super) fn with_storage(&self, storage: Storage) -> Self {
        Self { cache: self.cache.clone().storage(storage), ..self.clone() }
    }

    /// The same settings, with another way to open a vault.
    pub(super) fn with_unlocking(&self, unlocking: Arc<dyn Unlocking>) -> Self {
        Self { unlocking, vault: OnceLock::new(), ..self.clone() }
    }

    /// The same settings for another cache.
    pub(super) fn with_cache(&self, cache: &TokenCachePersistenceOptions) -> Self {
        Self { cache: cache.clone(), ..self.clone() }
    }

    /// The vault if that is where the cache rests, opened.
    pub(super) fn vault_in_use(&self) -> Result<Option<&Vault>, CacheError> {
        match store::choose(&self.cache, &self.places)? {
            ChosenStorage::Vault(_) => Ok(Some(self.vault()?)),
            _ => Ok(None),
        }
    }

    /// The user's vault, opened.
    pub(super) fn vault(&self) -> Result<&Vault, CacheError> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = store::vault::open(&self.places.vault(), self.unlocking.as_ref())?;
        Ok(self.vault.get_or_init(|| vault))
    }

    /// Options of a credential that works on `store`, the only one that this call will touch.
    pub(super) fn credential(&self, store: Arc<dyn Store>) -> CredentialOptions {
        let options = CredentialOptions::default()
            .authority(self.authority.clone())
            .disable_instance_discovery(self.disable_instance_discovery)
            .tenant_id(self.tenant.clone())
            .dead_grant_observer(Arc::new(
                Everywhere::new(self.places.clone()).and_stores(self.vault_stores()),
            ))
            .stores(Arc::clone(&store), store);
        match &self.client_id {
            Some(client_id) => options.client_id(client_id),
            None => options,
        }
    }

    /// Both caches if they rest in the vault, which is no other tool's.
    fn vault_stores(&self) -> Vec<Arc<dyn Store>> {
        match store::choose(&self.cache, &self.places) {
            Ok(ChosenStorage::Vault(_)) => {
                [false, true].into_iter().filter_map(|cae| self.open_store(cae).ok()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The scopes given, or what a bare sign-in at this authority asks for.
    pub(super) fn scopes(given: &[String], authority: &Authority) -> Result<Scopes> {
        match (given, authority.default_scope()) {
            ([], Some(default)) => Scopes::new([default]),
            ([], None) => Err(InvalidArgument::new(
                "scope",
                format!("none was given, and {authority} has no default"),
                "say what the token is to be good for: --scope SCOPE",
            )
            .into()),
            (given, _) => Scopes::new(given),
        }
    }
}

impl GlobalOptions {
    /// The options that the next command needs as well, to mean the same cache and provider.
    pub(super) fn to_repeat(&self) -> Vec<String> {
        let option = |(name, value): (&str, Option<&str>)| match value {
            Some(value) => format!("--{name} {}", shell_word(value)),
            None => format!("--{name}"),
        };
        self.given().into_iter().map(option).collect()
    }

    /// The same as words that no shell reads.
    fn words(&self) -> Vec<String> {
        let word = |(name, value): (&str, Option<&str>)| match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        };
        self.given().into_iter().map(word).collect()
    }

    fn given(&self) -> Vec<(&'static str, Option<&str>)> {
        let options = [
            ("cache", self.cache.as_deref()),
            ("store", self.store.map(store_name)),
            ("authority", self.authority.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("client-id", self.client_id.as_deref()),
        ];
        let given = options.into_iter().filter(|(_, value)| value.is_some());
        given.chain(self.disable_instance_discovery.then_some(("disable-instance-discovery", None))).collect()
    }
}

/// A variable of the process's environment. An empty one counts as none: that is how scripts
/// clear one for a single command.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The text as one word of a POSIX shell.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

struct Chosen {
    value: String,
    variable: Option<&'static str>,
}

impl Chosen {
    fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        parse(&self.value).map_err(|error| match (error, self.variable) {
            (Error::InvalidArgument(mut argument), Some(variable)) => {
                let _ = write!(argument.problem, " (it comes from the variable {variable})");
                argument.into()
            }
            (error, _) => error,
        })
    }
}

const fn storage(choice: StoreChoice) -> Storage {
    match choice {
        StoreChoice::Auto => Storage::Auto,
        StoreChoice::Platform => Storage::Platform,
        StoreChoice::Plaintext => Storage::Plaintext,
        StoreChoice::Vault => Storage::Vault,
    }
}

fn storage_named(name: &str) -> Result<Storage> {
    StoreChoice::from_str(name, true).map(storage).map_err(|_| {
        InvalidArgument::new(
            "store",
            format!("{name:?} is none that this version knows"),
            "choose one of auto, platform, vault, plaintext",
        )
        .into()
    })
}

const fn store_name(choice: StoreChoice) -> &'static str {
    match choice {
        StoreChoice::Auto => "auto",
        StoreChoice::Platform => "platform",
        StoreChoice::Plaintext => "plaintext",
        StoreChoice::Vault => "vault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::below("/home/someone")
    }

    fn settings(given: &GlobalOptions, environment: &[(&str, &str)]) -> Result<Settings> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::new(given, variable, places(), Output::new(false, true, true))
    }

    const ENVIRONMENT: &[(&str, &str)] = &[
        ("AZURE_AUTHORITY_HOST", "login.microsoftonline.us"),
        ("AZURE_CLIENT_ID", "a service principal's, never ours"),
        ("AZURE_TENANT_ID", "of-environment"),
        ("TOKENKEEP_CACHE", "environment.cache"),
        ("TOKENKEEP_CLIENT_ID", "environment-client"),
        ("TOKENKEEP_STORE", "plaintext"),
    ];

    #[test]
    fn an_option_beats_the_environment_and_that_the_default() {
        let by_default = settings(&GlobalOptions::default(), &[]).unwrap();
        assert_eq!(by_default.authority, Authority::public());
        assert_eq!(by_default.cache, TokenCachePersistenceOptions::default());
        assert_eq!(by_default.client_id(), DEVELOPER_SIGN_ON_CLIENT_ID);
        assert_eq!(by_default.tenant, None);

        let by_environment = settings(&GlobalOptions::default(), ENVIRONMENT).unwrap();
        assert_eq!(by_environment.authority.host(), "login.microsoftonline.us");
        assert!(!by_environment.authority_is_explicit);
        assert_eq!(by_environment.cache.name.as_str(), "environment.cache");
        assert_eq!(by_environment.cache.storage, Storage::Plaintext);
        assert_eq!(by_environment.client_id(), "environment-client");
        assert_eq!(by_environment.tenant.unwrap().as_str(), "of-environment");

        let given = GlobalOptions {
            authority: Some("login.partner.microsoftonline.cn".into()),
            cache: Some("given.cache".into()),
            client_id: Some("given-client".into()),
            store: Some(StoreChoice::Platform),
            tenant: Some("given".into()),
            ..GlobalOptions::default()
        };
        let by_option = settings(&given, ENVIRONMENT).unwrap();
        assert_eq!(by_option.authority.host(), "login.partner.microsoftonline.cn");
        assert!(by_option.authority_is_explicit);
        assert_eq!(by_option.cache.name.as_str(), "given.cache");
        assert_eq!(by_option.cache.storage, Storage::Platform);
        assert_eq!(by_option.client_id(), "given-client");
        assert_eq!(by_option.tenant.unwrap().as_str(), "given");
    }

    #[test]
    fn no_store_but_plaintext_opens_plaintext() {
        for store in [StoreChoice::Auto, StoreChoice::Platform, StoreChoice::Vault, StoreChoice::Plaintext] {
            let given = GlobalOptions { store: Some(store), ..GlobalOptions::default() };
            let cache = settings(&given, &[]).unwrap().cache;
            assert!(!cache.allow_unencrypted_storage);
            assert_eq!(cache.storage == Storage::Plaintext, store == StoreChoice::Plaintext);
        }
    }

    #[test]
    fn a_bad_value_is_named_with_the_variable_it_comes_from() {
        for (name, value) in [
            ("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com"),
            ("AZURE_TENANT_ID", "a/b"),
            ("TOKENKEEP_CACHE", "../elsewhere"),
            ("TOKENKEEP_CLIENT_ID", "two words"),
            ("TOKENKEEP_STORE", "elsewhere"),
        ] {
            let error = settings(&GlobalOptions::default(), &[(name, value)]).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let given = GlobalOptions { tenant: Some(String::new()), ..GlobalOptions::default() };
        let error = settings(&given, ENVIRONMENT).unwrap_err().to_string();
        assert!(error.contains("tenant") && !error.contains("variable"), "{error}");
    }

    #[test]
    fn scopes_default_to_what_the_cloud_manages() {
        let default = Settings::scopes(&[], &Authority::public()).unwrap();
        assert_eq!(default.to_string(), "https://management.core.windows.net//.default");
        let elsewhere = Authority::parse("adfs.contoso.example").unwrap();
        Settings::scopes(&[], &elsewhere).unwrap_err();
        assert_eq!(Settings::scopes(&["a".into()], &elsewhere).unwrap().to_string(), "a");
    }

    #[test]
    fn the_next_command_repeats_what_this_one_was_given() {
        let given = GlobalOptions {
            cache: Some("it's mine".into()),
            store: Some(StoreChoice::Plaintext),
            disable_instance_discovery: true,
            json: true,
            ..GlobalOptions::default()
        };
        assert_eq!(
            given.to_repeat(),
            [r"--cache 'it'\''s mine'", "--store plaintext", "--disable-instance-discovery"]
        );
        assert_eq!(given.words(), ["--cache=it's mine", "--store=plaintext", "--disable-instance-discovery"]);
        assert!(GlobalOptions::default().to_repeat().is_empty());
    }
}
