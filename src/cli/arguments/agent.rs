//! What can be written after `tokenkeep agent`.

use clap::{Args, Subcommand};

#[cfg_attr(not(unix), allow(dead_code, reason = "it says that it does not run here"))]
#[derive(Args, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub(in super::super) struct Agent {
    /// Leave the terminal that it was started from; `start` does that for you
    #[arg(long)]
    pub(in super::super) detached: bool,

    #[command(flatten)]
    pub(in super::super) lock: LockOptions,

    /// What this agent left before it was locked
    #[arg(long, hide = true)]
    pub(in super::super) legacy: Option<String>,

    #[command(subcommand)]
    pub(in super::super) command: Option<AgentCommand>,
}

/// When the agent locks by itself.
#[cfg_attr(not(unix), allow(dead_code, reason = "it says that it does not run here"))]
#[derive(Args, Clone, Debug, Default)]
pub(in super::super) struct LockOptions {
    /// Lock when nobody has asked for a token in this time, such as 30m; a machine's sleep counts
    #[arg(long, value_name = "DURATION")]
    pub(in super::super) lock_after_idle: Option<String>,

    /// Lock this time after it was unlocked, such as 8h, whatever happens; a machine's sleep counts
    #[arg(long, value_name = "DURATION")]
    pub(in super::super) lock_after: Option<String>,
}

#[cfg_attr(not(unix), allow(dead_code, reason = "it says that it does not run here"))]
#[derive(Debug, Subcommand)]
pub(in super::super) enum AgentCommand {
    /// Start the agent in the background, unless it runs already
    Start {
        #[command(flatten)]
        lock: LockOptions,
    },
    /// End the agent, once everything is saved
    Stop,
    /// Show what the agent holds and does
    Status {
        /// Go on showing it until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Forget everything that was decrypted; requests are refused until it is unlocked
    Lock,
    /// Serve again, by the vault's passphrase or whatever else opens the cache
    Unlock,
}
