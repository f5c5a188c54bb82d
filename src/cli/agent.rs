//! `tokenkeep agent`: one engine for all processes of a user, in the foreground or behind.

mod consent;
#[cfg(windows)]
mod keeping;
mod locking;
#[cfg(not(any(target_os = "macos", windows)))]
mod manager;
mod service;
mod status;

use std::ffi::OsString;
#[cfg(unix)]
use std::fs::File;
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{Agent, AgentCommand, LockOptions};
use super::failure::Failure;
#[cfg(unix)]
use super::output;
use super::output::{FAINT, Output, STRONG};
use super::settings::Settings;
use super::state::DefaultAccounts;
use super::{runtime, via_agent};
use crate::agent::{
    self, BoundSocket, Chosen, Ended, Given, Legacy, LockAfter, LockOn, SocketError, Surroundings,
};
use crate::agent_client::protocol::{Hello, LockReason};
use crate::agent_client::{AgentClient, CallError, socket_path};
use crate::error::{CacheError, Error, Unavailable};
use crate::options::TokenCachePersistenceOptions;
use crate::process::{self, NotBegun, ending};
use crate::store::vault::Unattended;
use crate::time::{self, Clock as _, SystemClock};

/// The option by which an agent tells the one that takes its place where the socket is.
const LEGACY: &str = "--legacy=";

/// What an agent that was locked leaves to the one that takes its place.
#[derive(Deserialize, Serialize)]
struct Left {
    socket: Legacy,
    locked_because: LockReason,
    /// When it locked by itself, for one that cannot read that anew.
    #[serde(default)]
    locks: (LockAfter, LockOn),
}

/// How often somebody who waits for the end of an agent looks.
#[cfg(windows)]
const AGAIN: Duration = Duration::from_millis(20);

/// How long a lock waits for what blocks. Clients wait with it.
const FAREWELL_OF_A_LOCK: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Agent, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        None => serve(arguments, settings, output),
        Some(AgentCommand::Start { lock }) => start(lock, settings, output),
        Some(AgentCommand::Stop) => stop(settings, output),
        Some(AgentCommand::Install(options)) => service::install(options, settings, output),
        Some(AgentCommand::Uninstall { force }) => service::uninstall(*force, settings, output),
        Some(AgentCommand::Status { watch }) => status::run(*watch, settings, output),
        Some(AgentCommand::Lock) => locking::lock(settings, output),
        Some(AgentCommand::Unlock) => locking::unlock(settings, output),
        Some(AgentCommand::Consent { follow, command }) => {
            consent::run(*follow, command.as_ref(), settings, output)
        }
    }
}

/// Serves in this process until it is ended.
fn serve(arguments: &Agent, settings: &Settings, output: Output) -> Result<(), Failure> {
    #[cfg(unix)]
    if arguments.detached {
        // Whoever started it leads another session; a group's leader cannot leave, and need not.
        rustix::process::setsid().ok();
    }
    let left = arguments.legacy.as_deref().map(read_legacy).transpose()?;
    let chosen = chosen(&arguments.lock, settings, left.as_ref())?;
    #[cfg(windows)]
    if !arguments.kept {
        return keeping::keep(&socket_path(&settings.places.state), arguments.detached, output);
    }
    let socket = match &left {
        Some(left) => {
            process::name_anew(env!("CARGO_PKG_NAME"));
            BoundSocket::inherit(&left.socket)?
        }
        None => BoundSocket::open(&socket_path(&settings.places.state))?,
    };
    process::harden();
    ending::remember().map_err(Failure::file("listening for", "signals"))?;
    let surroundings = Surroundings {
        cache: settings.cache.clone(),
        chosen: Arc::new(chosen),
        clock: Arc::new(SystemClock),
        defaults: Arc::new(Defaults(unattended(settings))),
        places: settings.places.clone(),
    };
    let mut locked_because = left.map(|left| left.locked_because);
    loop {
        let ended = serve_once(&socket, surroundings.clone(), locked_because, arguments.detached, output)?;
        let (because, _suspend) = match ended {
            Ended::Locked { because, suspend } => (because, suspend),
            Ended::Stopped => break,
        };
        // What libraries copied and freed goes only with the whole memory.
        match begin_anew(&socket, because, surroundings.chosen.locks()) {
            NotBegun::Ending => break,
            NotBegun::Failed(error) => {
                tracing::warn!(%error, "locked, but not begun anew: freed memory may still hold copies");
            }
        }
        locked_because = Some(because);
    }
    Ok(())
}

