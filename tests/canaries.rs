//! No secret is ever shown: not in output, not in a log of any level, not in an error, not in
//! `Debug`, not in a process list. The emulator knows every secret it made or was sent.

use std::process::{Command, Stdio};
use std::sync::Arc;

use emulator::{Answer, Emulator, ErrorAnswer, Script, USER_ONE};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokenkeep::credential::{
    DeviceCodeCredential, Interaction, InteractiveBrowserCredential, SharedTokenCacheCredential,
    TokenCredential,
};
use tokenkeep::document::{Change, ChangeSet, TokenCacheDocument};
use tokenkeep::time::{Deadline, UnixTime};

use crate::support::{GRAPH, Person, Quiet, Run, SCOPE, World, follow, request, run, wait_for_file};

/// Asserts that nothing secret stands in the text. The marks that tokens carry would give away a
/// part of one, too.
#[track_caller]
fn assert_clean(emulator: &Emulator, what: &str, text: &str) {
    for secret in emulator.secrets() {
        let found = text.contains(&secret.value);
        assert!(!found, "{what}: the {} {} is in\n{text}", secret.kind, secret.value);
    }
    assert!(!text.contains("CANARY"), "{what}:\n{text}");
}

/// Runs the command with every log there is, and as `--json`; then with `-v`.
fn loudly(world: &World, args: &[&str]) -> [Run; 2] {
    [("--json", "trace"), ("-vv", "")].map(|(option, level)| {
        let mut command = world.command(&[args, &[option]].concat());
        run(command.env("RUST_LOG", level))
    })
}

/// Everything that the emulator can answer; a later one would be as bad as these.
fn answers() -> Vec<Answer> {
    let mut answers = vec![
        Answer::BadGateway,
        Answer::Dropped,
        Answer::Empty,
        Answer::Malformed,
        Answer::Edited { without: vec!["access_token".into()], with: serde_json::Map::new() },
        Answer::Edited {
            without: vec!["id_token".into(), "client_info".into()],
            with: serde_json::Map::new(),
        },
        Answer::Raw { status: 200, headers: [].into(), body: "[]".into() },
        Answer::Raw { status: 418, headers: [].into(), body: "<html>a kettle</html>".into() },
        Answer::Error(ErrorAnswer::throttled("100")),
        Answer::Error(ErrorAnswer::bare("invalid_grant")),
        Answer::Error(ErrorAnswer::bare("authorization_declined")),
        Answer::Error(ErrorAnswer::mfa(r#"{"access_token":{"nbf":null}}"#)),
    ];
    let codes = [50173, 65001, 70043, 700082, 50057, 53003, 700016, 70011, 90033, 1];
    answers.extend(codes.map(|code| Answer::Error(ErrorAnswer::aadsts(code))));
    answers
}

/// Trouble that lasts would be waited for; once is enough to be logged.
fn order(emulator: &Emulator, kind: &str, answer: Answer) {
    emulator.clear_scripts();
    emulator.script(Script::once(answer).kind(kind));
}

#[test]
fn whatever_a_refresh_is_answered() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let signed_in = std::fs::read(world.cache_file()).unwrap();
    for answer in answers() {
        let what = format!("{answer:?}");
        for (option, level) in [("--json", "trace"), ("-vv", "")] {
            std::fs::write(world.cache_file(), &signed_in).unwrap();
            order(&world.emulator, "token", answer.clone());
            let mut command = world.command(&["token", "--scope", GRAPH, "--force-refresh", option]);
            let run = run(command.env("RUST_LOG", level));
            assert!(run.stderr.contains("DEBUG"), "the logs are on: {}", run.stderr);
            match run.code {
                // The token is what was asked for; it stands nowhere else.
                Some(0) => {}
                _ => assert_clean(&world.emulator, &what, &run.stdout),
            }
            assert_clean(&world.emulator, &what, &run.stderr);
        }
    }
}

#[test]
fn whatever_a_question_about_a_token_is_answered() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let signed_in = std::fs::read(world.cache_file()).unwrap();
    let azure = world.home().join(".azure");
    std::fs::create_dir(&azure).unwrap();
    for answer in answers() {
        let what = format!("{answer:?}");
        for args in
            [&["clear", "--stale", "--probe", "--yes"][..], &["clear", "--stale", "--probe", "--dry-run"]]
        {
            std::fs::write(world.cache_file(), &signed_in).unwrap();
            std::fs::write(azure.join("msal_token_cache.json"), &signed_in).unwrap();
            order(&world.emulator, "token", answer.clone());
            for run in loudly(&world, args) {
                assert_clean(&world.emulator, &what, &run.output());
            }
        }
    }
    let state = world.home().join(".local/state/tokenkeep");
    for entry in std::fs::read_dir(state).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_clean(&world.emulator, "what is remembered", &text);
    }
}

