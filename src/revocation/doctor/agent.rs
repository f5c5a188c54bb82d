//! The user's agent: whether one is there, and whether it is one that our programs would ask.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::catalogue as sign;
use super::repair::{Repair, Work};
use super::{ExaminationOptions, Finding};
use crate::agent_client::protocol::{self, ConfigStatus, Hello, State};
use crate::agent_client::{AgentClient, AskError, CallError, socket_path};

/// It answers this without any work; who takes so long answers nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program and its version, as an agent of ours calls itself.
const OURS: &str = concat!("tokenkeep/", env!("CARGO_PKG_VERSION"));

const START: &str = "tokenkeep agent start";

/// The user's agent, seen from outside.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AgentSurvey {
    /// Where our programs look for it.
    pub socket: PathBuf,
    /// How it is.
    pub state: AgentState,
    /// By which file of the user's choices it goes, if it tells.
    pub config: Option<ConfigStatus>,
}

/// How an agent is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum AgentState {
    /// There is none.
    #[default]
    Absent,
    /// It answers, locked or not.
    Answers(Hello),
    /// `TOKENKEEP_NO_AGENT` leaves it out, so it was not looked at.
    LeftOut,
    /// The socket is there, and nobody listens: an agent was killed.
    LeftOver,
    /// Our programs do not use the socket, because of where it is or whose.
    Refused {
        /// Why.
        detail: String,
        /// What to do about it.
        hint: String,
    },
    /// Somebody listens who does not answer as an agent does.
    Silent {
        /// How that shows.
        detail: String,
        /// The process, if the system tells.
        pid: Option<i32>,
    },
}

impl AgentSurvey {
    /// Looks at the socket, and asks who is there.
    pub(super) fn of(options: &ExaminationOptions) -> Self {
        let client = AgentClient::at(socket_path(&options.places.state));
        let (state, config) = if std::env::var_os("TOKENKEEP_NO_AGENT").is_some_and(|value| !value.is_empty())
        {
            (AgentState::LeftOut, None)
        } else {
            AgentState::of(&client)
        };
        Self { socket: client.socket().to_owned(), state, config }
    }

    pub(super) const fn is_left_over(&self) -> bool {
        matches!(self.state, AgentState::LeftOver)
    }

    /// What is wrong with the file as the agent found it, which may be another one than ours.
    pub(super) fn config_finding(&self) -> Option<Finding> {
        let ConfigStatus { path, is_watched, problem, hint, .. } = self.config.as_ref()?;
        match (problem, hint, &self.state) {
            (Some(problem), Some(hint), _) => Some(
                Finding::new(&sign::AGENT_CONFIG_OLDER, path.clone())
                    .detail(problem.clone())
                    .fix(hint.clone()),
            ),
            // one of an older version says nothing of its file
            (_, _, AgentState::Answers(hello)) if !is_watched && !path.is_empty() => Some(
                Finding::new(&sign::AGENT_CONFIG_UNWATCHED, path.clone())
                    .fix(format!("after a change: kill -HUP {}", hello.pid)),
            ),
            _ => None,
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let subject = self.socket.display().to_string();
        Some(match &self.state {
            AgentState::Absent if is_named() => {
                Finding::new(&sign::AGENT_SOCKET_MISSING, subject).fix(format!("{START}, or: unset {NAMED}"))
            }
            AgentState::Absent | AgentState::LeftOut => return None,
            AgentState::Answers(hello) if hello.agent != OURS || hello.protocol != protocol::VERSION => {
                Finding::new(&sign::AGENT_OTHER_VERSION, subject)
                    .detail(format!("it is {}, this is {OURS}", hello.agent))
                    .fix(format!("tokenkeep agent stop, then {START}"))
            }
            AgentState::Answers(hello) if hello.state == State::Locked => {
                Finding::new(&sign::AGENT_LOCKED, subject).fix("tokenkeep agent unlock")
            }
            AgentState::Answers(_) => return None,
            AgentState::LeftOver => Finding::new(&sign::AGENT_SOCKET_LEFT, subject)
                .repair(Repair(Work::AgentSocket(self.socket.clone())))
                .fix(format!("{START}, or: tokenkeep doctor --repair")),
            AgentState::Refused { detail, hint } => {
                Finding::new(&sign::AGENT_SOCKET_REFUSED, subject).detail(detail.clone()).fix(hint.clone())
            }
            AgentState::Silent { detail, pid } => {
                let (who, end) = pid.map_or_else(
                    || (String::new(), "end the program that listens there".to_owned()),
                    |pid| (format!("process {pid} listens: "), format!("kill {pid}")),
                );
                Finding::new(&sign::AGENT_SILENT, subject)
                    .detail(format!("{who}{detail}"))
                    .fix(format!("{end}, then {START}"))
            }
        })
    }
}

const NAMED: &str = "TOKENKEEP_SOCK";

fn is_named() -> bool {
    std::env::var_os(NAMED).is_some_and(|value| !value.is_empty())
}

impl AgentState {
    fn of(client: &AgentClient) -> (Self, Option<ConfigStatus>) {
        match client.is_there() {
            Ok(true) => {}
            Ok(false) => return (Self::Absent, None),
            Err(error) => return (Self::refused(&error), None),
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return (Self::Silent { detail: error.to_string(), pid: None }, None),
        };
        runtime.block_on(async {
            let state = Self::ask(client).await;
            let config = match &state {
                Self::Answers(_) => timeout(PATIENCE, client.status()).await.ok().and_then(Result::ok),
                _ => None,
            };
            (state, config.map(|status| status.config))
        })
    }

    async fn ask(client: &AgentClient) -> Self {
        let detail = match timeout(PATIENCE, hello(client)).await {
            Ok(Ok(hello)) => return Self::Answers(hello),
            Ok(Err(AskError::Call(error))) if error.is_absence() => {
                // or it ended just now, and took its socket along
                return if client.is_there().unwrap_or(false) { Self::LeftOver } else { Self::Absent };
            }
            Ok(Err(AskError::Call(error))) if error.is_distrust() => return Self::refused(&error),
            Ok(Err(AskError::Call(error))) => error.detail(),
            Ok(Err(AskError::Refused(refusal))) => refusal.message,
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let pid = timeout(PATIENCE, client.listener()).await.unwrap_or_default();
        Self::Silent { detail, pid }
    }

    fn refused(error: &CallError) -> Self {
        Self::Refused { detail: error.to_string(), hint: error.hint() }
    }
}

/// Once more if it was locked just now, when it lets go of whoever waits.
async fn hello(client: &AgentClient) -> Result<Hello, AskError> {
    match client.ask_hello().await {
        Err(AskError::Refused(refusal)) if refusal.kind == protocol::LOCKED => client.ask_hello().await,
        answer => answer,
    }
}
