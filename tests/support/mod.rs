//! What tests stand on: a home of one's own, an emulated provider, the real programs.

mod agent;
mod clients;
mod conversation;
mod doors;
mod keyring;
mod listening;
mod manager;
mod memory;
mod person;
mod private_network;
mod run;
mod traced;
mod waiting;

#[path = "../programs/src/fake_sign_in.rs"]
mod fake_sign_in;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use emulator::{Config, Emulator};
use tempfile::TempDir;
use tokenkeep::credential::{CredentialOptions, DeviceCodePrompt, Interaction};
use tokenkeep::store::{Places, Store};
use tokenkeep::{Authority, CacheName, Scopes, Storage, TokenCachePersistenceOptions, TokenRequest};

pub(crate) use self::agent::{Agent, Reply as AgentReply, parse_reply, post, read_reply, talk};
pub(crate) use self::clients::{
    Held, PythonReader, azure_cli, keyring_ctl, node, python, python_with_portalocker, repository,
};
pub(crate) use self::conversation::{Answer, converse, converse_openly};
pub(crate) use self::doors::{Reply, Served, first_line};
pub(crate) use self::fake_sign_in::{fake_sign_in, scope_of};
pub(crate) use self::manager::Manager;
pub(crate) use self::memory::{found_in, names, secrets_of};
pub(crate) use self::person::{Person, browse, follow, on_a_terminal, wait_for_file};
pub(crate) use self::private_network::PrivateNetwork;
pub(crate) use self::run::{Run, run};
pub(crate) use self::traced::{Stopped, Trace, through, touching};
pub(crate) use self::waiting::{found, until};

pub(crate) const SCOPE: &str = "https://management.azure.com/.default";
pub(crate) const GRAPH: &str = "https://graph.microsoft.com/User.Read";

/// A person's home folder, a provider of its own, and the way to run `tokenkeep` in them.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) cache: String,
    home: TempDir,
    store: &'static str,
}

impl World {
    /// A world whose caches are plaintext files.
    pub(crate) fn plaintext() -> Self {
        Self::with("plaintext")
    }

    /// A world whose caches are items of the keyring; each has a cache name of its own.
    pub(crate) fn keyring() -> Self {
        assert_eq!(
            std::env::var("TOKENKEEP_TEST_KEYRING").as_deref(),
            Ok("unlocked"),
            "this test needs a keyring: run scripts/test"
        );
        Self::with("platform")
    }

    /// A world whose user has no vault yet, but will keep caches in one.
    pub(crate) fn vault() -> Self {
        Self::with("vault")
    }

    fn with(store: &'static str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let emulator = Emulator::bind(Config::default()).unwrap();
        emulator.set(|settings| settings.device_code_interval = 1);
        Self {
            emulator,
            cache: format!("test-{}-{number}", std::process::id()),
            home: tempfile::tempdir().unwrap(),
            store,
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder of files about running processes.
    pub(crate) fn running(&self) -> PathBuf {
        self.places().running()
    }

    /// The plaintext cache's file, or the signal file beside the keyring's item.
    pub(crate) fn cache_file(&self) -> PathBuf {
        self.folder().join(format!("{}.nocae", self.cache))
    }

    /// The folder of the cache and its locks.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home().join(".IdentityService")
    }

    /// The lock file that all but Java take.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.folder().join(format!("{}.nocae.lockfile", self.cache))
    }

    /// The lock file that Java takes for all caches of the folder.
    pub(crate) fn folder_lock_file(&self) -> PathBuf {
        self.folder().join(".lockfile")
    }

    /// The one file beside the plaintext cache that a kill may leave behind.
    pub(crate) fn temporary_file(&self) -> PathBuf {
        self.folder().join(format!(".{}.nocae.tokenkeep-tmp", self.cache))
    }

    /// The names of all files beside the cache, and its own.
    pub(crate) fn file_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// The content of the plaintext cache.
    pub(crate) fn document(&self) -> serde_json::Value {
        let bytes = std::fs::read(self.cache_file()).unwrap_or_else(|_| b"{}".to_vec());
        serde_json::from_slice(&bytes).unwrap()
    }

