//! A user with a cache and a pipe of their own. The home folder is the one that the system names.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use tokenkeep::agent_client::AgentClient;
use tokenkeep::store::{self, Places};
use tokenkeep::time::Deadline;
use tokenkeep::{CacheName, Storage, TokenCachePersistenceOptions};

use crate::fake_sign_in::{fake_sign_in, scope_of};
use crate::listening::listening;
use crate::run::{Run, run};

/// Who is signed in.
const USER: &str = "one";

/// What the user's token is good for.
pub(crate) fn scope() -> String {
    scope_of(USER, 0)
}

pub(crate) struct World {
    pub(crate) pipe: String,
    cache: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let name = format!("tokenkeep-test-{}", uuid::Uuid::new_v4());
        Self { pipe: format!(r"\\.\pipe\{name}"), cache: name }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command
            .args(args)
            .env("TOKENKEEP_CACHE", &self.cache)
            .env("TOKENKEEP_SOCK", &self.pipe)
            .env("TOKENKEEP_STORE", "plaintext");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }

    /// Keeps what `user` would have got by signing in.
    pub(crate) fn sign_in(&self) {
        let store = store::open(&self.persistence(), false, &Places::of_current_user().unwrap()).unwrap();
        store.apply(&fake_sign_in(USER, 0), Deadline::within(Duration::from_secs(10))).unwrap();
    }

    /// The token that a process of its own gets, and where it has it from.
    pub(crate) fn token(&self) -> (String, String) {
        let answer = self.run(&["token", "--scope", &scope(), "--json"]).ok().json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("token"), text("source"))
    }

    /// The agent's client of a program.
    pub(crate) fn client(&self) -> AgentClient {
        AgentClient::at(&self.pipe).cache_persistence_options(&self.persistence())
    }

    fn persistence(&self) -> TokenCachePersistenceOptions {
        TokenCachePersistenceOptions::default()
            .name(CacheName::new(self.cache.clone()).unwrap())
            .storage(Storage::Plaintext)
    }

    fn cache_file(&self) -> PathBuf {
        let home = Places::of_current_user().unwrap().home;
        home.join(".IdentityService").join(format!("{}.nocae", self.cache))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_file(self.cache_file()).ok();
    }
}

/// `tokenkeep agent` in the foreground; killed when dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    /// Read to its end, so that the agent never writes into a closed pipe.
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Agent {
    /// Starts one, and waits until it says that it listens.
    pub(crate) fn of(world: &World) -> Self {
        let mut command = world.command(&["agent", "-v"]);
        let (child, stderr) = listening(&mut command);
        Self { child, stderr: Some(stderr) }
    }

    /// What the agent said until it ended, in all its processes.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
