//! The examples run as they are written: with default settings, a keyring, and the public cloud,
//! which is this machine.

use std::path::Path;
use std::process::Command;

use emulator::{PASSWORD, USER_ONE, USER_TWO};

use crate::support::{Person, PrivateNetwork, Run};

fn example(network: &PrivateNetwork, name: &str, args: &[&str]) -> Run {
    network.inside(program(name).args(args))
}

/// Built beside the tests.
fn program(name: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_tokenkeep")).with_file_name("examples").join(name);
    assert!(program.exists(), "build the examples first: cargo build --all-features --examples");
    Command::new(program)
}

/// All in one test, because their cache is the one with the default name, of which a keyring has
/// one.
#[test]
fn a_login_by_one_example_serves_the_others() {
    let network = PrivateNetwork::with_keyring("examples");
    let tokenkeep = |args: &[&str]| network.tokenkeep(&[args, &["--cache", "msal.cache"]].concat());
    tokenkeep(&["clear", "--all", "--yes"]).ok();
    let record = network.file("record.json");
    let record = record.to_str().unwrap();

    network.approve(USER_ONE);
    let run = example(&network, "device_code", &[record]).ok();
    assert_eq!(run.stdout, format!("{USER_ONE} signed in; the record is in {record}\n"));
    assert!(run.stderr.contains("enter the code"), "{}", run.stderr);

    network.forget_requests();
    let run = example(&network, "silent_reauthentication", &[record]).ok();
    assert!(run.stdout.starts_with("a token, valid until "), "{}", run.stdout);
    let run = example(&network, "share_with_python", &[]).ok();
    assert!(run.stdout.starts_with(&format!("a token for {USER_ONE}, valid until ")), "{}", run.stdout);
    assert_eq!(network.requests(""), 0, "all of it from the cache");

    // The SDK's pipeline trusts what the system trusts, and takes SSL_CERT_FILE for that.
    let scope = "https://management.azure.com/.default";
    let url = "https://login.microsoftonline.com/resource/subscriptions";
    let run = example(&network, "azure_pipeline", &[url, scope]).ok();
    assert_eq!(run.stdout, "the resource answered 200\n");

    network.approve(USER_TWO);
    tokenkeep(&["login", "--device-code"]).ok();
    let run = example(&network, "share_with_python", &[]).ok();
    assert!(run.stdout.contains("choose one of them") && run.stdout.contains(USER_TWO), "{}", run.stdout);
    tokenkeep(&["logout", "--all"]).ok();
    let run = example(&network, "share_with_python", &[]).ok();
    assert!(run.stdout.contains("no account"), "{}", run.stdout);
    let run = example(&network, "silent_reauthentication", &[record]).ok();
    assert!(run.stdout.contains("has to sign in again"), "{}", run.stdout);
}

#[test]
fn the_browser_example_signs_in_with_a_real_browser() {
    let network = PrivateNetwork::with_plaintext("examples");
    let person = Person::who_does(&[
        "fill",
        "#login",
        USER_ONE,
        "fill",
        "#password",
        PASSWORD,
        "press",
        "#submit",
        "see",
        "You are signed in",
    ]);
    let mut browser = program("browser");
    person.sits_at(&mut browser);
    let run = network.inside(&browser).ok();
    assert!(run.stdout.starts_with(&format!("{USER_ONE} signed in; ")), "{}", run.stdout);
    assert!(person.visit().text().contains(USER_ONE));
}
