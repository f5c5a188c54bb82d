//! What can be written on the command line.

mod agent;
mod doors;
mod vault;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::store::PROFILES;

pub(super) use self::agent::{Agent, AgentCommand, ConsentCommand, Install, LockOptions};
pub(super) use self::doors::{Exec, GrantOptions, Grants, GrantsCommand, Serve};
pub(super) use self::vault::{
    Audit, Export, Import, ProtectorChoice, ProtectorCommand, TransferOptions, TransferStore, Vault,
    VaultCommand, VaultInit,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  other failure; authentication failed, or was declined or cancelled
  2  wrong usage or argument
  3  a person has to sign in
  4  no such account
  5  several accounts match
  6  the cache or the vault is damaged or of a newer format
  7  the cache or the vault is locked, or its key or encryption is unavailable
  8  network trouble, or the provider asks to come back later
  9  the user's own policy (config.toml) denies it
`exec` ends as its program does: 125 to 127 if it could not be run, 128+n for signal n

HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, BROWSER, NO_COLOR, RUST_LOG and the XDG folders are honoured, too.";

/// Sign in to Microsoft Entra ID once; every developer tool gets tokens from one encrypted cache
#[derive(Debug, Parser)]
#[command(
    name = "tokenkeep",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_long_help = AFTER_HELP
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalOptions,
    #[command(subcommand)]
    pub(super) command: Command,
}

