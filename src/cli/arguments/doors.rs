//! What can be written after `tokenkeep exec`, `serve` and `grants`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

// No doc comment: the commands that take this in would be described by it.
// What a grant is good for.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct GrantOptions {
    /// Whose tokens: a username, a home account id, or the beginning of either
    #[arg(long, value_name = "HINT")]
    pub(in crate::cli) account: Option<String>,

    /// Give out tokens of this resource or scope only; may stand several times, `*` is all
    #[arg(long = "scope-allow", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<String>,

    /// Give out tokens of this tenant as well, if asked for; may stand several times, `*` is all
    #[arg(long = "tenant-allow", value_name = "TENANT")]
    pub(in crate::cli) tenants: Vec<String>,

    /// Give out nothing after this time, such as 90s, 30m or 8h
    #[arg(long, value_name = "DURATION")]
    pub(in crate::cli) expires: Option<String>,
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct Exec {
    #[command(flatten)]
    pub(in crate::cli) grant: GrantOptions,

    /// Answer `az account get-access-token` as well, and pass every other `az` on (not on Windows)
    #[arg(long)]
    pub(in crate::cli) az_shim: bool,

    /// The program and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(in crate::cli) command: Vec<OsString>,
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct Serve {
    #[command(flatten)]
    pub(in crate::cli) grant: GrantOptions,

    /// Serve on this Unix socket instead of on a port, for a container that it is mounted into
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) socket: Option<PathBuf>,

    /// The port of 127.0.0.1; with --socket, the port that the relay inside will have [default: a
    /// free one, or 4141 with --socket and --connect]
    #[arg(long, value_name = "PORT")]
    pub(in crate::cli) port: Option<u16>,

    /// Write the variables to this file (mode 0600) as NAME=VALUE lines, and print none
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) env_file: Option<PathBuf>,

    /// Inside a container: pass on what comes to the port to this socket, and nothing else
    #[arg(
        long,
        value_name = "SOCKET",
        conflicts_with_all = ["account", "scopes", "tenants", "expires", "socket", "env_file"]
    )]
    pub(in crate::cli) connect: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Grants {
    #[command(subcommand)]
    pub(in crate::cli) command: Option<GrantsCommand>,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(in crate::cli) enum GrantsCommand {
    /// Revoke a grant: its server gives out nothing from now on
    Revoke {
        /// The grant's id, or the beginning of one
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Every grant of this user
        #[arg(long)]
        all: bool,
    },
}
