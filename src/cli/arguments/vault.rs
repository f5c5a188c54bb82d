//! What can be written after `tokenkeep vault`, `audit`, `import` and `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::store::vault::ProtectorKind;

#[derive(Args, Debug)]
pub(in crate::cli) struct Vault {
    #[command(subcommand)]
    pub(in crate::cli) command: VaultCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(in crate::cli) enum VaultCommand {
    /// Make the vault, and print its recovery key once
    Init(VaultInit),
    /// Show what opens the vault, and what is in it if it can be opened without asking
    Status,
    /// Open the vault for this user's programs until the machine is started again (Linux)
    Unlock,
    /// Undo `unlock`
    Lock,
    /// Encrypt everything anew with a new data key; may be interrupted and run again
    Rekey,
    /// Add, list or remove what opens the vault
    Protector {
        #[command(subcommand)]
        command: ProtectorCommand,
    },
    /// Write a copy of the vault, encrypted as it is, to a new file
    Backup {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a copy in the vault's place; what is there is kept beside it
    Restore {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct VaultInit {
    /// What is to open it; may stand several times [default: passphrase, and kernel where there is one]
    #[arg(long = "protector", value_name = "PROTECTOR", value_enum)]
    pub(in crate::cli) protectors: Vec<ProtectorChoice>,

    /// Make no recovery key
    #[arg(long)]
    pub(in crate::cli) no_recovery_key: bool,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(in crate::cli) enum ProtectorCommand {
    /// Add another way to open the vault
    Add {
        #[arg(value_enum)]
        protector: ProtectorChoice,
    },
    /// List what opens the vault
    List,
    /// Remove a way to open the vault, and encrypt everything anew; the last one stays
    Remove {
        /// Its number, or its kind if there is one of that kind
        #[arg(value_name = "PROTECTOR")]
        protector: String,
        /// Keep the data key: an old copy of the file still opens to who has the protector
        #[arg(long)]
        no_rekey: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ProtectorChoice {
    /// The platform's keyring
    Keyring,
    /// A passphrase: TOKENKEEP_PASSPHRASE_FILE, a systemd credential, or asked for on the terminal
    Passphrase,
    /// A file of random bytes: TOKENKEEP_KEY_FILE, or tokenkeep/vault.key in the configuration folder
    KeyFile,
    /// The Linux kernel's keyring, until the machine is started again
    Kernel,
    /// A recovery key, which is printed once
    Recovery,
}

impl ProtectorChoice {
    pub(in crate::cli) const fn kind(self) -> ProtectorKind {
        match self {
            Self::Keyring => ProtectorKind::Keyring,
            Self::Passphrase => ProtectorKind::Passphrase,
            Self::KeyFile => ProtectorKind::KeyFile,
            Self::Kernel => ProtectorKind::Kernel,
            Self::Recovery => ProtectorKind::Recovery,
        }
    }
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct Audit {
    /// Check every page, row and event of the vault first
    #[arg(long)]
    pub(in crate::cli) verify: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Import {
    /// Where to take the logins from
    #[arg(long, value_enum, value_name = "STORE")]
    pub(in crate::cli) from: TransferStore,

    #[command(flatten)]
    pub(in crate::cli) how: TransferOptions,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Export {
    /// Where to put the logins
    #[arg(long, value_enum, value_name = "STORE")]
    pub(in crate::cli) to: TransferStore,

    #[command(flatten)]
    pub(in crate::cli) how: TransferOptions,
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct TransferOptions {
    /// Only print what would be taken over
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,

    /// Do not ask whether to take it over
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,

    /// Remove the plaintext cache that was taken over, without asking
    #[arg(long)]
    pub(in crate::cli) remove_plaintext: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TransferStore {
    /// The platform's encrypted store
    Platform,
    /// The file that only its mode protects
    Plaintext,
    /// The vault
    Vault,
}
