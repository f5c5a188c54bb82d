//! The `tokenkeep` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tokenkeep::cli::main()
}
