//! Bad input is told clearly, with the right exit code, and destroys nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use emulator::USER_ONE;
use serde_json::{Value, json};

use crate::support::{Run, SCOPE, World};

/// The kind of a failure that `--json` tells.
#[track_caller]
fn kind(run: &Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn records_that_are_none() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let before = fs::read(world.cache_file()).unwrap();
    let good = world.run(&["record", "export", "-"]).ok().json();
    let with = |name: &str, value: Value| {
        let mut record = good.clone();
        record[name] = value;
        record.to_string().into_bytes()
    };
    let mut bad: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "JSON"),
        (b"  \n".to_vec(), "JSON"),
        (b"not json".to_vec(), "JSON"),
        (b"{".to_vec(), "JSON"),
        (b"null".to_vec(), "object"),
        (b"[]".to_vec(), "object"),
        (b"{}".to_vec(), "authority"),
        (b"\xff\xfe{}".to_vec(), "text"),
        (with("version", "2.0".into()), "\"2.0\""),
        (with("version", 1.into()), "version is 1"),
        (with("version", Value::Null), "version"),
        (with("tenantId", "a/b".into()), "tenantId"),
        (with("tenantId", "..".into()), "tenantId"),
        (with("authority", "http://login.microsoftonline.com".into()), "authority"),
        (with("authority", "login.microsoftonline.com/evil".into()), "authority"),
        (with("padding", "x".repeat(1 << 20).into()), "longer than"),
        ("ü".repeat(1 << 20).into_bytes(), "longer than"),
    ];
    for name in ["authority", "clientId", "homeAccountId", "tenantId", "username"] {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(name);
        bad.push((without.to_string().into_bytes(), name));
        bad.push((with(name, Value::Null), name));
        bad.push((with(name, json!([])), name));
    }
    let file = world.home().join("record.json");
    let path = file.to_str().unwrap();
    for (content, problem) in bad {
        fs::write(&file, &content).unwrap();
        let shown = String::from_utf8_lossy(&content).chars().take(150).collect::<String>();
        for command in [&["token", "--scope", SCOPE, "--record", path][..], &["record", "show", path]] {
            let run = world.run(&[command, &["--json"]].concat()).exits(2);
            assert_eq!(kind(&run), "invalid_argument", "{shown}");
            let message = run.json()["error"]["message"].to_string();
            assert!(
                message.contains("record") && message.contains(problem.trim_matches('"')),
                "{shown}: {message}"
            );
            assert!(run.json()["error"]["hint"].to_string().contains("record export"), "{shown}");
        }
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    for command in [&["token", "--scope", SCOPE, "--record"][..], &["record", "show"]] {
        for missing in ["/nonexistent", world.home().to_str().unwrap()] {
            let run = world.run(&[command, &[missing]].concat()).exits(1);
            assert!(run.stderr.contains(missing), "{}", run.stderr);
        }
    }
    assert_eq!(fs::read(world.cache_file()).unwrap(), before);
    assert_eq!(world.emulator.count(""), 0);
}

#[test]
fn claims_scopes_tenants_and_names_that_are_none() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let before = fs::read(world.cache_file()).unwrap();
    let not_an_object = STANDARD.encode("[1]");
    let not_text = STANDARD.encode(b"\xff\xfe");
    let bad: [(&str, &str); 27] = [
        ("--claims", ""),
        ("--claims", "{"),
        ("--claims", "[]"),
        ("--claims", "null"),
        ("--claims", "%%%"),
        ("--claims", "Bearer realm=\"\""),
        ("--claims", "Bearer claims=\"\""),
        ("--claims", "Bearer claims=\"e30"),
        ("--claims", &not_an_object),
        ("--claims", &not_text),
        ("--scope", ""),
        ("--scope", "a b"),
        ("--scope", "a\nb"),
        ("--scope", "openid"),
        ("--scope", "\"quoted\""),
        ("--tenant", ""),
        ("--tenant", "a/b"),
        ("--tenant", "../common"),
        ("--tenant", ".."),
        ("--tenant", "a?b=c"),
        ("--tenant", "a%2fb"),
        ("--tenant", "ü.example"),
        ("--cache", "../elsewhere"),
        ("--cache", ""),
        ("--client-id", "two words"),
        ("--authority", "http://login.microsoftonline.com"),
        ("--authority", "https://user:word@login.microsoftonline.com/path"),
    ];
    for (option, value) in bad {
        for command in ["token", "login"] {
            let scope = if option == "--scope" { &[][..] } else { &["--scope", SCOPE] };
            let arguments = [&[command], scope, &[option, value]].concat();
            let run = world.run(&[&arguments[..], &["--json"]].concat()).exits(2);
            assert_eq!(kind(&run), "invalid_argument", "{arguments:?}");
            let run = world.run(&arguments).exits(2);
            let lines: Vec<&str> = run.stderr.lines().collect();
            let named = option.trim_start_matches("--").replace('-', " ");
            assert!(
                lines[0].starts_with(&format!("error: invalid {named}")),
                "{arguments:?}: {}",
                run.stderr
            );
            assert!(lines.last().unwrap().starts_with("hint: "), "{arguments:?}: {}", run.stderr);
        }
    }
    let mut command = world.command(&["token", "--scope", SCOPE]);
    let run = crate::support::run(command.env("AZURE_TENANT_ID", "a/b")).exits(2);
    assert!(run.stderr.contains("AZURE_TENANT_ID"), "{}", run.stderr);
    assert_eq!(fs::read(world.cache_file()).unwrap(), before);
    assert_eq!(world.emulator.count(""), 0);
}

