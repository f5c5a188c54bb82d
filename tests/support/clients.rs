//! Microsoft's own libraries, and programs that hold locks.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A client under `tests/clients`, run by the Python whose msal-extensions locks by existence.
pub(crate) fn python(script: &str) -> Command {
    client(".deps/pyenv/bin/python", script)
}

/// The same by the Python whose msal-extensions locks by flock.
pub(crate) fn python_with_portalocker(script: &str) -> Command {
    client(".deps/pyenv-portalocker/bin/python", script)
}

/// The same by the Python that has the Azure CLI's own code.
pub(crate) fn azure_cli(args: &[&str]) -> Command {
    let mut command = client(".deps/pyenv-az/bin/python", "azure_cli.py");
    command.args(args);
    command
}

/// A client under `tests/clients`, run by Node.
pub(crate) fn node(script: &str) -> Command {
    client(".deps/bin/node", script)
}

fn client(interpreter: &str, script: &str) -> Command {
    let interpreter = installed(interpreter);
    let mut command = Command::new(interpreter);
    command.arg(repository().join("tests/clients").join(script));
    command
}

fn installed(path: &str) -> PathBuf {
    let path = repository().join(path);
    assert!(path.exists(), "{} is missing: run scripts/setup", path.display());
    path
}

/// A program that holds something until it is told to let go.
#[derive(Debug)]
pub(crate) struct Held {
    child: Child,
    input: Option<ChildStdin>,
}

impl Held {
    /// Starts the program and waits for its first line, which says that it holds it.
    pub(crate) fn by(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_default();
        assert_eq!(answer["held"], true, "{line}");
        let input = child.stdin.take();
        Self { child, input }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets go, and waits until it is done.
    pub(crate) fn release(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }

    /// Kills it, so that whatever it holds stays behind.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks into the keyring of this session.
pub(crate) fn keyring_ctl(args: &[&str]) -> super::Run {
    super::run(Command::new(repository().join("tests/support/keyring-ctl.py")).args(args))
}

/// A cache that Python keeps open: it reads again only what it takes for changed.
#[derive(Debug)]
pub(crate) struct PythonReader {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl PythonReader {
    pub(crate) fn of_file(path: &Path) -> Self {
        Self::start(python("reader.py").arg("--file").arg(path))
    }

    /// Of an item of the keyring, and the signal file in this home.
    pub(crate) fn of_keyring(home: &Path, cache: &str) -> Self {
        Self::start(python("reader.py").args(["--cache", cache]).env("HOME", home))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.arg("--watch").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut reader = Self { child, questions, answers };
        reader.answer();
        reader
    }

    /// The scopes of the access tokens that Python sees now.
    pub(crate) fn scopes(&mut self) -> BTreeSet<String> {
        self.questions.write_all(b"\n").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> BTreeSet<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        serde_json::from_value(answer["scopes"].clone()).unwrap()
    }
}

impl Drop for PythonReader {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
