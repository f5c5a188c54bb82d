//! `tokenkeep explain`: what an error means, from a number or from any text, with nothing of the
//! text printed again.

use std::io::Write as _;
use std::process::{Command, Stdio};

use emulator::{CLIENT_AZURE_CLI, USER_ONE};
use serde_json::{Value, json};

use crate::support::{Run, SCOPE, World, tokenkeep_in};

/// `tokenkeep explain ARGS` with this on its standard input.
fn explain(args: &[&str], text: &[u8]) -> Run {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("text");
    std::fs::write(&file, text).unwrap();
    let mut command: Command = tokenkeep_in(home.path());
    command.arg("explain").args(args).stdin(std::fs::File::open(&file).unwrap());
    let explained = Run::of(command.output().unwrap(), format!("{args:?}"));
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is made in the home folder");
    explained
}

fn codes(run: &Run) -> Vec<Value> {
    let report = run.json();
    let explanations = report["explanations"].as_array().unwrap().iter();
    explanations
        .map(|known| if known["code"].is_null() { known["message"].clone() } else { known["code"].clone() })
        .collect()
}

#[test]
fn a_number_is_explained_with_and_without_its_letters() {
    for code in ["AADSTS50173", "aadsts50173", "50173"] {
        let run = explain(&[code], b"").ok();
        assert!(run.stdout.starts_with("AADSTS50173\n  "), "{}", run.stdout);
        assert!(run.stdout.contains("password was changed"), "{}", run.stdout);
        assert!(run.stdout.contains("\n  next: sign in again: tokenkeep login\n"), "{}", run.stdout);
        assert_eq!(run.stderr, "");
    }
    let report = explain(&["50173", "--json"], b"").ok().json();
    let members: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["version", "explanations", "unknown"]);
    let members: Vec<&str> =
        report["explanations"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "message", "class", "meaning", "next_step", "valid_from"]);
    assert_eq!(report["version"], 1);
    assert_eq!(report["explanations"][0]["class"], "dead_grant");
    assert_eq!(codes(&explain(&["70043", "700082", "--json"], b"").ok()), ["AADSTS70043", "AADSTS700082"]);
}

#[test]
fn what_is_not_known_is_said_to_be_so() {
    let run = explain(&["AADSTS424242"], b"").exits(1);
    assert!(run.stderr.starts_with("error: nothing is known about AADSTS424242\n"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: ") && run.stderr.contains("error?code=424242"), "{}", run.stderr);
    let json = explain(&["424242", "--json"], b"").exits(1).json();
    assert_eq!((&json["error"]["kind"], &json["error"]["code"]), (&json!("unexplained"), &Value::Null));
    // Beside a known one it is a remark.
    let both = explain(&["50173", "424242"], b"").ok();
    assert!(both.stderr.contains("AADSTS424242"), "{}", both.stderr);
    assert_eq!(explain(&["50173", "424242", "--json"], b"").ok().json()["unknown"], json!(["AADSTS424242"]));
    explain(&["-"], b"all is well").exits(1);
    explain(&["-"], b"").exits(1);
    for wrong in [&["az login"][..], &["50173x"], &["-", "50173"], &["-", "--no-input"], &[]] {
        explain(wrong, b"AADSTS50173").exits(2);
    }
}

#[test]
fn every_number_and_message_of_a_text_is_found_in_its_order() {
    let text = "DefaultAzureCredential failed to retrieve a token from the included credentials.\n\
        Attempted credentials:\n\
        \tEnvironmentCredential: EnvironmentCredential authentication unavailable. Environment variables are not fully configured.\n\
        \tSharedTokenCacheCredential: AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '2026-01-01T00:00:00.0000000Z' and the TokensValidFrom date (before which tokens are not valid) for this user is '2026-02-01T00:00:00.0000000Z'.\n\
        \tAzureCliCredential: Please run 'az login' to set up an account\n";
    let run = explain(&["-", "--json"], text.as_bytes()).ok();
    assert_eq!(
        codes(&run),
        [
            "every credential of the chain failed",
            "EnvironmentCredential: not configured",
            "AADSTS50173",
            "AzureCliCredential: nobody signed in",
        ]
    );
    let dates: Vec<Value> = run.json()["explanations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| known["valid_from"].clone())
        .collect();
    assert_eq!(dates, [Value::Null, Value::Null, "2026-02-01T00:00:00Z".into(), Value::Null]);
    let words = explain(&["-"], text.as_bytes()).ok();
    assert!(words.stdout.contains("dead is what was issued before 2026-02-01T00:00:00Z"), "{}", words.stdout);
}

#[test]
fn no_word_of_the_text_is_printed_again_and_no_text_is_too_much() {
    let canary = "CANARYRT-0.AXkAq-explain";
    let hostile = format!(
        "{canary}\u{1b}[2J AADSTS50173 {canary} AADSTS424242 AADSTS{canary} TokensValidFrom '{canary}'"
    );
    for args in [&["-"][..], &["-", "--json"], &["-", "-vv"]] {
        let run = explain(args, hostile.as_bytes()).ok();
        assert!(!format!("{}{}", run.stdout, run.stderr).contains("CANARY"), "{}{}", run.stdout, run.stderr);
    }
    let run = explain(&["-"], format!("{canary} AADSTS424242").as_bytes()).exits(1);
    assert!(!run.stderr.contains("CANARY"), "{}", run.stderr);
    explain(&["-"], b"\xff\xfe\0AADSTS50173\xff").ok();

    // A text without an end: its first megabyte is read, and whoever writes it is let go.
    let mut child = tokenkeep_in(std::path::Path::new("/nonexistent"))
        .args(["explain", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"AADSTS50173 ").unwrap();
    while stdin.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("AADSTS50173\n"));
    assert!(String::from_utf8_lossy(&done.stderr).contains("longer than a megabyte"));
}

#[test]
fn an_error_of_ours_and_its_explanation_use_the_same_words() {
    let world = World::plaintext();
    world.login(USER_ONE, &["--client-id", CLIENT_AZURE_CLI]);
    world.emulator.change_password(USER_ONE);
    let failed = world.run(&["token", "--scope", SCOPE, "--force-refresh"]).exits(3);
    let explained = explain(&["-", "--json"], failed.stderr.as_bytes()).ok();
    assert_eq!(codes(&explained), ["AADSTS50173"]);
    let meaning = explained.json()["explanations"][0]["meaning"].as_str().unwrap().to_owned();
    assert!(failed.stderr.contains(&meaning), "{}", failed.stderr);
}
