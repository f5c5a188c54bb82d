//! How the command line looks: on a terminal and elsewhere, in help and in scripts for shells.

use std::io::Read as _;
use std::process::Stdio;

use emulator::{Answer, Script, USER_ONE, USER_TWO};

use crate::support::{SCOPE, World, on_a_terminal, run, tokenkeep_in};

const COMMANDS: [&str; 19] = [
    "agent",
    "login",
    "token",
    "accounts",
    "record",
    "logout",
    "clear",
    "share",
    "doctor",
    "exec",
    "explain",
    "grants",
    "serve",
    "completions",
    "man",
    "vault",
    "audit",
    "import",
    "export",
];

#[test]
fn on_a_terminal_clear_asks_once_and_no_is_the_default() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    for answer in ["\n", "n\n", "what?\n", "\u{4}"] {
        let run = on_a_terminal(&world.command(&["clear", "--all"]), answer).exits(1);
        assert!(run.stdout.contains("Remove 1 refresh token, 1 access token"), "{}", run.stdout);
        assert!(run.stdout.contains("[y/N]"), "{}", run.stdout);
    }
    on_a_terminal(&world.command(&["clear", "--all", "--no-input"]), "y\n").exits(2);
    assert!(world.document().to_string().contains(USER_ONE));
    on_a_terminal(&world.command(&["clear", "--all"]), "y\n").ok();
    assert!(!world.cache_file().exists() || !world.document().to_string().contains(USER_ONE));
}

#[test]
fn on_a_terminal_logout_asks_once_before_it_goes_everywhere() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let azure = world.home().join(".azure");
    std::fs::create_dir(&azure).unwrap();
    std::fs::copy(world.cache_file(), azure.join("msal_token_cache.json")).unwrap();
    let logout = world.command(&["logout", "--everywhere"]);
    let run = on_a_terminal(&logout, "\n").exits(1);
    assert!(run.stdout.contains("Remove ") && run.stdout.contains("msal_token_cache.json"), "{}", run.stdout);
    assert!(run.stdout.contains("[y/N]"), "{}", run.stdout);
    assert!(world.document().to_string().contains(USER_ONE));
    on_a_terminal(&logout, "y\n").ok();
    let text = std::fs::read_to_string(azure.join("msal_token_cache.json")).unwrap();
    assert!(!world.document().to_string().contains(USER_ONE) && !text.contains(USER_ONE), "{text}");
}

#[test]
fn on_a_terminal_asking_about_tokens_shows_how_far_it_has_come() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let shown = on_a_terminal(&world.command(&["clear", "--stale", "--probe", "--dry-run"]), "").ok().stdout;
    assert!(shown.contains("asking the provider about refresh tokens 1/1"), "{shown}");
    assert!(shown.contains("Asked about 1 refresh token"), "{shown}");
}

#[test]
fn a_device_code_is_a_picture_on_a_terminal_and_a_sentence_elsewhere() {
    let world = World::plaintext();
    // Kept back until it was shown, so that there is something to wait for.
    let slow = Script { delay_ms: 400, ..Script::once(Answer::Normal) };
    world.emulator.script(slow.kind("token.device_code"));
    world.emulator.approve(USER_ONE);
    let command = world.command(&["login", "--device-code", "--scope", SCOPE]);
    let shown = on_a_terminal(&command, "").ok().stdout;
    assert!(shown.contains('╭') && shown.contains("Enter") && shown.contains('▀'), "{shown}");
    assert!(shown.contains(" waiting for you to sign in, 1") && shown.contains(" left"), "{shown}");
    assert!(shown.contains("\u{1b}["), "{shown}");
    assert!(!shown.contains("To sign in, use a web browser"), "{shown}");

    let mut plain = world.command(&["login", "--device-code", "--scope", SCOPE]);
    world.emulator.approve(USER_ONE);
    let shown = on_a_terminal(plain.env("NO_COLOR", "1"), "").ok().stdout;
    assert!(shown.contains('╭') && !shown.contains("\u{1b}[1m") && !shown.contains("\u{1b}[2m"), "{shown}");

    let elsewhere = world.login(USER_ONE, &[]).output();
    assert!(elsewhere.contains("To sign in, use a web browser to open the page"), "{elsewhere}");
    assert!(!elsewhere.contains(['╭', '▀', '\u{1b}', '⠋']), "{elsewhere}");
    assert!(!elsewhere.contains("waiting"), "{elsewhere}");
}

#[test]
fn colour_is_for_terminals_only() {
    let world = World::plaintext();
    let error = |environment: &[(&str, &str)]| {
        let mut command = world.command(&["token", "--scope", SCOPE]);
        on_a_terminal(command.envs(environment.iter().copied()), "").exits(4).stdout
    };
    assert!(error(&[]).contains("\u{1b}["));
    assert!(!error(&[("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!world.run(&["token", "--scope", SCOPE]).exits(4).output().contains('\u{1b}'));
    let help = run(world.command(&["--help"]).env("CLICOLOR", "1")).ok();
    assert!(!help.output().contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    for args in [&["accounts"][..], &["man"], &["completions", "bash"], &["--help"]] {
        let mut command = world.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_would_be_right() {
    let world = World::plaintext();
    for args in [
        &["--nonsense"][..],
        &["nonsense"],
        &["token", "--scope"],
        &["token", "--min-validity", "-1"],
        &["token", "--format", "xml"],
        &["token", "--account", "a", "--record", "b"],
        &["login", "--browser", "--device-code"],
        &["clear"],
        &["clear", "--stale", "--all"],
        &["accounts", "default"],
        &["record"],
        &["completions", "cobol"],
        &["token", "--store", "cloud"],
    ] {
        let run = world.run(args).exits(2);
        assert!(run.stdout.is_empty() && run.stderr.starts_with("error: "), "{args:?}: {}", run.stderr);
        assert!(
            run.stderr.to_lowercase().contains("usage") || run.stderr.contains("--help"),
            "{}",
            run.stderr
        );
    }
    world.run(&["tokn"]).exits(2).says("'token'");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definition() {
    let world = World::plaintext();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = world.run(&["completions", shell]).ok().stdout;
        for command in COMMANDS {
            assert!(script.contains(command), "{command} is missing for {shell}");
        }
    }
    assert!(world.run(&["man"]).ok().stdout.contains(".TH tokenkeep"));
    let folder = world.home().join("man");
    world.run(&["man", "--dir", folder.to_str().unwrap()]).ok();
    for command in COMMANDS {
        assert!(folder.join(format!("tokenkeep-{command}.1")).exists(), "{command}");
    }
}

#[test]
fn help_names_no_command_and_no_option_that_does_not_exist() {
    let world = World::plaintext();
    let mut helps = vec![run(&mut tokenkeep_in(world.home())).exits(2).stderr];
    helps.push(world.run(&["--help"]).ok().stdout);
    for command in COMMANDS {
        helps.push(world.run(&[command, "--help"]).ok().stdout);
    }
    helps.push(world.run(&["accounts", "default", "--help"]).ok().stdout);
    helps.push(world.run(&["record", "export", "--help"]).ok().stdout);
    for help in &helps {
        for (_, after) in help.match_indices("tokenkeep ").map(|(at, found)| help.split_at(at + found.len()))
        {
            let word: String = after.chars().take_while(char::is_ascii_lowercase).collect();
            let known = COMMANDS.contains(&word.as_str()) || ["", "help"].contains(&word.as_str());
            assert!(known, "{word:?} in {help}");
        }
    }
    for command in COMMANDS {
        assert!(helps[1].contains(&format!("\n  {command} ")), "{command} in {}", helps[1]);
    }
}
