//! The contract of the command line: what every command prints, as text and as JSON, and how it
//! ends.

use emulator::{Answer, CLIENT_APP, ErrorAnswer, Script, TENANT_ONE, USER_ONE, USER_TWO};
use serde_json::{Value, json};

use crate::support::{GRAPH, Run, SCOPE, World, run};

/// The names of an object's members, in order.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

fn token(world: &World, args: &[&str]) -> Run {
    world.run(&[&["token", "--scope", SCOPE], args].concat())
}

/// A world in which both users have signed in.
fn with_two_users() -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    world
}

#[test]
fn a_login_tells_who_where_and_what_next() {
    let world = World::plaintext();
    let text = world.login(USER_ONE, &[]);
    assert_eq!(text.stdout, "");
    let file = world.cache_file();
    for line in [
        format!("Signed in as {USER_ONE}"),
        format!("  tenant  {TENANT_ONE}"),
        format!("  cache   {}.nocae, NOT encrypted: {}", world.cache, file.display()),
        format!("next: tokenkeep token --disable-instance-discovery --scope {SCOPE}"),
    ] {
        assert!(text.stderr.lines().any(|said| said == line), "{line:?} is not in\n{}", text.stderr);
    }

    let record = world.home().join("record.json");
    let json = world.login(USER_ONE, &["--json", "--record-out", record.to_str().unwrap()]);
    let report = json.json();
    assert_eq!(members(&report), ["account", "tenant", "client_id", "cache", "record_out"]);
    assert_eq!(members(&report["account"]), ["username", "home_account_id"]);
    assert_eq!(
        report["cache"],
        json!({
            "name": format!("{}.nocae", world.cache), "place": file, "encrypted": false,
        })
    );
    assert_eq!(report["record_out"], record.to_str().unwrap());
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap(), report, "nothing but JSON");

    let quiet = world.login(USER_ONE, &["--quiet", "--record-out", "-"]);
    assert_eq!(quiet.json()["username"], USER_ONE);
    assert_eq!(quiet.stderr.lines().count(), 1, "the code, which somebody has to type: {}", quiet.stderr);
}

#[test]
fn the_next_command_after_a_login_names_the_account_where_that_is_needed() {
    let world = World::plaintext();
    let next = |user: &str| {
        let said = world.login(user, &[]).stderr;
        let (_, command) = said.trim().rsplit_once("next: tokenkeep ").unwrap();
        let words = command.split(' ').filter(|word| *word != "--disable-instance-discovery");
        let words: Vec<&str> = words.collect();
        let whose = world.run(&[&words[..], &["--json"]].concat()).ok().json()["account"]["username"].clone();
        assert_eq!(whose, user);
        command.contains("--account")
    };
    assert!(!next(USER_ONE));
    assert!(next(USER_TWO));
    world.run(&["accounts", "default", USER_ONE]).ok();
    assert!(!next(USER_ONE));
    assert!(next(USER_TWO));
}