#[test]
fn whatever_a_login_by_code_is_answered() {
    let world = World::plaintext();
    for kind in ["devicecode", "token.device_code"] {
        for answer in answers() {
            let what = format!("{kind}: {answer:?}");
            order(&world.emulator, kind, answer);
            world.emulator.approve(USER_ONE);
            // So that a code whose tokens were lost on the way is not waited for.
            world.emulator.set(|settings| settings.device_code_lifetime = 3);
            let mut command = world.command(&["login", "--device-code", "--scope", SCOPE, "--json"]);
            let run = run(command.env("RUST_LOG", "trace"));
            assert_clean(&world.emulator, &what, &run.output());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_login_by_browser_is_answered() {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.auto_sign_in = Some(USER_ONE.into()));
    for answer in answers() {
        let what = format!("{answer:?}");
        order(&world.emulator, "token", answer);
        let person = Person::who_only_notes_the_address();
        let mut command = world.command(&["login", "--browser", "--scope", SCOPE, "--json"]);
        person.sits_at(&mut command);
        command.env("RUST_LOG", "trace").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let page = follow(&person.visit().address, world.emulator.ca_pem()).await;
        let run = Run::of(child.wait_with_output().unwrap(), "login --browser");
        // The address leads to the page once, and was used up before anybody could read it here.
        assert_clean(&world.emulator, &what, &run.output());
        assert_clean(&world.emulator, &what, &page);
    }
}

#[test]
fn a_provider_that_repeats_what_it_was_sent() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let signed_in = std::fs::read(world.cache_file()).unwrap();
    let document: Value = serde_json::from_slice(&signed_in).unwrap();
    let secret_of = |section: &str| {
        let entries = document[section].as_object().unwrap();
        entries.values().next().unwrap()["secret"].as_str().unwrap().to_owned()
    };
    for secret in [secret_of("RefreshToken"), secret_of("AccessToken"), secret_of("IdToken")] {
        let said = format!("AADSTS70000: what is \"{secret}\"? or refresh_token={secret}&x=1");
        let with =
            |members: Value| Answer::Raw { status: 400, headers: [].into(), body: members.to_string() };
        let members = [
            "error",
            "suberror",
            "error_description",
            "error_uri",
            "correlation_id",
            "trace_id",
            "timestamp",
        ];
        let mut echoes: Vec<Answer> = members
            .iter()
            .map(|member| {
                let mut body = serde_json::json!({"error": "invalid_grant", "error_codes": [70000]});
                body[*member] = said.as_str().into();
                with(body)
            })
            .collect();
        echoes.push(Answer::Raw { status: 400, headers: [].into(), body: said.clone() });
        echoes.push(Answer::Raw {
            status: 503,
            headers: [("Retry-After".into(), "100".into())].into(),
            body: said,
        });
        for echo in echoes {
            let what = format!("{echo:?}");
            std::fs::write(world.cache_file(), &signed_in).unwrap();
            world.emulator.clear_scripts();
            world.emulator.script(Script::sticky(echo).kind("token"));
            for run in loudly(&world, &["token", "--scope", SCOPE, "--force-refresh"]) {
                assert_ne!(run.code, Some(0));
                assert_clean(&world.emulator, &what, &run.output());
            }
        }
    }
}

#[test]
fn a_damaged_cache_is_not_quoted() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let good = std::fs::read_to_string(world.cache_file()).unwrap();
    let broken = [
        good[..good.len() - 40].to_owned(),
        good.replacen('{', "[", 1),
        good.replace(": \"", ": "),
        format!("\"{}\"", good.replace('\\', "").replace(['"', '\n'], "")),
        good.replace("\"secret\": \"", "\"secret\": [\""),
        good.replace("\"credential_type\"", "\"credential_type\": {}, \"secret\""),
    ];
    for content in broken {
        std::fs::write(world.cache_file(), &content).unwrap();
        for args in [
            &["token", "--scope", SCOPE][..],
            &["accounts"],
            &["logout", "--all"],
            &["clear", "--stale", "--dry-run"],
            &["clear", "--all", "--dry-run"],
            &["doctor"],
            &["doctor", "--offline", "--repair", "--yes"],
        ] {
            std::fs::write(world.cache_file(), &content).unwrap();
            for run in loudly(&world, args) {
                assert_clean(&world.emulator, &content[..100], &run.output());
            }
        }
    }
}

