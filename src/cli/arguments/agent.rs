//! What can be written after `tokenkeep agent`.

use clap::{Args, Subcommand};

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

    /// Another process keeps the name of the pipe and waits for this one
    #[cfg(windows)]
    #[arg(long, hide = true)]
    pub(in super::super) kept: bool,

    #[command(subcommand)]
    pub(in super::super) command: Option<AgentCommand>,
}

// No doc comment: the commands that take this in would be described by it.
// When the agent locks by itself.
#[derive(Args, Clone, Debug, Default)]
pub(in super::super) struct LockOptions {
    /// Lock when nobody has asked for a token in this time, such as 30m; a machine's sleep counts
    #[arg(long, value_name = "DURATION")]
    pub(in super::super) lock_after_idle: Option<String>,

    /// Lock this time after it was unlocked, such as 8h, whatever happens; a machine's sleep counts
    #[arg(long, value_name = "DURATION")]
    pub(in super::super) lock_after: Option<String>,

    /// Stay unlocked when the machine sleeps
    #[arg(long)]
    pub(in super::super) no_lock_on_suspend: bool,

    /// Stay unlocked when the screen is locked
    #[arg(long)]
    pub(in super::super) no_lock_on_session_lock: bool,
}

/// What is installed, and over what.
#[derive(Args, Debug, Default)]
pub(in super::super) struct Install {
    #[command(flatten)]
    pub(in super::super) lock: LockOptions,

    /// Write over what was edited since, or was not written by tokenkeep
    #[arg(long, conflicts_with = "print")]
    pub(in super::super) force: bool,

    /// Only show the files
    #[arg(long)]
    pub(in super::super) print: bool,
}

impl LockOptions {
    /// The same for another process.
    pub(in super::super) fn words(&self) -> Vec<String> {
        let limits = [("after-idle", &self.lock_after_idle), ("after", &self.lock_after)];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some((name, limit.as_ref()?)));
        let mut words: Vec<String> = limits.map(|(name, limit)| format!("--lock-{name}={limit}")).collect();
        let refusals = [("suspend", self.no_lock_on_suspend), ("session-lock", self.no_lock_on_session_lock)];
        let refusals = refusals.into_iter().filter(|(_, is_given)| *is_given);
        words.extend(refusals.map(|(name, _)| format!("--no-lock-on-{name}")));
        words
    }
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(in super::super) enum AgentCommand {
    /// Start the agent in the background, unless it runs already
    Start {
        #[command(flatten)]
        lock: LockOptions,
    },
    /// End the agent, once everything is saved
    Stop,
    /// Have the system start the agent: writes what its service manager needs, and says how to enable it
    Install(Install),
    /// Remove what `install` wrote, and say how to disable it
    Uninstall {
        /// Also what was edited since
        #[arg(long)]
        force: bool,
    },
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
    /// See who waits for your word, say it, or take it back
    #[command(args_conflicts_with_subcommands = true)]
    Consent {
        /// Be asked at this terminal, until Ctrl-C
        #[arg(long)]
        follow: bool,
        #[command(subcommand)]
        command: Option<ConsentCommand>,
    },
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum ConsentCommand {
    /// Let the program that waits have its token
    Allow {
        /// The question's id
        id: String,
        /// For how long, such as 1h; as config.toml says if left out
        #[arg(long = "for", value_name = "DURATION", conflicts_with = "once")]
        lasting: Option<String>,
        /// This once
        #[arg(long)]
        once: bool,
    },
    /// Let it not; asked again after five minutes
    Deny {
        /// The question's id
        id: String,
    },
    /// Take an answer back, so that it is asked again
    Forget {
        /// The answer's id
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Every answer
        #[arg(long)]
        all: bool,
    },
}