#[test]
fn a_token_comes_in_the_form_that_its_reader_expects() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let raw = token(&world, &[]).ok();
    assert_eq!(raw.stderr, "");
    let secret = raw.token();
    assert_eq!(raw.stdout, format!("{secret}\n"));
    let formatted = |format: &str| token(&world, &["--format", format]).ok();
    assert_eq!(formatted("raw").stdout, raw.stdout);
    assert_eq!(formatted("header").stdout, format!("Authorization: Bearer {secret}\n"));
    assert_eq!(formatted("env").stdout, format!("export AZURE_ACCESS_TOKEN='{secret}'\n"));

    let json = token(&world, &["--json"]).ok().json();
    assert_eq!(json, formatted("json").json());
    let all = ["token", "token_type", "expires_on", "scopes", "tenant", "account", "client_id", "source"];
    assert_eq!(members(&json), all);
    assert_eq!(members(&json["account"]), ["username", "home_account_id"]);
    assert_eq!((&json["token"], &json["source"]), (&secret.as_str().into(), &"cache".into()));
    assert!(json["expires_on"].is_i64() && json["scopes"].is_array(), "{json}");
    assert_eq!(json["tenant"], TENANT_ONE);

    let az = formatted("az").json();
    assert_eq!(members(&az), ["accessToken", "expiresOn", "expires_on", "tenant", "tokenType"]);
    assert_eq!(az["expires_on"], json["expires_on"]);
    let kube = formatted("kube").json();
    assert_eq!(kube["kind"], "ExecCredential");
    assert_eq!(kube["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(members(&kube["status"]), ["expirationTimestamp", "token"]);
}

#[test]
fn a_cached_token_is_used_while_it_will_do_and_the_provider_asked_when_not() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let source = |args: &[&str]| {
        let run = token(&world, &[args, &["--json"]].concat()).ok();
        run.json()["source"].as_str().unwrap().to_owned()
    };
    assert_eq!(source(&[]), "cache");
    assert_eq!(source(&["--min-validity", "60"]), "cache");
    assert_eq!(world.emulator.count(""), 0);
    assert_eq!(source(&["--min-validity", "4000000"]), "refresh");
    assert_eq!(source(&["--force-refresh"]), "refresh");
    assert_eq!(world.emulator.count("token.refresh_token"), 2);
    // Claims ask for a new token, and go to the provider as they were given.
    let header = r#"Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#;
    assert_eq!(source(&["--claims", header]), "refresh");
    let log = world.emulator.log();
    assert_eq!(log.last().unwrap().claims.as_deref(), Some(r#"{"access_token":{}}"#));
    // The two caches hold different logins, and the message says which one is empty.
    let run = token(&world, &["--enable-cae"]).exits(4);
    assert!(run.stderr.contains(&format!("{}.cae has no account", world.cache)), "{}", run.stderr);
    assert!(run.stderr.contains("tokenkeep login") && run.stderr.contains("--enable-cae"), "{}", run.stderr);
}

#[test]
fn a_hint_names_one_account_or_the_answer_lists_them() {
    let world = with_two_users();
    let whose = |args: &[&str]| {
        let run = token(&world, &[args, &["--json"]].concat());
        (run.code, run.json()["account"]["username"].as_str().unwrap_or_default().to_owned())
    };
    let home = format!("{}.{TENANT_ONE}", emulator::USER_ONE_OID);
    for hint in [USER_ONE, "USER.ONE", "user.o", &home, "AAAAAAAA-"] {
        assert_eq!(whose(&["--account", hint]), (Some(0), USER_ONE.to_owned()), "{hint}");
    }
    assert_eq!(whose(&["--account", "user.two"]).1, USER_TWO);

    let ambiguous = token(&world, &["--account", "user."]).exits(5);
    let nobody = token(&world, &["--account", "carl"]).exits(4);
    let several = token(&world, &[]).exits(5);
    for run in [&ambiguous, &nobody, &several] {
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(USER_ONE) && run.stderr.contains(USER_TWO), "{}", run.stderr);
        assert!(run.stderr.lines().last().unwrap().starts_with("hint: "), "{}", run.stderr);
    }
    for (args, code, kind) in [
        (&["--account", "user."][..], 5, "several_matching_accounts"),
        (&["--account", "carl"], 4, "no_matching_account"),
        (&[], 5, "several_accounts"),
    ] {
        let error = token(&world, &[args, &["--json"]].concat()).exits(code).json()["error"].clone();
        assert_eq!(error["kind"], kind);
        let candidates = error["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), 2);
        assert_eq!(members(&candidates[0]), ["username", "home_account_id", "home_tenant"]);
    }
}

#[test]
fn only_accounts_default_sets_a_default_and_a_logout_takes_it_away() {
    let world = with_two_users();
    let whose = || token(&world, &["--json"]).json()["account"]["username"].clone();
    let run = world.run(&["accounts", "default", "user.two"]).ok();
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr, format!("{USER_TWO} is the default account now\n"));
    assert_eq!(whose(), USER_TWO);
    world.login(USER_ONE, &[]);
    assert_eq!(whose(), USER_TWO, "a login sets no default");

    let listed = world.run(&["accounts", "--json"]).ok().json();
    let accounts = listed["accounts"].as_array().unwrap();
    let all = [
        "username",
        "home_account_id",
        "home_tenant",
        "environment",
        "tenants",
        "clients",
        "caches",
        "default",
    ];
    assert_eq!(members(&accounts[0]), all);
    let default: Vec<_> = accounts.iter().filter(|account| account["default"] == true).collect();
    assert_eq!(default.len(), 1);
    assert_eq!(default[0]["username"], USER_TWO);
    let table = world.run(&["accounts"]).ok();
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].contains("ACCOUNT") && lines.len() == 3, "{}", table.stdout);
    assert!(lines.iter().any(|line| line.starts_with("* ") && line.contains(USER_TWO)), "{}", table.stdout);

    let set = world.run(&["accounts", "default", "user.one", "--json"]).ok().json();
    assert_eq!(members(&set["default"]), ["username", "home_account_id"]);
    assert_eq!(
        world.run(&["accounts", "default", "--unset", "--json"]).ok().json(),
        json!({"default": null})
    );
    token(&world, &[]).exits(5);
    world.run(&["accounts", "default", "user.one"]).ok();
    world.run(&["logout", "--account", "user.one"]).ok();
    world.login(USER_ONE, &[]);
    token(&world, &[]).exits(5);
    world.run(&["accounts", "default", "carl"]).exits(4);
    world.run(&["accounts", "default", "user."]).exits(5);
}

