//! `tokenkeep agent`: one engine for all processes of a user, in the foreground or behind.

mod status;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::arguments::{Agent, AgentCommand};
use super::failure::Failure;
use super::output::{FAINT, Output, STRONG};
use super::settings::Settings;
use super::state::DefaultAccounts;
use super::{runtime, via_agent};
use crate::agent::{self, BoundSocket, SocketError, Surroundings};
use crate::agent_client::protocol::Hello;
use crate::agent_client::{AgentClient, CallError, socket_path};
use crate::error::{CacheError, Error, Unavailable};
use crate::options::TokenCachePersistenceOptions;
use crate::store::vault::Unattended;
use crate::time::SystemClock;

pub(super) fn run(arguments: &Agent, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        None => serve(arguments.detached, settings, output),
        Some(AgentCommand::Start) => start(settings, output),
        Some(AgentCommand::Stop) => stop(settings, output),
        Some(AgentCommand::Status { watch }) => status::run(*watch, settings, output),
    }
}

/// Serves in this process until it is ended.
fn serve(detached: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    if detached {
        // Whoever started it leads another session; a group's leader cannot leave, and need not.
        rustix::process::setsid().ok();
    }
    let path = socket_path(&settings.places.state);
    let socket = BoundSocket::open(&path)?;
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock),
        defaults: Arc::new(Defaults(unattended(settings))),
        places: settings.places.clone(),
    };
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
            output.remark(&format!("{FAINT}listening at{FAINT:#} {}", path.display())).ok();
        }
    };
    let served = runtime.block_on(agent::serve(&socket, surroundings, ready));
    // What is being written is written.
    drop(runtime);
    served.map_err(Failure::file("listening at", path))
}

/// The settings where nobody is to be asked for a passphrase.
fn unattended(settings: &Settings) -> Settings {
    settings.with_unlocking(Arc::new(Unattended::of_environment(&settings.places)))
}

/// From now on nobody reads what this process would say.
fn leave_output() -> io::Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

fn start(settings: &Settings, output: Output) -> Result<(), Failure> {
    let client = via_agent::of_user(settings);
    if let Some(hello) = hello(&client)? {
        return report(&client, Some(&hello), false, output);
    }
    let program = std::env::current_exe().map_err(Failure::file("finding", "this program"))?;
    let mut child = Command::new(&program)
        .args(["agent", "--detached", "--json"])
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
    if hello(&client)?.is_none() {
        return report(&client, None, false, output);
    }
    runtime::wait_for(client.shut_down())?;
    let mut lock = client.socket().as_os_str().to_owned();
    lock.push(".lock");
    // It holds this file until it is gone, and has saved everything by then.
    if let Ok(file) = File::open(&lock) {
        file.lock().map_err(Failure::file("waiting for", lock))?;
    }
    report(&client, None, true, output)
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
            SocketError::Io { .. } | SocketError::NoListener { .. } => "agent_socket",
        };
        Self::Agent { kind, problem: error.to_string(), hint: Some(error.hint()) }
    }
}
