//! A network in which this machine is Microsoft's sign-in service, so that clients run with their
//! defaults.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::clients::repository;
use super::keyring::OwnKeyring;
use super::run::{Run, run};
use super::{NO_BUS, built, tokenkeep_in};

/// An emulator on 127.0.0.1:443 in a network of its own, a home folder, and a cache name.
pub(crate) struct PrivateNetwork {
    emulator: Child,
    folder: TempDir,
    pub(crate) cache: String,
    store: &'static str,
    /// What clears up after a dead grant looks into every cache of a keyring, and users have the same
    /// names in each network: so no two share one.
    keyring: Option<OwnKeyring>,
}

impl PrivateNetwork {
    /// A network whose user keeps caches in a keyring.
    pub(crate) fn with_keyring(cache: &str) -> Self {
        Self::start(&unique(cache), "platform", Some(OwnKeyring::start()))
    }

    /// A network whose user keeps caches in plaintext files, and has no keyring at all.
    pub(crate) fn with_plaintext(cache: &str) -> Self {
        Self::start(&unique(cache), "plaintext", None)
    }

    /// The same with caches of their default names.
    pub(crate) fn with_default_names() -> Self {
        Self::start("msal.cache", "platform", Some(OwnKeyring::start()))
    }

    fn start(cache: &str, store: &'static str, keyring: Option<OwnKeyring>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let mut emulator = Command::new(repository().join("tests/support/netns"))
            .arg("--")
            .arg(built("emulator"))
            .args(["--port", "443", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(emulator.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready"), "the emulator did not start: {ready}");
        Self { emulator, folder, cache: cache.to_owned(), store, keyring }
    }

    pub(crate) fn home(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The file of the cache for requests without continuous access evaluation.
    pub(crate) fn cache_file(&self) -> std::path::PathBuf {
        self.home().join(".IdentityService").join(format!("{}.nocae", self.cache))
    }

    /// The user's keyring.
    pub(crate) fn keyring(&self) -> &OwnKeyring {
        self.keyring.as_ref().unwrap()
    }

    /// Runs a program inside.
    pub(crate) fn inside(&self, command: &Command) -> Run {
        run(&mut self.command_inside(command))
    }

    /// The command that runs a program inside.
    pub(crate) fn command_inside(&self, command: &Command) -> Command {
        let mut inside = Command::new(repository().join("tests/support/netns"));
        inside.args(["-p", &self.emulator.id().to_string(), "--"]);
        inside.arg(command.get_program()).args(command.get_args()).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            inside.env("PATH", path);
        }
        let ca = self.folder.path().join("ca.pem");
        inside
            .env("HOME", self.home())
            .env("SSL_CERT_FILE", &ca)
            .env("REQUESTS_CA_BUNDLE", &ca)
            .env("NODE_EXTRA_CA_CERTS", &ca);
        // Without one, the clients fall back to the file as well.
        let bus = self.keyring.as_ref().map_or(NO_BUS, |keyring| &keyring.bus);
        inside.env("DBUS_SESSION_BUS_ADDRESS", bus);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        inside
    }

    pub(crate) fn tokenkeep(&self, args: &[&str]) -> Run {
        run(&mut self.tokenkeep_command(args))
    }

    /// The command that runs `tokenkeep` inside.
    pub(crate) fn tokenkeep_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(tokenkeep_in(Path::new("/")).get_program());
        command.args(args).env("TOKENKEEP_CACHE", &self.cache).env("TOKENKEEP_STORE", self.store);
        self.command_inside(&command)
    }

    /// A client of `tests/clients`, which gets the name of the cache.
    pub(crate) fn client(&self, mut command: Command, args: &[&str]) -> Run {
        command.args(args).args(["--cache", &self.cache]);
        if self.store == "plaintext" {
            command.arg("--plaintext");
        }
        self.inside(&command)
    }

    /// Posts to the emulator's control, or gets from it if there is no body.
    pub(crate) fn control(&self, request: &str, body: Option<Value>) -> Value {
        let mut command = Command::new(built("emulator"));
        command.args(["ctl", "--dir"]).arg(self.folder.path()).arg(request);
        command.args(body.map(|body| body.to_string()));
        self.inside(&command).ok().json()
    }

    /// How many requests of a kind the provider got since the last reset; `""` counts all.
    pub(crate) fn requests(&self, kind: &str) -> usize {
        let request = if kind.is_empty() { "log".to_owned() } else { format!("log?kind={kind}") };
        self.control(&request, None)["log"].as_array().unwrap().len()
    }

    pub(crate) fn forget_requests(&self) {
        self.control("reset-log", Some(serde_json::json!({})));
    }

    /// The user approves the next device login.
    pub(crate) fn approve(&self, user: &str) {
        self.control("approve", Some(serde_json::json!({ "user": user })));
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        drop(self.emulator.kill());
        drop(self.emulator.wait());
    }
}

fn unique(cache: &str) -> String {
    format!("{cache}-{}", std::process::id())
}