#[test]
fn a_record_goes_out_and_comes_in_again() {
    let world = with_two_users();
    let file = world.home().join("record.json");
    let file = file.to_str().unwrap();
    let run = world.run(&["record", "export", file, "--account", "user.two"]).ok();
    assert_eq!(
        (run.stdout.as_str(), run.stderr),
        ("", format!("Wrote the record of {USER_TWO} to {file}\n"))
    );
    let printed = world.run(&["record", "export", "-", "--account", "user.two"]).ok();
    assert_eq!(printed.stdout.trim_end(), std::fs::read_to_string(file).unwrap());
    let written = world.run(&["record", "export", file, "--account", "user.two", "--json"]).ok().json();
    assert_eq!(members(&written), ["record_out", "record"]);

    let shown = world.run(&["record", "show", file, "--json"]).ok().json();
    assert_eq!(members(&shown), ["username", "home_account_id", "tenant", "client_id", "authority"]);
    assert_eq!(shown, written["record"]);
    let text = world.run(&["record", "show", file]).ok();
    assert!(text.stdout.starts_with(&format!("account    {USER_TWO}\n")), "{}", text.stdout);

    let by_record = token(&world, &["--record", file, "--json"]).ok().json();
    assert_eq!(by_record["account"]["username"], USER_TWO);
    assert_eq!(by_record["source"], "cache");
    world.run(&["record", "export", file]).exits(5);
    token(&world, &["--record", "/nonexistent"]).exits(1).says("/nonexistent");
    token(&world, &["--record", "-", "--no-input"]).exits(2).says("--no-input");
}

