//! What it costs to examine a home with twelve caches, as a whole process, next to Python's MSAL
//! doing no more than reading the same twelve and listing their accounts.
//!
//! Run it with `cargo bench --bench doctor`, after `scripts/setup`.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokenkeep::store::{self, Places};
use tokenkeep::time::Deadline;
use tokenkeep::{CacheName, Storage, TokenCachePersistenceOptions};

#[path = "../tests/programs/src/fake_sign_in.rs"]
mod fake_sign_in;

use fake_sign_in::{fake_sign_in, scope_of};

/// Six names with a cache for each of the two modes.
const NAMES: [&str; 6] = ["msal.cache", "a", "b", "c", "d", "e"];

/// Reads each file that is named, and finds its accounts.
const PYTHON: &str = "import sys, msal
for path in sys.argv[1:]:
    cache = msal.SerializableTokenCache()
    cache.deserialize(open(path).read())
    print(len(cache.find('Account')))";

fn main() {
    println!(
        "{:<44}{:>8}{:>12}{:>12}",
        "twelve caches, as a whole process", "tokens", "ms, median", "ms, worst"
    );
    for tokens in [10, 1_000] {
        let (home, files) = home(tokens);
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        doctor.args(["doctor", "--offline", "--json", "--store", "plaintext"]);
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut python = Command::new(repository.join(".deps/pyenv/bin/python"));
        python.args(["-c", PYTHON]).args(&files);
        let mut medians = Vec::new();
        for (name, command) in
            [("tokenkeep doctor", &mut doctor), ("Python, reading them and nothing else", &mut python)]
        {
            command.env("HOME", home.path()).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
            command.stdin(Stdio::null());
            // the first run fills the machine's own caches
            elapsed(command);
            let mut times: Vec<f64> = (0..10).map(|_| elapsed(command)).collect();
            times.sort_by(f64::total_cmp);
            let (median, worst) = (times[times.len() / 2] * 1e3, times[times.len() - 1] * 1e3);
            println!("{name:<44}{tokens:>8}{median:>12.1}{worst:>12.1}");
            medians.push(median);
        }
        println!("{:<44}{:>8}{:>12.1}", "ratio", "", medians[1] / medians[0]);
    }
}

/// A home with so many access tokens in each cache, and the caches' files.
fn home(tokens: usize) -> (TempDir, Vec<PathBuf>) {
    let home = tempfile::tempdir().expect("a folder");
    let places = Places::below(home.path());
    let mut files = Vec::new();
    for name in NAMES {
        for cae in [false, true] {
            let name = CacheName::new(name).expect("a name");
            let options = TokenCachePersistenceOptions::default().name(name).storage(Storage::Plaintext);
            let store = store::open(&options, cae, &places).expect("a store");
            store.apply(&fake_sign_in("one", 0), deadline()).expect("it is stored");
            let file = PathBuf::from(store.describe().place);
            multiply(&file, tokens);
            files.push(file);
        }
    }
    (home, files)
}

/// Many tokens at once: to store one after the other would take longer than everything else.
fn multiply(file: &Path, tokens: usize) {
    let text = std::fs::read_to_string(file).expect("a cache");
    let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let section = document["AccessToken"].as_object_mut().expect("a section");
    let (key, entry) =
        section.iter().next().map(|(key, entry)| (key.clone(), entry.clone())).expect("a token");
    for index in 1..tokens {
        let (old, new) = (scope_of("one", 0), scope_of("one", index));
        let mut entry = entry.clone();
        entry["target"] = new.as_str().into();
        section.insert(key.replace(&old.to_lowercase(), &new.to_lowercase()), entry);
    }
    std::fs::write(file, document.to_string()).expect("it is written");
}

fn deadline() -> Deadline {
    Deadline::within(Duration::from_secs(10))
}

fn elapsed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let output = command.output().expect("it runs");
    let elapsed = start.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let is_whole = text.contains("e.cae") || text.lines().count() == 12;
    assert!(is_whole, "{output:?}");
    elapsed
}
