//! Somebody in front of a browser or a terminal.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::clients::{node, repository};
use super::run::Run;

/// Somebody who does the same with every address that a program opens in their browser.
#[derive(Debug)]
pub(crate) struct Person {
    folder: TempDir,
    has_steps: bool,
}

/// What a person saw.
pub(crate) struct Visit {
    /// The address as it stood in the browser's command line.
    pub(crate) address: String,
    /// What `tests/clients/browser.mjs` says of the page in the end; null without steps.
    pub(crate) page: Value,
}

impl Person {
    /// Takes these steps of `tests/clients/browser.mjs` in a real Chromium.
    pub(crate) fn who_does(steps: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("steps"), steps.join("\n") + "\n").unwrap();
        Self { folder, has_steps: true }
    }

    /// Opens nothing: the test goes to the address itself.
    pub(crate) fn who_only_notes_the_address() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), has_steps: false }
    }

    /// The program's browser is this person's.
    pub(crate) fn sits_at(&self, command: &mut Command) {
        command
            .env("BROWSER", repository().join("tests/support/browser"))
            .env("BROWSER_REPORT", self.folder.path().join("report"));
        if self.has_steps {
            command.env("BROWSER_STEPS", self.folder.path().join("steps"));
        }
    }

    /// Opens the address for this person.
    pub(crate) fn open(&self, address: &str) {
        let mut browser = Command::new(repository().join("tests/support/browser"));
        self.sits_at(&mut browser);
        assert!(browser.arg(address).status().unwrap().success());
    }

    /// Waits until the browser is done.
    pub(crate) fn visit(&self) -> Visit {
        let text = wait_for_file(&self.folder.path().join("report"));
        let mut lines = text.lines();
        let address = lines.next().unwrap().to_owned();
        let page = lines.next().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
        Visit { address, page }
    }
}

impl Visit {
    /// The text of the page in the end; every step has to have worked.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.page["ok"], true, "{:#}", self.page);
        self.page["text"].as_str().unwrap()
    }
}

/// Waits for a file that is put in its place whole, and returns its text.
pub(crate) fn wait_for_file(path: &Path) -> String {
    let given_up = Instant::now() + Duration::from_secs(90);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return text,
            Err(error) => assert!(Instant::now() < given_up, "{}: {error}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does what a person with a browser would do at this address.
pub(crate) fn browse(address: &str, steps: &[&str]) -> Visit {
    let run = super::run(node("browser.mjs").arg(address).args(steps)).ok();
    Visit { address: address.to_owned(), page: run.json() }
}

/// What a browser does by itself when the provider asks nothing: it follows the address and
/// posts the form that comes back. Returns the last page.
pub(crate) async fn follow(address: &str, ca_pem: &str) -> String {
    let roots = reqwest::Certificate::from_pem_bundle(ca_pem.as_bytes()).unwrap();
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only(roots)
        .build()
        .unwrap();
    let start = browser.get(address).send().await.unwrap();
    let page = browser.get(start.headers()["location"].to_str().unwrap()).send().await.unwrap();
    let page = page.text().await.unwrap();
    let between = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}"));
        unescaped(rest.split_once('"').unwrap().0)
    };
    let fields: HashMap<String, String> = page
        .split("<input ")
        .skip(1)
        .map(|field| (between(field, "name=\""), between(field, "value=\"")))
        .collect();
    let answer = browser.post(between(&page, "action=\"")).form(&fields).send().await.unwrap();
    answer.text().await.unwrap()
}

fn unescaped(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

/// Runs the program on a terminal of 100 columns, where somebody types `input`. All that the
/// terminal showed is the run's standard output.
pub(crate) fn on_a_terminal(command: &Command, input: &str) -> Run {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let line = words.join(" ");
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--flush", "--command"])
        .arg(format!("stty cols 100 rows 50; exec {line}"))
        .arg("/dev/null")
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    // Its input stays open until it ends: an end of input would be typed as one.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    Run::of(output, line)
}
