//! Unchanged SDKs get the signed-in user's tokens under `tokenkeep exec`, as far as the grant goes.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emulator::{TENANT_ONE, TENANT_TWO, USER_ONE, USER_TWO};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Agent, GRAPH, SCOPE, Served, World, first_line, node, python, run, through};

const VAULT: &str = "https://vault.azure.net/.default";

fn signed_in() -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world
}

/// `tokenkeep exec OPTIONS -- PROGRAM ARGS`.
fn exec(world: &World, options: &[&str], program: &Command, args: &[&str]) -> Command {
    let mut exec = world.command(&[&["exec"], options].concat());
    exec.arg("--").arg(program.get_program()).args(program.get_args()).args(args);
    exec
}

/// `tokenkeep exec -- WORDS`.
fn exec_words(world: &World, words: &[&str]) -> Command {
    let mut exec = world.command(&["exec"]);
    exec.arg("--").args(words);
    exec
}

fn sh(world: &World, options: &[&str], script: &str) -> Command {
    exec(world, options, &Command::new("sh"), &["-c", script])
}

/// An SDK counts from its own clock, a moment later.
#[track_caller]
fn assert_expires_like(answer: &Value, ours: &Value) {
    let [theirs, ours] = [answer, ours].map(|answer| answer["expires_on"].as_i64().unwrap());
    assert!((theirs - ours).abs() < 10, "{theirs} {ours}");
}