fn serve_once(
    socket: &BoundSocket,
    surroundings: Surroundings,
    locked_because: Option<LockReason>,
    detached: bool,
    output: Output,
) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Stores block, and a keyring may do so for seconds.
        .max_blocking_threads(16)
        .build()
        .map_err(Failure::file("starting", "the runtime"))?;
    let ready = || {
        if detached {
            // The one who waits for us sees the end of the pipe.
            leave_output().ok();
        } else {
            let state = if locked_because.is_some() { "locked, listening at" } else { "listening at" };
            output.remark(&format!("{FAINT}{state}{FAINT:#} {}", socket.path().display())).ok();
        }
    };
    let ended = runtime.block_on(agent::serve(socket, surroundings, locked_because, ready));
    match ended {
        // What providers owed is saved. A keyring that hangs does not keep secrets in memory.
        Ok(Ended::Locked { .. }) => runtime.shutdown_timeout(FAREWELL_OF_A_LOCK),
        // What is being written is written.
        Ok(Ended::Stopped) | Err(_) => drop(runtime),
    }
    ended.map_err(Failure::file("listening at", socket.path()))
}

fn begin_anew(socket: &BoundSocket, locked_because: LockReason, locks: (LockAfter, LockOn)) -> NotBegun {
    let left = socket.bequeath().map(|socket| Left { socket, locked_because, locks });
    let legacy = left.and_then(|left| Ok(serde_json::to_string(&left)?));
    let legacy = match legacy {
        Ok(legacy) => OsString::from(format!("{LEGACY}{legacy}")),
        Err(error) => return NotBegun::Failed(error),
    };
    let is_older = |argument: &OsString| argument.as_encoded_bytes().starts_with(LEGACY.as_bytes());
    let given = std::env::args_os().skip(1).filter(|argument| !is_older(argument));
    process::begin_anew(given.chain([legacy]))
}

fn read_legacy(text: &str) -> Result<Left, Failure> {
    serde_json::from_str(text).map_err(|_| Failure::usage("--legacy is for the agent itself", "leave it out"))
}

/// What the file says, and the options over it.
fn chosen(lock: &LockOptions, settings: &Settings, left: Option<&Left>) -> Result<Chosen, Failure> {
    let (file, given, now) = (settings.config_file.clone(), given(lock)?, SystemClock.now());
    match (file.read(), left) {
        (Ok(config), _) => Ok(Chosen::new(file, given, config, now)),
        // One that was locked and goes away would leave its clients to go round the lock.
        (Err(error), Some(left)) => {
            tracing::error!(%error, "nobody gets a token until that is corrected");
            Ok(Chosen::unusable(file, given, left.locks, &error, now))
        }
        (Err(error), None) => Err(error.into()),
    }
}

fn given(lock: &LockOptions) -> Result<Given, Failure> {
    let limit = |option: &Option<String>| option.as_deref().map(time::length).transpose();
    Ok(Given {
        lock_after: LockAfter { idle: limit(&lock.lock_after_idle)?, whole: limit(&lock.lock_after)? },
        lock_on: LockOn { session_lock: !lock.no_lock_on_session_lock, suspend: !lock.no_lock_on_suspend },
    })
}

/// What an agent would say to these options and to the file.
fn check(lock: &LockOptions, settings: &Settings) -> Result<(), Failure> {
    chosen(lock, settings, None).map(drop)
}

/// The settings where nobody is to be asked for a passphrase.
fn unattended(settings: &Settings) -> Settings {
    settings.with_unlocking(Arc::new(Unattended::of_environment(&settings.places)))
}

/// From now on nobody reads what this process would say.
#[cfg(unix)]
fn leave_output() -> io::Result<()> {
    output::close_stdout()
}

/// The process that keeps this one leaves it.
#[cfg(windows)]
fn leave_output() -> io::Result<()> {
    io::Write::write_all(&mut io::stdout(), format!("{}\n", process::READY).as_bytes())
}

fn start(lock: &LockOptions, settings: &Settings, output: Output) -> Result<(), Failure> {
    // What the agent would say of it goes to nobody's terminal.
    check(lock, settings)?;
    let client = via_agent::of_user(settings);
    if let Some(hello) = hello(&client)? {
        return report(&client, Some(&hello), false, output);
    }
    #[cfg(not(any(target_os = "macos", windows)))]
    if manager::start(lock, settings)? {
        return report(&client, hello(&client)?.as_ref(), true, output);
    }
    let program = std::env::current_exe().map_err(Failure::file("finding", "this program"))?;
    let mut command = Command::new(&program);
    leave_the_terminal(&mut command);
    let mut child = command
        .args(["agent", "--detached", "--json"])
        .args(lock.words())
        .args(&settings.given)
        .envs(service::files_of_environment())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Failure::file("starting", program))?;
    let mut told = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut told).map_err(Failure::file("waiting for", "the agent"))?;
    }
    match hello(&client)? {
        Some(hello) => report(&client, Some(&hello), true, output),
        None => Err(of_child(&told)),
    }
}

/// It does so by itself, once it is another program.
#[cfg(unix)]
const fn leave_the_terminal(_agent: &mut Command) {}