// What is not given here comes from the environment: see `Settings`. (A doc comment would become the program's own.)
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalOptions {
    /// The cache, by the name under which other tools know it [env: TOKENKEEP_CACHE] [default: msal.cache]
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) cache: Option<String>,

    /// Where the cache rests [env: TOKENKEEP_STORE] [default: auto]
    #[arg(long, global = true, value_enum)]
    pub(super) store: Option<StoreChoice>,

    /// The provider's host [env: AZURE_AUTHORITY_HOST] [default: login.microsoftonline.com]
    #[arg(long, global = true, value_name = "HOST")]
    pub(super) authority: Option<String>,

    /// The tenant to get tokens of, by id or domain [env: AZURE_TENANT_ID]
    #[arg(long, global = true, value_name = "TENANT")]
    pub(super) tenant: Option<String>,

    /// The application to sign in to [env: TOKENKEEP_CLIENT_ID] [default: the Azure CLI's]
    #[arg(long, global = true, value_name = "ID")]
    pub(super) client_id: Option<String>,

    /// Trust an authority that is no cloud of Microsoft's (private clouds, AD FS)
    #[arg(long, global = true)]
    pub(super) disable_instance_discovery: bool,

    /// Print JSON, failures included
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Never read the terminal or the standard input, and open no browser
    #[arg(long, global = true)]
    pub(super) no_input: bool,

    /// Say only what was asked for, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Log to the standard error; twice for more. RUST_LOG has the last word
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StoreChoice {
    /// The platform's encrypted store; on Linux, where it cannot work, the vault if there is one
    Auto,
    /// The platform's encrypted store, and nothing else
    Platform,
    /// The vault: an encrypted file that needs no desktop
    Vault,
    /// A file that only its mode (0600) protects
    Plaintext,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// Sign in with a browser or a device code
    Login(Login),
    /// Print an access token, without ever asking a person
    Token(Token),
    /// Run a program for which every SDK of Azure finds the signed-in user's tokens
    Exec(Exec),
    /// The same without a program: for a container, or for one that runs already
    Serve(Serve),
    /// List who may ask for tokens now, or take that back
    Grants(Grants),
    /// List the accounts of the cache, or choose a default one
    Accounts(Accounts),
    /// Write or show an authentication record: which account a program uses, without secrets
    Record(Record),
    /// Remove an account and all its tokens from the cache
    Logout(Logout),
    /// Remove stale entries, an account, or the whole cache, after asking
    Clear(Clear),
    /// Examine every token cache on this machine, and repair what can be repaired
    Doctor(Doctor),
    /// Serve tokens to all processes of this user from one place, or start, stop and see that
    Agent(Agent),
    /// Copy a login into the caches of other tools, so that they sign in without asking
    Share(Share),
    /// Make, open and look after the vault: encrypted without a desktop
    Vault(Vault),
    /// Show what happened to the logins of the vault
    Audit(Audit),
    /// Take over the logins of another store
    Import(Import),
    /// Put the logins of this store into another one
    Export(Export),
    /// Say what an error of the provider or of a credential means, and what to do about it
    Explain(Explain),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

#[derive(Args, Debug, Default)]
pub(super) struct Login {
    /// Sign in with a code, on this device or another
    #[arg(long, conflicts_with = "browser")]
    pub(super) device_code: bool,

    /// Sign in with this machine's browser, even if there seems to be none
    #[arg(long)]
    pub(super) browser: bool,

    /// What the first token is to be good for; may stand several times [default: Azure Resource Manager]
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<String>,

    /// A claims challenge to satisfy: JSON, base64 of it, or a whole WWW-Authenticate header
    #[arg(long, value_name = "CLAIMS")]
    pub(super) claims: Option<String>,

    /// Use continuous access evaluation, whose tokens rest in a cache of their own
    #[arg(long)]
    pub(super) enable_cae: bool,

    /// Write the authentication record to this file, to the standard output with `-`, or into the
    /// vault with `vault:NAME`
    #[arg(long, value_name = "FILE")]
    pub(super) record_out: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
pub(super) struct Token {
    /// What the token is to be good for; may stand several times [default: Azure Resource Manager]
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<String>,

    /// Whose token: a username, a home account id, or the beginning of either
    #[arg(long, value_name = "HINT", conflicts_with = "record")]
    pub(super) account: Option<String>,

    /// The account of this authentication record; `-` reads it from the standard input, `vault:NAME`
    /// from the vault
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,

    /// A claims challenge to satisfy: JSON, base64 of it, or a whole WWW-Authenticate header
    #[arg(long, value_name = "CLAIMS")]
    pub(super) claims: Option<String>,

    /// Say that the caller handles claims challenges (continuous access evaluation)
    #[arg(long)]
    pub(super) enable_cae: bool,

    /// Refresh a token that is valid for less than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) min_validity: u32,

    /// Ask the provider even if the cache has a valid token
    #[arg(long)]
    pub(super) force_refresh: bool,

    /// How to print it [default: raw, or json with --json]
    #[arg(long, value_enum)]
    pub(super) format: Option<TokenFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenFormat {
    /// The token and nothing else
    Raw,
    /// An HTTP header line: Authorization: Bearer ...
    Header,
    /// A shell line that sets AZURE_ACCESS_TOKEN
    Env,
    /// The token and all that is known about it
    Json,
    /// What `az account get-access-token` prints
    Az,
    /// An ExecCredential for kubectl
    Kube,
}

#[derive(Args, Debug)]
pub(super) struct Accounts {
    #[command(subcommand)]
    pub(super) command: Option<AccountsCommand>,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum AccountsCommand {
    /// Choose the account to use when none is named, or undo that
    #[command(group(ArgGroup::new("choice").required(true).args(["hint", "unset"])))]
    Default {
        /// A username, a home account id, or the beginning of either
        #[arg(value_name = "HINT")]
        hint: Option<String>,
        /// Have no default account any more
        #[arg(long)]
        unset: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct Record {
    #[command(subcommand)]
    pub(super) command: RecordCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum RecordCommand {
    /// Write the record of an account of the cache to a file, to the standard output with `-`, or
    /// into the vault with `vault:NAME`
    Export {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Whose record: a username, a home account id, or the beginning of either
        #[arg(long, value_name = "HINT")]
        account: Option<String>,
    },
    /// List the records in the vault
    List,
    /// Show what a record says; `-` reads it from the standard input, `vault:NAME` from the vault
    Show {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Args, Debug, Default)]
pub(super) struct Logout {
    /// Who: a username, a home account id, or the beginning of either
    #[arg(long, value_name = "HINT", conflicts_with = "all")]
    pub(super) account: Option<String>,

    /// Every account of the cache
    #[arg(long)]
    pub(super) all: bool,

    /// Only what belongs to this client; other tools stay signed in
    #[arg(long, value_name = "ID")]
    pub(super) client: Option<String>,

    /// From the caches of every tool on this machine, after asking
    #[arg(long)]
    pub(super) everywhere: bool,

    /// Do not ask
    #[arg(short, long, requires = "everywhere")]
    pub(super) yes: bool,
}

#[derive(Args, Debug, Default)]
#[command(group(ArgGroup::new("what").required(true).args(["stale", "account", "all"])))]
pub(super) struct Clear {
    /// Access tokens that have expired, refresh tokens that a newer one has replaced, and in the
    /// caches of every tool the refresh tokens that are known to be dead
    #[arg(long)]
    pub(super) stale: bool,

    /// Ask the provider about each refresh token first, once
    #[arg(long, requires = "stale")]
    pub(super) probe: bool,

    /// With a dead refresh token also the access tokens that came of it
    #[arg(long, requires = "stale")]
    pub(super) access_tokens: bool,

    /// Everything of one account: a username, a home account id, or the beginning of either
    #[arg(long, value_name = "HINT")]
    pub(super) account: Option<String>,

    /// The whole cache; damaged content is set aside instead
    #[arg(long)]
    pub(super) all: bool,

    /// Only print what would go
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Args, Debug, Default)]
pub(super) struct Doctor {
    /// Ask nobody outside this machine
    #[arg(long)]
    pub(super) offline: bool,

    /// Repair what can be repaired, asking before each; what is bad is renamed or set aside
    #[arg(long)]
    pub(super) repair: bool,

    /// Only print what would be repaired
    #[arg(long, requires = "repair")]
    pub(super) dry_run: bool,

    /// Do not ask
    #[arg(short, long, requires = "repair")]
    pub(super) yes: bool,
}

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// A number such as AADSTS50173, with or without its letters; `-` reads any error text from the
    /// standard input
    #[arg(value_name = "CODE", required = true)]
    pub(super) codes: Vec<String>,
}

/// What `share` calls our own store.
pub(super) const OWN_STORE: &str = "tokenkeep";

#[derive(Args, Debug, Default)]
pub(super) struct Share {
    /// Which tools are to have it, separated by commas
    #[arg(long, value_name = "TOOL", required = true, value_delimiter = ',', value_parser = tool_names())]
    pub(super) to: Vec<String>,

    /// Which tool has it [default: tokenkeep, the store of --store]
    #[arg(long, value_name = "TOOL", value_parser = tool_names())]
    pub(super) from: Option<String>,

    /// Whose: a username, a home account id, or the beginning of either
    #[arg(long, value_name = "HINT")]
    pub(super) account: Option<String>,

    /// Copy it out of an encrypted cache also into one that is not
    #[arg(long)]
    pub(super) allow_plaintext: bool,

    /// Then keep the copies in step, until interrupted
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) follow: bool,

    /// Only print what would be copied
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

fn tool_names() -> PossibleValuesParser {
    let tools = PROFILES.iter().map(|profile| PossibleValue::new(profile.id).help(profile.title));
    let own = PossibleValue::new(OWN_STORE).help("the store of --store");
    std::iter::once(own).chain(tools).collect::<Vec<_>>().into()
}

#[derive(Args, Debug)]
pub(super) struct Completions {
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// Write the page of every command into this folder instead
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_reference_names_every_command_and_option() {
        fn look_up(command: &clap::Command, reference: &str) {
            let for_people = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for option in for_people.filter_map(clap::Arg::get_long) {
                let named = reference.contains(&format!("--{option}"));
                assert!(named || ["help", "version"].contains(&option), "--{option}");
            }
            for command in command.get_subcommands() {
                assert!(reference.contains(command.get_name()), "{}", command.get_name());
                look_up(command, reference);
            }
        }
        look_up(&Arguments::command(), include_str!("../../docs/cli.md"));
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["tokenkeep --tenant t token", "tokenkeep token --tenant t"] {
            assert_eq!(parse(line).unwrap().global.tenant.as_deref(), Some("t"));
        }
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        for line in [
            "tokenkeep login --browser --device-code",
            "tokenkeep token --account a --record r",
            "tokenkeep logout --all --account a",
            "tokenkeep clear",
            "tokenkeep clear --stale --all",
            "tokenkeep accounts default",
            "tokenkeep accounts default a --unset",
            "tokenkeep token --store elsewhere",
            "tokenkeep vault",
            "tokenkeep vault init --protector hope",
            "tokenkeep import",
            "tokenkeep export --to auto",
            "tokenkeep doctor --yes",
            "tokenkeep doctor --dry-run",
            "tokenkeep share",
            "tokenkeep share --to elsewhere",
            "tokenkeep share --to node --follow --dry-run",
            "tokenkeep -q -v token",
            "tokenkeep agent --detached start",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }
}