    /// `tokenkeep ARGS`, with nothing of this machine's user in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tokenkeep_in(self.home());
        command
            .args(args)
            .arg("--disable-instance-discovery")
            .env("AZURE_AUTHORITY_HOST", self.emulator.authority())
            .env("SSL_CERT_FILE", self.emulator.ca_path())
            .env("TOKENKEEP_CACHE", &self.cache)
            .env("TOKENKEEP_STORE", self.store);
        if self.store != "platform" {
            // the keyring that tests share has other tests' users, under the same names
            command.env("DBUS_SESSION_BUS_ADDRESS", NO_BUS);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }

    /// Signs in by device code as the user, who approves at once.
    pub(crate) fn login(&self, user: &str, args: &[&str]) -> Run {
        self.emulator.approve(user);
        let login = ["login", "--device-code", "--scope", SCOPE];
        self.run(&[&login[..], args].concat()).ok()
    }

    /// The options of a credential in this world.
    pub(crate) fn options(&self) -> CredentialOptions {
        CredentialOptions::default()
            .authority(Authority::parse(&self.emulator.authority()).unwrap())
            .disable_instance_discovery(true)
            .root_certificates(self.emulator.ca_pem().as_bytes())
            .cache_persistence_options_in(self.persistence(), self.places())
    }

    pub(crate) fn persistence(&self) -> TokenCachePersistenceOptions {
        let storage = match self.store {
            "plaintext" => Storage::Plaintext,
            "vault" => Storage::Vault,
            _ => Storage::Platform,
        };
        TokenCachePersistenceOptions::default()
            .name(CacheName::new(self.cache.clone()).unwrap())
            .storage(storage)
    }

    pub(crate) fn places(&self) -> Places {
        Places::below(self.home())
    }

    /// The cache itself, as this process sees it.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        tokenkeep::store::open(&self.persistence(), false, &self.places()).unwrap()
    }

    /// The scopes of the access tokens in the cache, sorted.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let document = self.store().load().unwrap().document;
        let document: serde_json::Value = serde_json::from_slice(&document.to_bytes()).unwrap();
        let tokens = document["AccessToken"].as_object().into_iter().flatten();
        let mut scopes: Vec<_> =
            tokens.map(|(_, token)| token["target"].as_str().unwrap().to_owned()).collect();
        scopes.sort_unstable();
        scopes
    }

    /// Another process that adds sign-ins, numbered from 0, and prints each number once it is stored.
    pub(crate) fn cache_writer(&self, writer: &str, count: usize) -> Command {
        let mut command = in_home(&built("cache-writer"), self.home());
        command.arg(self.home()).args([&self.cache, self.store, writer, &count.to_string()]);
        command
    }
}

/// Where no bus is, and so no keyring and no logind.
pub(crate) const NO_BUS: &str = "unix:path=/nonexistent";

/// `tokenkeep` for the owner of this home folder.
pub(crate) fn tokenkeep_in(home: &Path) -> Command {
    in_home(Path::new(env!("CARGO_BIN_EXE_tokenkeep")), home)
}

/// A program for the owner of this home folder, with nothing of this machine's user.
pub(crate) fn in_home(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(bus) = std::env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    }
    // this machine may sleep, and lock its screen
    command.env("DBUS_SYSTEM_BUS_ADDRESS", NO_BUS);
    command
}

/// A program of another package, built beside the tests; `cargo test --workspace` and `scripts/test`
/// see to that.
pub(crate) fn built(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_tokenkeep")).with_file_name(name);
    assert!(program.exists(), "build {name} first: cargo build --workspace --bins");
    program
}

/// Shows nothing: the emulator approves without being asked.
#[derive(Debug)]
pub(crate) struct Quiet;

impl Interaction for Quiet {
    fn show_device_code(&self, _prompt: &DeviceCodePrompt) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn request(scope: &str) -> TokenRequest {
    TokenRequest::new(Scopes::new([scope]).unwrap())
}

/// How often to repeat something that a full run repeats `whole` times.
pub(crate) fn proofs(whole: usize) -> usize {
    let share: usize = std::env::var("PROOFS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    (whole / share.max(1)).max(1)
}

/// Leaves a line with counts that `scripts/test` shows at its end.
pub(crate) fn report(name: &str, line: &str) {
    if let Some(folder) = std::env::var_os("PROOFS_REPORT") {
        std::fs::write(Path::new(&folder).join(name), format!("{line}\n")).unwrap();
    }
}