/// It has no console, and holds nothing open that somebody reads to its end.
#[cfg(windows)]
fn leave_the_terminal(agent: &mut Command) {
    std::os::windows::process::CommandExt::creation_flags(agent, process::DETACHED);
    process::keep_standard_handles();
}

/// What a child that did not get ready said.
fn of_child(told: &str) -> Failure {
    let told: Value = serde_json::from_str(told).unwrap_or_default();
    let text = |name: &str| told["error"][name].as_str().map(str::to_owned);
    Failure::Agent {
        kind: "agent_not_started",
        problem: text("message").unwrap_or_else(|| "the agent ended before it was ready".to_owned()),
        hint: text("hint").or_else(|| Some("see why in the foreground: tokenkeep agent -v".to_owned())),
    }
}

fn stop(settings: &Settings, output: Output) -> Result<(), Failure> {
    let client = via_agent::of_user(settings);
    #[cfg(not(any(target_os = "macos", windows)))]
    let was_service = manager::stop(settings)?;
    #[cfg(any(target_os = "macos", windows))]
    let was_service = false;
    if hello(&client)?.is_none() {
        return report(&client, None, was_service, output);
    }
    runtime::wait_for(client.shut_down())?;
    wait_for_its_end(&client)?;
    report(&client, None, true, output)
}

/// It holds a file until it is gone, and has saved everything by then.
#[cfg(unix)]
fn wait_for_its_end(client: &AgentClient) -> Result<(), Failure> {
    let mut lock = client.socket().as_os_str().to_owned();
    lock.push(".lock");
    match File::open(&lock) {
        Ok(file) => file.lock().map_err(Failure::file("waiting for", lock)),
        Err(_) => Ok(()),
    }
}

/// Its pipe is there until it is gone, and it has saved everything by then.
#[cfg(windows)]
fn wait_for_its_end(client: &AgentClient) -> Result<(), Failure> {
    runtime::wait_for(async {
        while client.is_there().is_ok_and(|is_there| is_there) {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    })
}

/// Who is there; `None` if nobody is.
fn hello(client: &AgentClient) -> Result<Option<Hello>, Failure> {
    if !client.is_there().map_err(|error| unreachable(&error))? {
        return Ok(None);
    }
    match runtime::finish(client.ask_hello())? {
        Ok(hello) => Ok(Some(hello)),
        Err(crate::agent_client::AskError::Call(CallError::Absent { .. })) => Ok(None),
        Err(error) => Err(Failure::Library(error.into())),
    }
}

/// The agent, which has to be there.
fn present(settings: &Settings) -> Result<AgentClient, Failure> {
    let client = via_agent::of_user(settings);
    if client.is_there().map_err(|error| unreachable(&error))? {
        return Ok(client);
    }
    Err(unreachable(&CallError::Absent { path: client.socket().to_owned() }))
}

fn unreachable(error: &CallError) -> Failure {
    Failure::Agent { kind: "agent_unreachable", problem: error.to_string(), hint: Some(error.hint()) }
}

fn report(client: &AgentClient, hello: Option<&Hello>, changed: bool, output: Output) -> Result<(), Failure> {
    let socket = client.socket().display();
    if output.is_json() {
        return output.json(&json!({
            "version": 1,
            "running": hello.is_some(),
            "changed": changed,
            "pid": hello.map(|hello| hello.pid),
            "socket": client.socket(),
        }));
    }
    output.remark(&match (hello, changed) {
        (Some(hello), true) => {
            format!("{STRONG}The agent runs{STRONG:#} (process {}) at {socket}", hello.pid)
        }
        (Some(hello), false) => format!("The agent runs already (process {}) at {socket}", hello.pid),
        (None, true) => "The agent has ended".to_owned(),
        (None, false) => format!("No agent runs at {socket}"),
    })
}

/// The default accounts of the user whose agent this is.
#[derive(Debug)]
struct Defaults(Settings);

impl agent::DefaultAccounts for Defaults {
    fn default_account(
        &self,
        cache: &TokenCachePersistenceOptions,
        host: &str,
    ) -> Result<Option<String>, Error> {
        let found = DefaultAccounts::of(&self.0.with_cache(cache)).and_then(|defaults| defaults.get(host));
        found.map_err(|failure| match failure {
            Failure::Library(error) => error,
            Failure::File { action, path, source } => CacheError::io(action, path)(source).into(),
            other => Unavailable::Other {
                credential: "the default account",
                problem: other.to_string(),
                hint: "choose it again: tokenkeep accounts default HINT".to_owned(),
            }
            .into(),
        })
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let kind = match &error {
            SocketError::AlreadyRunning { .. } => "agent_already_running",
            SocketError::Taken { .. } => "agent_socket_taken",
            SocketError::Place(_) => "agent_socket_unsafe",
            #[cfg(unix)]
            SocketError::NoListener { .. } => "agent_socket",
            SocketError::Io { .. } => "agent_socket",
        };
        Self::Agent { kind, problem: error.to_string(), hint: Some(error.hint()) }
    }
}
