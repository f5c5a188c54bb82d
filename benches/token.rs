//! What a cached token costs: as a whole process, next to Python's azure-identity doing the same in
//! the same run, and as a second call in one process.
//!
//! Run it with `cargo bench --bench token`, after `scripts/setup`.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokenkeep::credential::{
    CredentialOptions, DeviceCodeCredential, DeviceCodePrompt, Interaction, SharedTokenCacheCredential,
    TokenCredential,
};
use tokenkeep::store::{self, Places};
use tokenkeep::time::Deadline;
use tokenkeep::{AuthenticationRecord, Scopes, Storage, TokenCachePersistenceOptions, TokenRequest};

#[path = "../tests/programs/src/fake_sign_in.rs"]
mod fake_sign_in;

use fake_sign_in::{fake_sign_in, scope_of};

const USER: &str = "one";

fn main() {
    whole_processes();
    second_calls();
}

/// A home whose plaintext cache has so many access tokens.
fn home(tokens: usize) -> TempDir {
    let home = tempfile::tempdir().expect("a folder");
    let store = store::open(&persistence(), false, &Places::below(home.path())).expect("a store");
    let changes = (0..tokens).map(|index| fake_sign_in(USER, index));
    for change in changes {
        store.apply(&change, Deadline::within(Duration::from_secs(10))).expect("it is stored");
    }
    home
}

fn persistence() -> TokenCachePersistenceOptions {
    TokenCachePersistenceOptions::default().storage(Storage::Plaintext)
}

fn whole_processes() {
    let home = home(1);
    let scope = scope_of(USER, 0);
    let mut tokenkeep = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    tokenkeep.args(["token", "--store", "plaintext", "--scope", &scope]);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(repository.join(".deps/pyenv/bin/python"));
    python.arg(repository.join("tests/clients/shared_token.py")).args(["--plaintext", "--scope", &scope]);
    for command in [&mut tokenkeep, &mut python] {
        // no bus, so Python falls back to the file
        command.env("HOME", home.path()).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        command.stdin(Stdio::null());
        // the second run and those after it find everything in the machine's own caches
        elapsed(command);
    }
    let (mut ours, mut pythons) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        ours.extend((0..5).map(|_| elapsed(&mut tokenkeep)));
        pythons.push(elapsed(&mut python));
    }
    let (ours, pythons) = (median(ours), median(pythons));
    println!("{:<40}{:>12}", "a cached token, as a whole process", "ms, median");
    println!("{:<40}{:>12.2}", "tokenkeep token", ours * 1e3);
    println!("{:<40}{:>12.2}", "Python, SharedTokenCacheCredential", pythons * 1e3);
    println!("{:<40}{:>12.1}\n", "ratio", pythons / ours);
}

fn elapsed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let output = command.output().expect("it runs");
    let elapsed = start.elapsed().as_secs_f64();
    assert!(String::from_utf8_lossy(&output.stdout).contains("fake-access-token"), "{output:?}");
    elapsed
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn second_calls() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:<40}{:>12}{:>12}", "a second call in one process", "tokens", "ns, best");
    for tokens in [10, 100, 1_000] {
        let home = home(tokens);
        for (name, credential) in credentials(&home) {
            let request = TokenRequest::new(Scopes::new([scope_of(USER, tokens / 2)]).expect("a scope"));
            runtime.block_on(credential.get_token(&request)).expect("a token");
            let nanoseconds = best_of_rounds(|| {
                runtime.block_on(credential.get_token(&request)).expect("a token");
            });
            println!("{name:<40}{tokens:>12}{nanoseconds:>12.0}");
        }
    }
}

fn credentials(home: &TempDir) -> [(&'static str, Box<dyn TokenCredential>); 2] {
    let options = || {
        CredentialOptions::default()
            .cache_persistence_options_in(persistence(), Places::below(home.path()))
            .disable_automatic_authentication(true)
    };
    let record = AuthenticationRecord::deserialize(&record()).expect("a record");
    let with_record = DeviceCodeCredential::new(options().authentication_record(record), Arc::new(Nobody));
    let shared = SharedTokenCacheCredential::new(options());
    [
        ("DeviceCodeCredential with a record", Box::new(with_record.expect("a credential"))),
        ("SharedTokenCacheCredential", Box::new(shared.expect("a credential"))),
    ]
}

/// The record of the user in the cache.
fn record() -> String {
    let tenant = "11111111-1111-4111-8111-111111111111";
    format!(
        r#"{{"authority": "login.microsoftonline.com", "clientId": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
            "homeAccountId": "object-{USER}.{tenant}", "tenantId": "{tenant}",
            "username": "{USER}@contoso.example", "version": "1.0"}}"#
    )
}

/// Nothing is ever asked here.
#[derive(Debug)]
struct Nobody;

impl Interaction for Nobody {
    fn show_device_code(&self, _prompt: &DeviceCodePrompt) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

fn best_of_rounds(mut operation: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < Duration::from_millis(100) {
            for _ in 0..100 {
                operation();
            }
            count += 100;
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
    best
}
