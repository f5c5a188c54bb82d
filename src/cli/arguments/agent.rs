//! What can be written after `tokenkeep agent`.

use clap::{Args, Subcommand};

#[cfg_attr(not(unix), allow(dead_code, reason = "it says that it does not run here"))]
#[derive(Args, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub(in super::super) struct Agent {
    /// Leave the terminal that it was started from; `start` does that for you
    #[arg(long)]
    pub(in super::super) detached: bool,

    #[command(subcommand)]
    pub(in super::super) command: Option<AgentCommand>,
}

#[cfg_attr(not(unix), allow(dead_code, reason = "it says that it does not run here"))]
#[derive(Debug, Subcommand)]
pub(in super::super) enum AgentCommand {
    /// Start the agent in the background, unless it runs already
    Start,
    /// End the agent, once everything is saved
    Stop,
    /// Show what the agent holds and does
    Status {
        /// Go on showing it until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
}