#[test]
fn after_a_logout_nothing_of_the_account_is_left_in_either_cache() {
    let world = with_two_users();
    world.login(USER_ONE, &["--enable-cae"]);
    world.login(USER_ONE, &["--client-id", CLIENT_APP]);
    let everything = || {
        let cae = world.cache_file().with_extension("cae");
        world.document().to_string() + &std::fs::read_to_string(cae).unwrap_or_default()
    };
    let of_user_one = [USER_ONE, emulator::USER_ONE_OID];
    assert!(of_user_one.iter().all(|name| everything().contains(name)));

    let run = world.run(&["logout", "--account", "user.one", "--client", CLIENT_APP]).ok();
    assert!(run.stderr.contains("1 refresh token"), "{}", run.stderr);
    // What is known about the app itself belongs to nobody.
    for section in ["AccessToken", "IdToken", "RefreshToken"] {
        assert!(!world.document()[section].to_string().contains(CLIENT_APP), "{section}");
    }
    token(&world, &["--account", "user.one"]).ok();

    let run = world.run(&["logout", "--account", "user.one"]).ok();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.starts_with(&format!("Signed out: {USER_ONE}\nRemoved ")), "{}", run.stderr);
    for name in of_user_one {
        assert!(!everything().contains(name), "{name} in {}", everything());
    }
    token(&world, &["--account", USER_TWO]).ok();

    let removed = world.run(&["logout", "--all", "--json"]).ok().json();
    assert_eq!((members(&removed), &removed["version"]), (vec!["version", "removed", "problems"], &1.into()));
    let entry = &removed["removed"][0];
    let all =
        ["cache", "section", "key", "username", "home_account_id", "client_id", "realm", "target", "why"];
    assert_eq!(members(entry), all);
    assert!(!everything().contains(USER_TWO));
    assert_eq!(world.run(&["logout", "--all"]).ok().stderr, "Nobody was signed in\n");
    world.run(&["logout"]).exits(4).says("has no account");
}

#[test]
fn clear_shows_asks_and_then_removes() {
    let world = with_two_users();
    world.emulator.set(|settings| settings.access_token_lifetime = 0);
    token(&world, &["--account", "user.one", "--force-refresh"]).ok();
    let before = world.document();
    let stale = |args: &[&str]| world.run(&[&["clear", "--stale"], args].concat());

    let dry = stale(&["--dry-run"]).ok();
    assert!(dry.stdout.starts_with("WOULD GO") && dry.stdout.contains("BECAUSE"), "{}", dry.stdout);
    let json = stale(&["--dry-run", "--json"]).ok().json();
    assert_eq!(members(&json), ["version", "dry_run", "removed", "set_aside", "probed", "problems"]);
    assert_eq!((json["removed"].as_array().unwrap().len(), &json["dry_run"]), (1, &true.into()));
    assert!(json["removed"][0]["why"].is_string(), "{json}");
    stale(&[]).exits(2).says("--yes");
    assert_eq!(world.document(), before, "until it is said, nothing goes");

    assert!(stale(&["--yes"]).ok().stderr.starts_with("Removed 1 access token in "));
    let after = world.document();
    assert_eq!(after["RefreshToken"], before["RefreshToken"]);
    assert_eq!(stale(&["--yes"]).ok().stderr, "There is nothing to remove\n");

    world.run(&["clear", "--account", "user.two", "--yes"]).ok();
    assert!(!world.document().to_string().contains(USER_TWO));
    world.run(&["clear", "--all", "--dry-run"]).ok();
    world.run(&["clear", "--all"]).exits(2);
    assert!(world.document().to_string().contains(USER_ONE));
    world.run(&["clear", "--all", "--yes"]).ok();
    assert_eq!(world.run(&["accounts"]).ok().stdout, "");
}

