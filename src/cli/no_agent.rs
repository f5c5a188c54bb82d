//! `tokenkeep agent` on platforms that it does not run on.

use super::arguments::Agent;
use super::failure::Failure;
use super::output::Output;
use super::settings::Settings;

pub(super) fn run(_arguments: &Agent, _settings: &Settings, _output: Output) -> Result<(), Failure> {
    Err(Failure::Agent {
        kind: "agent_unsupported",
        problem: "the agent is not supported on this platform".to_owned(),
        hint: Some("every other command works without it".to_owned()),
    })
}