const USES: [&[&str]; 7] = [
    &["token", "--scope", SCOPE],
    &["login", "--device-code", "--scope", SCOPE],
    &["accounts"],
    &["record", "export", "-"],
    &["logout", "--all"],
    &["clear", "--stale", "--yes"],
    &["accounts", "default", "user.one"],
];

#[test]
fn content_that_is_no_cache_stays_as_it_is() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let folder = world.cache_file().parent().unwrap().to_owned();
    let good = fs::read_to_string(world.cache_file()).unwrap();
    let jwe =
        format!("{}.a2V5.aXY.Y2lwaGVy.dGFn", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
    let contents: [(Vec<u8>, &str); 9] = [
        (b"null".to_vec(), "null"),
        (b"[]".to_vec(), "an array"),
        (b"\"\"".to_vec(), "a string"),
        (b"17".to_vec(), "a number"),
        (b"not json".to_vec(), "not JSON"),
        (good.as_bytes()[..good.len() / 2].to_vec(), "ends in the middle"),
        (jwe.into_bytes(), "JWE"),
        (STANDARD.encode(&good).into_bytes(), "base64"),
        (b"\x00\xff\x80".to_vec(), "not UTF-8"),
    ];
    for (content, problem) in contents {
        // A reader waits a moment for the rest of what may be half a file, so not all use all.
        let uses = if problem == "ends in the middle" { &USES[..] } else { &USES[..2] };
        for command in uses {
            fs::write(world.cache_file(), &content).unwrap();
            let run = world.run(&[*command, &["--json"]].concat()).exits(6);
            assert_eq!(kind(&run), "cache_damaged", "{command:?}");
            let error = &run.json()["error"];
            assert!(error["message"].as_str().unwrap().contains(problem), "{command:?}: {error}");
            assert!(error["hint"].as_str().unwrap().contains("tokenkeep clear"), "{command:?}: {error}");
            assert_eq!(fs::read(world.cache_file()).unwrap(), content, "{command:?}");
            assert_eq!(names(&folder).len(), 1, "{command:?}: {:?}", names(&folder));
        }
    }
    assert_eq!(world.emulator.count("devicecode"), 1, "who could not be kept was not asked to sign in");
}

#[test]
fn the_way_out_of_a_damaged_cache_keeps_its_content() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let folder = world.cache_file().parent().unwrap().to_owned();
    fs::write(world.cache_file(), "precious, perhaps").unwrap();
    let dry = world.run(&["clear", "--all", "--dry-run"]).ok();
    assert!(dry.stdout.contains("would be set aside"), "{}", dry.stdout);
    let done = world.run(&["clear", "--all", "--yes", "--json"]).ok().json();
    let aside = done["set_aside"][0].as_str().unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), "precious, perhaps");
    assert_eq!(fs::metadata(aside).unwrap().mode() & 0o777, 0o600);
    world.login(USER_ONE, &[]);
    world.run(&["token", "--scope", SCOPE]).ok();
    assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
}