#[test]
fn every_way_to_fail_has_its_exit_code_its_kind_and_a_next_step() {
    let world = World::plaintext();
    let failing = |code: i32, kind: &str, command: &[&str]| {
        let run = world.run(&[command, &["--json"]].concat()).exits(code);
        let error = run.json()["error"].clone();
        assert!(!run.stderr.contains("error"), "the failure is on the standard output: {}", run.stderr);
        let all = [
            "kind",
            "code",
            "message",
            "hint",
            "claims",
            "tenant",
            "scopes",
            "removed",
            "candidates",
            "correlation_id",
        ];
        assert_eq!(members(&error), all);
        assert_eq!(error["kind"], kind, "{error}");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{error}");
        error
    };
    let token = ["token", "--scope", SCOPE, "--force-refresh"];
    let order = |answer: ErrorAnswer| {
        world.emulator.clear_scripts();
        world.emulator.script(Script::sticky(Answer::Error(answer)).kind("token"));
    };
    failing(4, "no_accounts", &token);
    failing(2, "invalid_argument", &["token", "--scope", "a b"]);
    failing(2, "usage", &["token", "--nonsense"]);
    world.login(USER_ONE, &[]);

    order(ErrorAnswer::aadsts(700016));
    assert_eq!(failing(1, "authentication_failed", &token)["code"], "AADSTS700016");
    order(ErrorAnswer::mfa(r#"{"access_token":{"a":null}}"#));
    let error = failing(3, "interaction_required", &token);
    assert_eq!(error["claims"], r#"{"access_token":{"a":null}}"#);
    assert_eq!(error["scopes"], json!([SCOPE]));
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("tokenkeep login --disable-instance-discovery"), "{hint}");
    assert!(hint.contains(r#"--claims '{"access_token":{"a":null}}'"#), "{hint}");
    assert!(error["correlation_id"].is_string());
    order(ErrorAnswer::throttled("120"));
    assert!(failing(8, "network", &token)["hint"].as_str().unwrap().contains("120 s"));
    world.emulator.clear_scripts();
    world.emulator.change_password(USER_ONE);
    let error = failing(3, "interaction_required", &token);
    assert_eq!(
        (&error["code"], &error["removed"][0]["code"]),
        (&"AADSTS50173".into(), &"AADSTS50173".into())
    );
    assert_eq!(members(&error["removed"][0]), ["username", "home_account_id", "client_id", "cache", "code"]);

    world
        .emulator
        .script(Script::once(Answer::Error(ErrorAnswer::bare("authorization_declined"))).kind("token"));
    failing(1, "declined", &["login", "--device-code", "--scope", SCOPE]);
    std::fs::write(world.cache_file(), "[").unwrap();
    failing(6, "cache_damaged", &token);
}

#[test]
fn text_says_what_happened_what_went_and_last_what_to_do() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.change_password(USER_ONE);
    let run = token(&world, &["--force-refresh"]).exits(3);
    assert_eq!(run.stdout, "");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{}", run.stderr);
    assert!(lines[0].starts_with(&format!("error: {USER_ONE} has to sign in again: ")), "{}", lines[0]);
    assert!(lines[1].starts_with(&format!("removed: the refresh token of {USER_ONE}")), "{}", lines[1]);
    let hint = format!(
        "hint: sign in again: tokenkeep login --disable-instance-discovery --tenant {TENANT_ONE} --scope {SCOPE}"
    );
    assert_eq!(lines[2], hint);
    // The hint is a command that works.
    world.emulator.approve(USER_ONE);
    let (_, command) = lines[2].split_once("tokenkeep ").unwrap();
    let words: Vec<&str> =
        command.split(' ').filter(|word| *word != "--disable-instance-discovery").collect();
    world.run(&words).ok();
    token(&world, &[]).ok();
}

#[test]
fn what_cannot_be_kept_is_told_before_anybody_is_asked() {
    let world = World::plaintext();
    let mut command =
        world.command(&["login", "--device-code", "--scope", SCOPE, "--store", "platform", "--json"]);
    let run = run(command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS)).exits(7);
    let error = &run.json()["error"];
    assert_eq!(error["kind"], "cache_encryption_unavailable");
    assert!(error["hint"].as_str().unwrap().contains("--store plaintext"), "{error}");
    world.run(&["login", "--device-code", "--scope", SCOPE, "--record-out", "/nonexistent/r"]).exits(1);
    world.run(&["login", "--json", "--scope", SCOPE, "--record-out", "-"]).exits(2);
    assert_eq!(world.emulator.count(""), 0);
}

#[test]
fn one_scope_after_another_costs_one_sign_in() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let both = ["--json", "--scope", GRAPH];
    assert_eq!(world.run(&[&["token"], &both[..]].concat()).ok().json()["source"], "refresh");
    assert_eq!(world.run(&[&["token"], &both[..]].concat()).ok().json()["source"], "cache");
    assert_eq!(world.emulator.count(""), 1);
}