#[test]
fn a_file_of_secrets_that_is_given_for_a_record() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let cache = world.cache_file();
    for args in [
        &["token", "--scope", SCOPE, "--record", cache.to_str().unwrap()][..],
        &["record", "show", cache.to_str().unwrap()],
    ] {
        for run in loudly(&world, args) {
            assert_eq!(run.code, Some(2));
            assert_clean(&world.emulator, "record", &run.output());
        }
    }
}

#[test]
fn what_every_command_says_of_a_keyring() {
    let world = World::keyring();
    let mut login = world.command(&["login", "--device-code", "--scope", SCOPE, "-vv"]);
    world.emulator.approve(USER_ONE);
    assert_clean(&world.emulator, "login", &run(login.env("RUST_LOG", "trace")).ok().output());
    for args in [
        &["accounts"][..],
        &["record", "export", "-"],
        &["clear", "--stale", "--dry-run"],
        &["clear", "--all", "--dry-run"],
        &["doctor"],
        &["logout", "--all"],
    ] {
        for run in loudly(&world, args) {
            assert_clean(&world.emulator, args[0], &run.output());
        }
    }
    world.login(USER_ONE, &[]);
    for run in loudly(&world, &["token", "--scope", SCOPE, "--force-refresh"]) {
        assert_clean(&world.emulator, "token", &run.ok().stderr);
    }
    world.run(&["logout", "--all"]).ok();
}

/// What every user of the machine may read of a process.
fn public_face(pid: u32) -> String {
    let of = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    format!("{} {}", of("cmdline"), of("environ"))
}