fn claims_of(token: &Value) -> Value {
    let payload = token.as_str().unwrap_or_else(|| panic!("{token}")).split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The real SDKs, each as an unchanged program would use it.
fn sdks() -> [(&'static str, Command); 2] {
    [("python", python("any_credential.py")), ("node", node("any_credential.mjs"))]
}

const CREDENTIALS: [&str; 2] = ["DefaultAzureCredential", "ManagedIdentityCredential"];

#[test]
fn the_real_sdks_get_the_signed_in_users_token() {
    let world = signed_in();
    for (name, sdk) in sdks() {
        for credential in CREDENTIALS {
            let args = ["--credential", credential, "--scope", VAULT];
            let answer = run(&mut exec(&world, &[], &sdk, &args)).ok().json();
            let claims = claims_of(&answer["token"]);
            assert_eq!(claims["upn"], USER_ONE, "{name} {credential}");
            assert_eq!(claims["tid"], TENANT_ONE);
            let ours = world.run(&["token", "--scope", VAULT, "--json"]).ok().json();
            assert_eq!(ours["token"], answer["token"], "{name} {credential}");
            assert_expires_like(&answer, &ours);
        }
    }
}

#[test]
fn what_else_is_set_does_not_lead_the_sdks_elsewhere() {
    let world = signed_in();
    let leftovers = [
        ("AZURE_CLIENT_ID", "99999999-9999-4999-8999-999999999999"),
        ("AZURE_CLIENT_SECRET", "a leftover service principal's"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent"),
        ("AZURE_TENANT_ID", TENANT_ONE),
        ("AZURE_TOKEN_CREDENTIALS", "dev"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("IDENTITY_SERVER_THUMBPRINT", "aa"),
        ("IMDS_ENDPOINT", "http://127.0.0.1:9"),
        ("MSI_ENDPOINT", "http://127.0.0.1:9"),
        ("MSI_SECRET", "another machine's"),
    ];
    for (name, sdk) in sdks() {
        for credential in CREDENTIALS {
            let mut exec = exec(&world, &[], &sdk, &["--credential", credential]);
            let answer = run(exec.envs(leftovers)).ok().json();
            assert_eq!(claims_of(&answer["token"])["upn"], USER_ONE, "{name} {credential}");
        }
    }
    let script = "env | grep ^AZURE_CLIENT | wc -l";
    assert_eq!(run(sh(&world, &[], script).envs(leftovers)).ok().stdout.trim(), "2", "they stay the child's");
}

#[test]
fn the_account_is_the_one_that_was_named() {
    let world = signed_in();
    world.login(USER_TWO, &[]);
    for user in [USER_ONE, USER_TWO] {
        for (_, sdk) in sdks() {
            let answer = run(&mut exec(&world, &["--account", user], &sdk, &[])).ok().json();
            assert_eq!(claims_of(&answer["token"])["upn"], user);
        }
    }
    let failed = run(&mut sh(&world, &["--json"], "echo ran")).exits(125);
    assert_eq!(failed.json()["error"]["kind"], "several_accounts");
    let failed = run(&mut sh(&world, &["--account", "nobody"], "echo ran")).exits(125);
    assert_eq!(failed.stdout, "");
}

#[test]
fn an_identity_by_name_is_the_signed_in_person_too() {
    let world = signed_in();
    for (name, sdk) in sdks() {
        let args = ["--credential", "ManagedIdentityCredential", "--client-id", "a-user-assigned-identity"];
        let answer = run(&mut exec(&world, &[], &sdk, &args)).ok().json();
        assert_eq!(claims_of(&answer["token"])["upn"], USER_ONE, "{name}");
    }
}

#[test]
fn the_sdks_turn_a_refusal_into_their_own_exception_with_our_words() {
    let world = signed_in();
    let arm_only = ["--scope-allow", "https://management.azure.com"];
    for (name, sdk) in sdks() {
        for credential in CREDENTIALS {
            let args = ["--credential", credential, "--scope"];
            run(&mut exec(&world, &arm_only, &sdk, &[&args[..], &[SCOPE]].concat())).ok();
            let refused = run(&mut exec(&world, &arm_only, &sdk, &[&args[..], &[VAULT]].concat()));
            let answer = refused.json();
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains("--scope-allow https://vault.azure.net/.default"), "{name}: {message}");
            if credential == "ManagedIdentityCredential" {
                assert_eq!(answer["error"], "CredentialUnavailableError", "{name}");
                refused.exits(4);
            }
        }
        let path = env!("CARGO_BIN_EXE_tokenkeep");
        for (script, said) in [
            (r#"IDENTITY_HEADER=wrong; export IDENTITY_HEADER; exec "$@""#.to_owned(), "not the secret"),
            (
                format!(r#"{path} grants revoke --all -q --disable-instance-discovery && exec "$@""#),
                "revoked",
            ),
            (
                format!(r#"{path} logout --all -q --disable-instance-discovery && exec "$@""#),
                "tokenkeep login",
            ),
        ] {
            let world = signed_in();
            let mut exec = exec_words(&world, &["sh", "-c", &script, "sh"]);
            exec.arg(sdk.get_program())
                .args(sdk.get_args())
                .args(["--credential", "ManagedIdentityCredential"]);
            let refused = run(&mut exec);
            let answer = refused.json();
            assert_eq!(answer["error"], "CredentialUnavailableError", "{name}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains(said), "{name}: {said}: {answer}");
        }
    }
}

#[test]
fn nodes_own_fetch_is_no_browser() {
    let world = signed_in();
    let answer = run(&mut exec(&world, &[], &node("any_credential.mjs"), &["--fetch"])).ok().json();
    assert_eq!(claims_of(&answer["token"])["upn"], USER_ONE);
}

/// Asks as azd does.
const AZD: &str = r#"
import json, os, sys, urllib.request
request = urllib.request.Request(
    os.environ["AZD_AUTH_ENDPOINT"] + "/token?api-version=2023-07-12-preview",
    json.dumps({"scopes": [sys.argv[1]], "tenantId": sys.argv[2]}).encode(),
    {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["AZD_AUTH_KEY"]},
)
print(urllib.request.urlopen(request).read().decode())
"#;

#[test]
fn azd_gets_tokens_of_the_tenants_that_the_grant_names() {
    let world = signed_in();
    let ask = |options: &[&str], tenant: &str| {
        run(&mut exec(&world, options, &Command::new("/usr/bin/python3"), &["-c", AZD, SCOPE, tenant]))
            .ok()
            .json()
    };
    let own = ask(&[], "");
    assert_eq!((&own["status"], &claims_of(&own["token"])["tid"]), (&json!("success"), &json!(TENANT_ONE)));
    assert_eq!(ask(&[], TENANT_ONE)["status"], "success");
    let other = ask(&[], TENANT_TWO);
    assert_eq!((&other["status"], &other["code"]), (&json!("error"), &json!("GetTokenError")));
    for allowed in [TENANT_TWO, "*"] {
        let other = ask(&["--tenant-allow", allowed], TENANT_TWO);
        assert_eq!(claims_of(&other["token"])["tid"], TENANT_TWO, "{other}");
    }
    let chosen = ask(&["--tenant", TENANT_TWO], "");
    assert_eq!(claims_of(&chosen["token"])["tid"], TENANT_TWO);
}

/// A real `az` in a folder of its own, which tells what it was given.
fn real_az(world: &World) -> PathBuf {
    let folder = world.home().join("real-az");
    std::fs::create_dir(&folder).unwrap();
    let az = folder.join("az");
    std::fs::write(&az, "#!/bin/sh\nfor word in \"$@\"; do printf '<%s>' \"$word\"; done\nexit 42\n")
        .unwrap();
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_real_sdks_take_the_stand_in_for_the_azure_cli() {
    let world = signed_in();
    let profile = world.home().join(".azure");
    std::fs::create_dir(&profile).unwrap();
    let subscriptions = json!({"subscriptions": [{"id": "s-1", "name": "Mine", "tenantId": TENANT_TWO}]});
    std::fs::write(profile.join("azureProfile.json"), format!("\u{feff}{subscriptions}")).unwrap();
    let options = ["--az-shim", "--tenant-allow", TENANT_TWO, "--scope-allow", "https://vault.azure.net"];
    for (name, sdk) in sdks() {
        let ask = |args: &[&str]| {
            let args = [&["--credential", "AzureCliCredential"], args].concat();
            run(&mut exec(&world, &options, &sdk, &args))
        };
        let answer = ask(&["--scope", VAULT]).ok().json();
        let claims = claims_of(&answer["token"]);
        assert_eq!((&claims["upn"], &claims["tid"]), (&json!(USER_ONE), &json!(TENANT_ONE)), "{name}");
        let ours = world.run(&["token", "--scope", VAULT, "--json"]).ok().json();
        assert_eq!(answer["expires_on"], ours["expires_on"], "{name}: its own field, not the local time");
        let refused = ask(&["--scope", GRAPH.rsplit_once('/').unwrap().0]).json();
        assert!(refused["message"].as_str().unwrap().contains("--scope-allow"), "{name}: {refused}");
    }
    let args = ["--credential", "AzureCliCredential", "--scope", VAULT, "--subscription", "Mine"];
    let answer = run(&mut exec(&world, &options, &python("any_credential.py"), &args)).ok().json();
    assert_eq!(claims_of(&answer["token"])["tid"], TENANT_TWO);
}

#[test]
fn the_stand_in_answers_one_command_and_passes_on_every_other() {
    let world = signed_in();
    let real = real_az(&world);
    let shim = |script: &str| {
        let mut command = sh(&world, &["--az-shim"], script);
        run(command.env("PATH", path_with(&real)).env("TZ", "UTC"))
    };
    let answer = shim("az account get-access-token --resource https://vault.azure.net -o json").ok();
    let ours = world.run(&["token", "--scope", VAULT, "--format", "az"]);
    assert_eq!(answer.stdout.lines().count(), ours.ok().stdout.lines().count());
    let names: Vec<String> = answer.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["accessToken", "expiresOn", "expires_on", "tenant", "tokenType"]);
    let bare = shim("az account get-access-token --resource-type arm --query accessToken --output tsv").ok();
    assert_eq!(claims_of(&json!(bare.stdout.trim()))["aud"], "https://management.core.windows.net/");

    for (script, passed_on) in [
        ("az account show", "<account><show>"),
        ("az account get-access-token --help", "<account><get-access-token><--help>"),
        ("az", ""),
        ("az 'a b' '' '*' \"$(printf 'x\\ny')\"", "<a b><><*><x\ny>"),
        ("cd / && env -u IDENTITY_HEADER az login", "<login>"),
    ] {
        let run = shim(script).exits(42);
        assert_eq!(run.stdout, passed_on, "{script}");
    }
    shim("az account get-access-token --nonsense").exits(2).says("does not know --nonsense");
    shim("env -u IDENTITY_HEADER az account get-access-token").exits(1).says("IDENTITY_HEADER");
    // one stand-in inside another still finds the real one
    let path = env!("CARGO_BIN_EXE_tokenkeep");
    let nested = format!("{path} exec --az-shim --disable-instance-discovery -- az version");
    assert_eq!(shim(&nested).exits(42).stdout, "<version>");
    let mut none = sh(&world, &["--az-shim"], "PATH=${PATH%%:*}; az version");
    run(&mut none).exits(127).says("az: not found");
    assert_eq!(std::fs::read_dir(world.running().join("shims")).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn exec_ends_as_its_child_does() {
    let world = signed_in();
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        assert_eq!(run(&mut sh(&world, &[], script)).code, Some(code), "{script}");
    }
    run(&mut exec_words(&world, &["/nonexistent/program"])).exits(127).says("cannot be run");
    run(&mut exec_words(&world, &["/etc/passwd"])).exits(126);
    run(&mut world.command(&["exec"])).exits(125);
    run(&mut sh(&world, &["--nonsense"], ":")).exits(125);
    run(&mut sh(&world, &["--expires", "soon"], ":")).exits(125).says("30m");
    run(&mut sh(&world, &["--scope-allow", "a b"], ":")).exits(125);
    world.run(&["logout", "--all"]).ok();
    run(&mut exec_words(&world, &["true"])).exits(125).says("tokenkeep login");
}

#[test]
fn standard_input_and_output_are_the_childs_own() {
    let world = signed_in();
    let mut exec = exec(&world, &[], &Command::new("cat"), &[]);
    let mut child = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut input = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == sent && output.stderr.is_empty() && output.status.success());
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn signals_reach_the_child() {
    let world = signed_in();
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!(
            "import os, signal\nsignal.signal(signal.SIG{name}, lambda *_: (os.write(1, b'{name}'), os._exit(9)))\n\
             os.write(1, b'ready\\n')\nwhile True: signal.pause()"
        );
        let mut child = started(&mut exec(&world, &[], &Command::new("/usr/bin/python3"), &["-c", &script]));
        assert_eq!(first_line(&mut child), "ready");
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!((rest.trim(), child.wait().unwrap().code()), (name, Some(9)));
    }
}

#[test]
fn a_signal_that_we_were_started_to_ignore_is_ignored_by_the_child_too() {
    let world = signed_in();
    let exec = sh(&world, &[], "kill -HUP $$; kill -HUP $PPID; echo still here");
    let mut nohup = Command::new("nohup");
    through(&mut nohup, &exec);
    assert_eq!(run(&mut nohup).ok().stdout.trim(), "still here");
}

/// A person at a terminal: presses Ctrl-C once the child is ready, and Return once it has noticed.
const PERSON: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def wait_for(text):
    global seen
    while text not in seen:
        seen += os.read(terminal, 4096)
wait_for(b"ready")
os.write(terminal, b"\x03")
wait_for(b"pressed")
os.write(terminal, b"\n")
wait_for(b"count")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(seen.decode().split("count ")[1].split()[0], code)
"#;

const COUNTS_KEYS: &str = r#"
import os, signal, sys
count = 0
def pressed(*_):
    global count
    count += 1
    os.write(1, b"pressed\n")
signal.signal(signal.SIGINT, pressed)
os.write(1, b"ready\n")
os.read(0, 1)
os.write(1, b"count %d \n" % count)
sys.exit(5 if os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp() else 6)
"#;

#[test]
fn a_key_of_the_terminal_reaches_the_child_once_and_the_terminal_is_its_own() {
    let world = signed_in();
    let exec = exec(&world, &[], &Command::new("/usr/bin/python3"), &["-c", COUNTS_KEYS]);
    let mut person = Command::new("/usr/bin/python3");
    person.args(["-c", PERSON]);
    through(&mut person, &exec);
    assert_eq!(run(&mut person).ok().stdout.trim(), "1 5");
}

#[test]
fn a_grant_is_listed_while_its_child_lives() {
    let world = signed_in();
    assert_eq!(world.run(&["grants"]).ok().says("No program holds a grant").stdout, "");
    let sdk = python("any_credential.py");
    let mut command = exec(&world, &["--scope-allow", SCOPE, "--expires", "1h"], &Command::new("sh"), &[]);
    command
        .args(["-c", "\"$@\" >&2; echo ready; read -r _", "sh"])
        .arg(sdk.get_program())
        .args(sdk.get_args());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(first_line(&mut child), "ready");

    let grants = world.run(&["grants", "--json"]).ok().json()["grants"].clone();
    let grant = &grants[0];
    assert_eq!(grants.as_array().unwrap().len(), 1);
    assert_eq!(
        (&grant["pid"], &grant["way"], &grant["command"]),
        (&json!(child.id()), &json!("exec"), &json!("sh"))
    );
    assert_eq!(grant["account"]["username"], USER_ONE);
    assert_eq!((&grant["scopes"], &grant["tenants"]), (&json!([SCOPE]), &json!([TENANT_ONE])));
    assert_eq!((&grant["served"], &grant["denied"]), (&json!(1), &json!(0)));
    assert_eq!(grant["expires_on"].as_i64().unwrap() - grant["started"].as_i64().unwrap(), 3_600);
    let table = world.run(&["grants"]).ok().stdout;
    assert!(table.contains(grant["id"].as_str().unwrap()) && table.contains(SCOPE), "{table}");

    drop(child.stdin.take());
    assert!(child.wait().unwrap().success() || child.wait().unwrap().code() == Some(1));
    assert_eq!(world.run(&["grants", "--json"]).ok().json()["grants"], json!([]));

    // a server that was killed leaves a file, which nobody takes for a grant
    let mut killed = started(&mut sh(&world, &["--az-shim"], "echo ready; sleep 1"));
    assert_eq!(first_line(&mut killed), "ready");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(std::fs::read_dir(world.running().join("grants")).unwrap().count(), 1);
    assert_eq!(world.run(&["grants", "--json"]).ok().json()["grants"], json!([]));
    assert_eq!(std::fs::read_dir(world.running().join("grants")).unwrap().count(), 0);
    run(&mut sh(&world, &["--az-shim"], ":")).ok();
    assert_eq!(std::fs::read_dir(world.running().join("shims")).unwrap().count(), 0);
}

/// Every process's command line and environment, but that of one and what it started.
fn processes_but(parent: u32) -> String {
    let mut seen = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let of = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        seen += &String::from_utf8_lossy(&of("cmdline"));
        let status = String::from_utf8_lossy(&of("status")).into_owned();
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        if !is_child && pid != std::process::id() {
            seen += &String::from_utf8_lossy(&of("environ"));
        }
    }
    seen
}

#[test]
fn the_secret_stands_in_the_childs_environment_and_nowhere_else() {
    let world = signed_in();
    let script = "echo \"$IDENTITY_HEADER\"; exec cat";
    let mut command = sh(&world, &["--az-shim", "-vv"], script);
    command.env("RUST_LOG", "trace").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let secret = first_line(&mut child);
    assert_eq!(secret.len(), 43);
    let everybody = processes_but(child.id());
    assert!(everybody.contains("exec"), "the list is alive");
    assert!(!everybody.contains(&secret));

    let mut files = Command::new("grep");
    files.args(["-r", "-F", "-l", &secret]).arg(world.home());
    run(&mut files).exits(1);
    let listed = [world.run(&["grants"]).ok(), world.run(&["grants", "--json", "-v"]).ok()];
    assert!(listed.iter().all(|run| !run.output().contains(&secret)));

    drop(child.stdin.take());
    let mut logs = String::new();
    child.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
    child.wait().unwrap();
    assert!(!logs.contains(&secret), "{logs}");
}

#[test]
fn what_the_doors_log_and_say_holds_no_secret() {
    let world = signed_in();
    for (_, sdk) in sdks() {
        for (scope, credential) in [(SCOPE, "DefaultAzureCredential"), (VAULT, "ManagedIdentityCredential")] {
            let options = ["--scope-allow", SCOPE, "-vv"];
            let args = ["--scope", scope, "--credential", credential];
            let mut command = exec(&world, &options, &sdk, &args);
            let run = run(command.env("RUST_LOG", "trace"));
            assert!(run.stderr.contains("app-service"), "the logs are on: {}", run.stderr);
            for secret in world.emulator.secrets() {
                assert!(!run.stderr.contains(&secret.value), "{}", run.stderr);
            }
            assert!(!run.stderr.contains("CANARY"), "{}", run.stderr);
        }
    }
}

#[test]
fn serve_tells_its_variables_once_and_to_nobody_else() {
    let world = signed_in();
    world.run(&["serve"]).exits(2).says("--scope-allow");
    let file = world.home().join("doors.env");
    let option = format!("--env-file={}", file.display());
    let mut command = world.command(&["serve", "--scope-allow", SCOPE, &option]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let names: Vec<_> = text.lines().map(|line| line.split_once('=').unwrap().0).collect();
    assert_eq!(names[0], "AZURE_TOKEN_CREDENTIALS");
    assert_eq!(names[1..], ["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZD_AUTH_ENDPOINT", "AZD_AUTH_KEY"]);
    let mut sdk = python("any_credential.py");
    sdk.envs(text.lines().filter_map(|line| line.split_once('=')));
    run(&mut sdk).ok();
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(world.run(&["grants", "--json"]).ok().json()["grants"], json!([]));

    // as ssh-agent is used
    let program = env!("CARGO_BIN_EXE_tokenkeep");
    let script = format!(
        "eval \"$({program} serve -q --disable-instance-discovery --scope-allow '*' &)\" && \"$@\"; {program} grants revoke --all -q --disable-instance-discovery"
    );
    let sdk = python("any_credential.py");
    let mut shell = Command::new("sh");
    let environment = world.command(&[]);
    let mut inner = Command::new("sh");
    inner.args(["-c", &script, "sh"]).arg(sdk.get_program()).args(sdk.get_args());
    inner.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["-c", "exec \"$@\"", "sh"]);
    through(&mut shell, &inner);
    assert_eq!(claims_of(&run(&mut shell).ok().json()["token"])["upn"], USER_ONE);
}

#[test]
fn the_list_of_grants_is_in_the_sessions_folder_and_in_no_open_one() {
    let world = signed_in();
    let runtime = world.home().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let mode = |mode| std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    let program = env!("CARGO_BIN_EXE_tokenkeep");
    let script = format!(
        "{program} grants --json --disable-instance-discovery; ls \"$XDG_RUNTIME_DIR\"/tokenkeep/grants"
    );
    let mut command = sh(&world, &[], &script);
    let listed = run(command.env("XDG_RUNTIME_DIR", &runtime)).ok().stdout;
    assert!(listed.contains("\"command\": \"sh\"") && listed.ends_with(".grant\n"), "{listed}");

    std::fs::set_permissions(runtime.join("tokenkeep"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = sh(&world, &[], "echo ran");
    let refused =
        run(command.env("XDG_RUNTIME_DIR", &runtime)).exits(125).says("others may enter it: mode 0777");
    assert_eq!(refused.stdout, "");
}

#[test]
fn a_child_is_served_by_the_agent_while_there_is_one_and_without_it_nothing_is_lost() {
    let world = signed_in();
    let agent = Agent::of(&world);
    let sdk = python("any_credential.py");
    for _ in 0..3 {
        let answer = run(&mut exec(&world, &[], &sdk, &["--scope", VAULT])).ok().json();
        assert_eq!(claims_of(&answer["token"])["upn"], USER_ONE);
    }
    let counters = agent.status()["counters"].clone();
    assert_eq!((&counters["token_requests"], &counters["refreshes"]), (&json!(3), &json!(1)), "{counters}");
    let denied = run(&mut exec(&world, &["--scope-allow", "https://a"], &sdk, &["--scope", VAULT]));
    assert!(denied.stdout.contains("--scope-allow"), "{denied:?}");
    assert_eq!(agent.status()["counters"]["token_requests"], 3, "the grant's own list comes first");
    run(&mut sh(&world, &["--account", "nobody"], ":")).exits(125).says("no account");

    // the agent ends in the middle of a child's life, and comes back
    let script = format!(
        "read -r _; \"$@\" --scope {VAULT} && \"$@\" --scope https://storage.azure.com/.default; echo asked; \
         read -r _; exec \"$@\" --scope {VAULT}"
    );
    let mut command = exec(&world, &[], &Command::new("sh"), &["-c", &script, "sh"]);
    command.arg(sdk.get_program()).args(sdk.get_args());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    agent.terminate();
    assert_eq!(agent.ended().0, Some(0));
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.ends_with("asked\n") {
        assert_ne!(std::io::BufRead::read_line(&mut output, &mut said).unwrap(), 0, "{said}");
    }
    assert_eq!(said.matches("\"ok\": true").count(), 2, "{said}");
    let agent = Agent::of(&world);
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(agent.status()["counters"]["token_requests"], 1);
}

#[test]
fn a_locked_agent_is_not_gone_round_by_a_door_not_even_by_one_that_is_open() {
    let world = signed_in();
    let agent = Agent::of(&world);
    let serve = ["serve", "--scope-allow", "*", "--json"];
    let served = Served::by(&mut world.command(&serve));
    assert_eq!(served.identity("https://management.azure.com", &[]).status, 200);
    world.run(&["agent", "lock"]).ok();

    let refused = served.identity("https://management.azure.com", &[]);
    assert_eq!(refused.status, 400);
    assert!(refused.json()["message"].as_str().unwrap().contains("the agent is locked"), "{refused:?}");
    world.run(&serve[..3]).exits(7).says("the agent is locked");
    run(&mut exec_words(&world, &["true"])).exits(125).says("the agent is locked");
    world.run(&["token", "--scope", SCOPE]).exits(7).says("the agent is locked");
    run(exec_words(&world, &["true"]).env("TOKENKEEP_NO_AGENT", "1")).ok();
    run(world.command(&["token", "--scope", SCOPE]).env("TOKENKEEP_NO_AGENT", "1")).ok();

    world.run(&["agent", "unlock"]).ok();
    assert_eq!(served.identity("https://management.azure.com", &[]).status, 200);
    drop(agent);
}

#[test]
fn exec_dumps_no_core_and_its_child_may() {
    use std::os::unix::process::ExitStatusExt as _;

    let world = signed_in();
    let folder = tempfile::tempdir().unwrap();
    let core_dumps = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    let dumping = |words: &[&str]| {
        let exec = exec_words(&world, words);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"ulimit -c unlimited && cd "$1" && shift && exec "$@""#, "sh"]);
        command.arg(folder.path()).arg(exec.get_program()).args(exec.get_args()).env_clear();
        command.envs(exec.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    };
    let mut held = dumping(&["sh", "-c", "ulimit -c; exec cat"]).spawn().unwrap();
    assert_eq!(first_line(&mut held), "unlimited", "the child's own matter");
    kill_process(Pid::from_raw(i32::try_from(held.id()).unwrap()).unwrap(), Signal::ABORT).unwrap();
    let ended = held.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped(), core_dumps()), (Some(6), false, 0));

    let child = dumping(&["sh", "-c", "kill -ABRT $$"]).output().unwrap();
    assert_eq!(child.status.code(), Some(134));
    assert_eq!(core_dumps(), 1, "or a limit of our own proves nothing; set core_pattern to a file's name");
}
