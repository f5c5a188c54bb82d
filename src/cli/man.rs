//! `tokenkeep completions` and `tokenkeep man`: made from the same definition as the parser.

use clap::CommandFactory as _;

use super::arguments::{Arguments, Completions, Man};
use super::failure::Failure;
use super::output::Output;
use super::private_file;

pub(super) fn completions(arguments: &Completions, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tokenkeep", &mut script);
    output.raw(&script)
}

pub(super) fn man(arguments: &Man, output: Output) -> Result<(), Failure> {
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(Failure::Output)?;
        return output.raw(&page);
    };
    private_file::make_folder(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
        .map_err(Failure::file("writing manual pages into", folder))
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_and_every_command_has_its_text() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tokenkeep", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("record-out"), "{shell}");
        }
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Arguments::command(), folder.path()).unwrap();
        for page in ["tokenkeep.1", "tokenkeep-login.1", "tokenkeep-accounts-default.1"] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".TH "), "{page}");
        }
    }
}