#[tokio::test]
async fn a_process_list_in_the_middle_of_a_login() {
    let world = World::plaintext();
    world.emulator.approve(USER_ONE);
    world.emulator.script(Script::once(Answer::Normal).kind("token").held());
    let mut command = world.command(&["login", "--device-code", "--scope", SCOPE]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.emulator.wait_for("token", 1).await;
    assert_clean(&world.emulator, "login --device-code", &public_face(child.id()));
    world.emulator.release();
    assert!(child.wait_with_output().unwrap().status.success());

    world.emulator.script(Script::once(Answer::Normal).kind("token").held());
    let mut command = world.command(&["token", "--scope", SCOPE, "--force-refresh"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.emulator.wait_for("token", 2).await;
    assert_clean(&world.emulator, "token", &public_face(child.id()));
    world.emulator.release();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_browser_that_tells_all_it_was_given() {
    let world = World::plaintext();
    let told = world.home().join("told");
    let script = world.home().join("browser");
    let text = format!(
        "#!/bin/sh\n{{ tr '\\0' ' ' </proc/$$/cmdline; echo; env; }} >{0}.new; mv {0}.new {0}\n",
        told.display()
    );
    std::fs::write(&script, text).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    let mut command = world.command(&["login", "--browser", "--scope", SCOPE]);
    command.env("BROWSER", &script).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let told = wait_for_file(&told);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told.contains("http://localhost:"), "{told}");
    for word in ["state", "code_challenge", "nonce", "authorize", world.emulator.authority().as_str()] {
        let line =
            told.lines().find(|line| line.contains(word) && !line.starts_with("AZURE_AUTHORITY_HOST="));
        assert_eq!(line, None, "{word}");
    }
}

#[derive(Debug)]
struct Follows {
    ca_pem: String,
}

impl Interaction for Follows {
    fn open_browser(&self, url: &str) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(follow(url, &self.ca_pem));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_of_everything_that_holds_a_secret() {
    let world = World::plaintext();
    let show = |what: &str, value: &dyn std::fmt::Debug| {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            assert_clean(&world.emulator, what, &text);
        }
    };
    world.emulator.approve(USER_ONE);
    let by_code = DeviceCodeCredential::new(world.options(), Arc::new(Quiet)).unwrap();
    let record = by_code.authenticate(&request(SCOPE)).await.unwrap();
    world.emulator.set(|settings| settings.auto_sign_in = Some(USER_ONE.into()));
    let follows = Arc::new(Follows { ca_pem: world.emulator.ca_pem().to_owned() });
    let by_browser = InteractiveBrowserCredential::new(world.options(), follows).unwrap();
    by_browser.authenticate(&request(SCOPE)).await.unwrap();
    let shared =
        SharedTokenCacheCredential::new(world.options().authentication_record(record.clone())).unwrap();
    for credential in [&by_code as &dyn TokenCredential, &by_browser, &shared] {
        let token = credential.get_token(&request(SCOPE).force_refresh(true)).await.unwrap();
        assert!(token.token.expose_secret().contains("CANARY"), "the canaries are alive");
        show("AccessToken", &token);
        show("credential", &credential);
    }
    show("options", &world.options().authentication_record(record));
    for answer in answers() {
        let what = format!("{answer:?}");
        order(&world.emulator, "token", answer);
        let options = world.options().login_hint(USER_ONE.to_owned()).retry_budget(std::time::Duration::ZERO);
        let fresh = SharedTokenCacheCredential::new(options).unwrap();
        let outcome = fresh.get_token(&request(GRAPH).force_refresh(true)).await;
        show(&what, &outcome);
        if let Err(error) = &outcome {
            assert_clean(
                &world.emulator,
                &what,
                &format!("{error} {:?} {:?}", error.hint(), error.provider()),
            );
        }
        show(&what, &fresh);
        world.emulator.clear_scripts();
        by_browser.authenticate(&request(SCOPE).force_refresh(true)).await.unwrap();
    }

    let store = tokenkeep::store::open(&world.persistence(), false, &world.places()).unwrap();
    let snapshot = store.load().unwrap();
    show("store", &store);
    show("snapshot", &snapshot);
    let bytes = snapshot.document.to_bytes();
    show("document", &TokenCacheDocument::parse(&bytes).unwrap());
    let secrets = world.emulator.secrets();
    let refresh_token = &secrets.iter().find(|secret| secret.kind == "refresh_token").unwrap().value;
    let removal = ChangeSet::of(Change::RemoveRefreshToken {
        home_account_id: String::new(),
        client_id: String::new(),
        secret: refresh_token.as_str().into(),
    });
    show("changes", &removal);
    show("applied", &store.apply(&removal, Deadline::within(std::time::Duration::ZERO)).unwrap());
    show("stale", &snapshot.document.stale_entries(UnixTime::from_seconds(i64::MAX)));
    show("entries", &snapshot.document.entries());
    show("accounts", &snapshot.document.accounts());
}