#[test]
fn an_empty_cache_is_no_damaged_one() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    for content in ["", " \n", "{}", "\u{feff}{}", r#"{"AccessToken": {}}"#] {
        fs::write(world.cache_file(), content).unwrap();
        let run = world.run(&["token", "--scope", SCOPE]).exits(4);
        assert!(run.stderr.contains("has no account"), "{}", run.stderr);
        assert_eq!(fs::read_to_string(world.cache_file()).unwrap(), content);
        world.login(USER_ONE, &[]);
        world.run(&["token", "--scope", SCOPE]).ok();
    }
}

#[test]
fn entries_of_an_unexpected_shape_are_skipped_and_kept() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let mut document = world.document();
    let strange = [
        ("AccessToken", json!(["no", "object"])),
        ("RefreshToken", json!({"secret": 17, "home_account_id": null})),
        ("Account", json!("text")),
        ("IdToken", json!({})),
        ("Unheard-of", json!({"a": [null, 1.5]})),
    ];
    for (section, entry) in &strange {
        document[*section]["strange"] = entry.clone();
    }
    fs::write(world.cache_file(), document.to_string()).unwrap();
    world.run(&["token", "--scope", SCOPE]).ok();
    world.run(&["token", "--scope", SCOPE, "--force-refresh"]).ok();
    world.run(&["logout", "--all"]).ok();
    let after = world.document();
    for (section, entry) in &strange {
        assert_eq!(&after[*section]["strange"], entry, "{section}");
    }
    assert!(!after.to_string().contains(USER_ONE));
}

#[test]
fn modes_are_tightened_where_that_is_enough_and_refused_where_not() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let (file, folder) = (world.cache_file(), world.cache_file().parent().unwrap().to_owned());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));

    set(&file, 0o644);
    set(&folder, 0o755);
    let run = world.run(&["token", "--scope", SCOPE, "-v"]).ok();
    assert!(
        run.stderr.contains("WARN") && run.stderr.contains("let others read (mode 0644)"),
        "{}",
        run.stderr
    );
    assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));

    set(&folder, 0o777);
    for command in USES {
        let run = world.run(&[command, &["--json"]].concat()).exits(1);
        assert_eq!(kind(&run), "cache_unsafe", "{command:?}");
    }
    assert_eq!(mode(&folder), 0o777);
}

#[test]
fn what_stands_in_the_place_of_the_cache_is_not_trusted() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let file = world.cache_file();
    let good = fs::read(&file).unwrap();
    let refused = |what: &str| {
        for command in USES {
            let run = world.run(&[command, &["--json"]].concat()).exits(1);
            let kind = kind(&run);
            assert!(["cache_unsafe", "cache_io"].contains(&kind.as_str()), "{what}, {command:?}: {kind}");
        }
    };
    let public = tempfile::tempdir().unwrap();
    fs::set_permissions(public.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let trap = public.path().join("trap");
    fs::write(&trap, "{}").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&trap, &file).unwrap();
    refused("a link to where others may write");
    assert_eq!(fs::read_to_string(&trap).unwrap(), "{}", "no secret went there");

    fs::remove_file(&file).unwrap();
    symlink(&file, &file).unwrap();
    refused("a link to itself");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused("a folder");
    fs::remove_dir(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    refused("a pipe that nobody writes to");
    fs::remove_file(&file).unwrap();

    // A link to a private place of one's own is how people keep files in another folder.
    let private = tempfile::tempdir().unwrap();
    let target = private.path().join("cache.json");
    fs::write(&target, &good).unwrap();
    symlink(&target, &file).unwrap();
    world.run(&["token", "--scope", SCOPE, "--force-refresh"]).ok();
    assert!(file.is_symlink());
    assert_ne!(fs::read(&target).unwrap(), good);
}

#[test]
fn a_record_is_written_to_nothing_but_a_file_of_its_own() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let precious = world.home().join("precious");
    fs::write(&precious, "precious").unwrap();
    let link = world.home().join("link");
    symlink(&precious, &link).unwrap();
    world.emulator.reset_log();
    for target in [link.to_str().unwrap(), world.home().to_str().unwrap(), "/nonexistent/record.json"] {
        world.run(&["record", "export", target]).exits(1).says(target.rsplit_once('/').unwrap().0);
        world.run(&["login", "--device-code", "--scope", SCOPE, "--record-out", target]).exits(1);
    }
    assert_eq!(world.emulator.count(""), 0, "told before anybody was asked");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}
