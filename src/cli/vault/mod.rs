//! `tokenkeep vault`: making, opening and looking after the vault.

mod copies;
mod init;
mod kernel;
mod protectors;
mod status;

use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::{Vault as Arguments, VaultCommand};
use super::caches::deadline;
use super::failure::Failure;
use super::output::Output;
use super::settings::Settings;
use crate::error::CacheError;
use crate::store::vault::{RekeyOutcome, RekeyProgress};
use serde_json::json;

pub(super) fn run(arguments: &Arguments, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        VaultCommand::Init(arguments) => init::run(arguments, settings, output),
        VaultCommand::Status => status::run(settings, output),
        VaultCommand::Unlock => kernel::unlock(settings, output),
        VaultCommand::Lock => kernel::lock(settings, output),
        VaultCommand::Rekey => rekey(settings, output),
        VaultCommand::Protector { command } => protectors::run(command, settings, output),
        VaultCommand::Backup { file } => copies::backup(file, settings, output),
        VaultCommand::Restore { file, yes } => copies::restore(file, *yes, settings, output),
    }
}

/// Ctrl-C ends the process at whatever instant; the next run goes on where this one stopped.
fn rekey(settings: &Settings, output: Output) -> Result<(), Failure> {
    let vault = settings.vault()?;
    let resumed = vault.has_unfinished_rekey();
    let bar = progress_bar(output);
    let outcome = if resumed {
        vault.finish_rekey(deadline(), |progress| show(&bar, progress))
    } else {
        vault.rekey(deadline(), |progress| show(&bar, progress))
    };
    bar.finish_and_clear();
    let outcome = outcome.map_err(CacheError::from)?;
    if output.is_json() {
        return output.json(&json!({ "version": 1, "resumed": resumed, "compacted": outcome.compacted }));
    }
    let what = if resumed {
        "Finished the interrupted change of the data key"
    } else {
        "Everything is encrypted by a new data key"
    };
    output.remark(what)?;
    say_if_not_compacted(outcome, output)
}

fn say_if_not_compacted(outcome: RekeyOutcome, output: Output) -> Result<(), Failure> {
    if outcome.compacted {
        return Ok(());
    }
    output.remark(
        "Another program was reading meanwhile, so unused pages of the file may still hold rows under the old key; \
         tokenkeep vault rekey clears them later",
    )
}

fn progress_bar(output: Output) -> ProgressBar {
    if !output.has_terminal() || output.is_quiet() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows under the new key")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, progress: RekeyProgress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
