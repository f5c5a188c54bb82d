//! The agent as a service of the user's own manager: units that systemd takes, and in which it works.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::USER_ONE;
use serde_json::{Value, json};

use crate::support::{GRAPH, Run, SCOPE, World, report, repository, run};

const UNITS: [&str; 2] = ["tokenkeep-agent.socket", "tokenkeep-agent.service"];

/// What systemd thinks of the service at most, from 0 (nothing may go wrong) to 10. It takes it for one of root's, and
/// much of what would count more needs privileges.
const MOST_EXPOSURE: f64 = 6.4;

fn units(world: &World) -> [PathBuf; 2] {
    UNITS.map(|name| world.places().config.join("systemd/user").join(name))
}

fn systemd_analyze(world: &World, args: &[&str]) -> Run {
    run(Command::new("systemd-analyze").args(args).args(units(world)).env("XDG_RUNTIME_DIR", world.home()))
}

#[test]
fn the_units_are_ones_that_systemd_takes_and_finds_little_fault_with() {
    let world = World::plaintext();
    let installed = world.run(&["agent", "install", "--lock-after=8h", "--no-lock-on-suspend", "--json"]);
    let installed = installed.ok().json();
    for (unit, told) in units(&world).iter().zip(installed["files"].as_array().unwrap()) {
        assert_eq!(told, &json!({"path": unit, "state": "written"}));
        assert_eq!(std::fs::metadata(unit).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let verified = systemd_analyze(&world, &["--user", "verify", "--man=no"]).ok();
    assert_eq!((verified.stdout.as_str(), verified.stderr.as_str()), ("", ""), "not a word of complaint");
    let service = std::fs::read_to_string(&units(&world)[1]).unwrap();
    let program = env!("CARGO_BIN_EXE_tokenkeep");
    let expected = format!(
        "\nExecStart={program} agent --lock-after=8h --no-lock-on-suspend --disable-instance-discovery \
         --cache={} --store=plaintext\n",
        world.cache
    );
    assert!(service.contains(&expected), "{service}");
    // What a manager gives anyway here.
    assert!(service.contains("\nLimitMEMLOCK=8M\n"), "{service}");
    assert!(service.contains("\nExecReload=kill -HUP $MAINPID\n"), "{service}");

    let mut security = Command::new("systemd-analyze");
    security.args(["--user", "security", "--offline=true", "--no-pager"]).arg(&units(&world)[1]);
    let security = run(security.env("XDG_RUNTIME_DIR", world.home())).ok();
    let (_, exposure) = security.stdout.rsplit_once("service: ").unwrap();
    let exposure: f64 = exposure.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= MOST_EXPOSURE, "{}", security.stdout);
    let version = run(Command::new("systemd-analyze").arg("--version")).ok();
    report(
        "agent-service",
        &format!(
            "agent: units verified by {}, exposure {exposure} of 10 (at most {MOST_EXPOSURE})",
            version.stdout.lines().next().unwrap()
        ),
    );
}

#[test]
fn what_somebody_edited_or_wrote_stays() {
    let world = World::plaintext();
    let state = |run: &Value| {
        run["files"].as_array().unwrap().iter().map(|file| file["state"].clone()).collect::<Vec<_>>()
    };
    let install = |args: &[&str]| world.run(&[&["agent", "install", "--json"], args].concat());
    let shown = install(&["--print"]).ok().json();
    assert!(!world.places().config.join("systemd").exists());
    assert_eq!(state(&install(&[]).ok().json()), ["written", "written"]);
    assert_eq!(state(&install(&[]).ok().json()), ["unchanged", "unchanged"]);
    assert_eq!(state(&install(&["--lock-after=1h"]).ok().json()), ["unchanged", "written"]);
    assert_eq!(state(&install(&[]).ok().json()), ["unchanged", "written"]);
    let [socket, service] = units(&world);
    assert_eq!(std::fs::read_to_string(&service).unwrap(), shown["files"][1]["content"]);

    let edited = std::fs::read_to_string(&service).unwrap().replace("LimitCORE=0", "LimitCORE=infinity");
    std::fs::write(&service, &edited).unwrap();
    std::fs::remove_file(&socket).unwrap();
    let refused = install(&[]).exits(1).json();
    assert_eq!(refused["error"]["kind"], "service_file_edited");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("\n  - LimitCORE=infinity\n  + LimitCORE=0"), "{message}");
    assert!(!socket.exists(), "all of it or nothing");
    let refused = world.run(&["agent", "uninstall", "--json"]).exits(1).json();
    assert_eq!(refused["error"]["kind"], "service_file_edited");
    assert_eq!(std::fs::read_to_string(&service).unwrap(), edited);
    assert_eq!(state(&install(&["--force"]).ok().json()), ["written", "written"]);

    let removed = world.run(&["agent", "uninstall", "--json"]).ok().json();
    assert_eq!(state(&removed), ["removed", "removed"]);
    assert!(removed["disable"].as_str().unwrap().starts_with("systemctl --user stop "));
    assert_eq!(state(&world.run(&["agent", "uninstall", "--json"]).ok().json()), ["absent", "absent"]);

    std::fs::write(&service, "[Service]\nExecStart=/bin/true\n").unwrap();
    for refused in [install(&[]), world.run(&["agent", "uninstall", "--force", "--json"])] {
        assert_eq!(refused.exits(1).json()["error"]["kind"], "service_file_foreign");
    }
    assert_eq!(std::fs::read_to_string(&service).unwrap(), "[Service]\nExecStart=/bin/true\n");
    std::fs::remove_file(&service).unwrap();
    std::os::unix::fs::symlink("/dev/null", &service).unwrap();
    install(&["--force"]).exits(1);
    assert_eq!(std::fs::read_link(&service).unwrap(), Path::new("/dev/null"));
}

#[test]
fn without_a_manager_that_answers_an_installed_agent_is_started_all_the_same() {
    let world = World::plaintext();
    world.run(&["agent", "install"]).ok();
    let started = world.run(&["agent", "start", "--json"]).ok().json();
    assert_eq!((&started["running"], &started["changed"]), (&json!(true), &json!(true)));
    assert_eq!(world.run(&["agent", "stop", "--json"]).ok().json()["changed"], true);
}

/// A user whose manager answers.
const SOMEBODY: u32 = 54_321;

/// What the user does; each line that begins with a name and a colon is looked at.
const SESSION: &str = r#"
say() { printf '%s: ' "$1"; shift; "$@" | tr '\n' ' '; echo; }
told() { /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
state() { systemctl --user show --property=ActiveState --value "$1"; }
tk() { "$HOME/tokenkeep" --disable-instance-discovery "$@"; }

printf pw | gnome-keyring-daemon --unlock --components=secrets --daemonize >/dev/null
tk vault init --protector kernel --no-recovery-key
for store in vault plaintext platform; do
    tk login --device-code --store "$store" --scope "$SCOPE"
done

sh -c "$(tk agent install --store vault --json | told enable)"
say asleep state tokenkeep-agent.service
for store in vault plaintext platform; do
    # By the provider and with a write, in the sandbox.
    say "$store" tk token --store "$store" --scope "$GRAPH" --json
done
say status tk agent status --json
pid=$(systemctl --user show --property=MainPID --value tokenkeep-agent.service)
say pid echo "$pid"
say sandbox grep -hE '^(Umask|NoNewPrivs|Seccomp):' "/proc/$pid/status"
say core grep -h '^Max core' "/proc/$pid/limits"
say unit systemctl --user show tokenkeep-agent.service
say locked tk agent lock --json
say refused tk token --store vault --scope "$GRAPH" --json
say unlocked tk agent unlock --json
say again tk token --store vault --scope "$GRAPH" --json
say reloaded systemctl --user reload tokenkeep-agent.service
say after tk agent status --json

say stopped tk agent stop --json
say off state tokenkeep-agent.socket
say without tk token --store vault --scope "$GRAPH" --json
say started tk agent start --json
say on state tokenkeep-agent.service
say mainpid systemctl --user show --property=MainPID --value tokenkeep-agent.service
tk agent stop
say other tk agent start --lock-after=1h --json
tk agent install --store vault --lock-after=1h
say same tk agent start --store vault --lock-after=1h --json
say left tk agent status --json

sh -c "$(tk agent uninstall --json | told disable)"
systemctl --user daemon-reload
say gone state tokenkeep-agent.socket
say files find "$HOME/.config/systemd" -type f -o -type l
say absent tk agent status --json
"#;

#[test]
fn a_users_manager_runs_it_in_its_sandbox_with_everything_that_it_needs() {
    let world = World::vault();
    let program = world.home().join("tokenkeep");
    std::fs::copy(env!("CARGO_BIN_EXE_tokenkeep"), &program).unwrap();
    let authority = world.home().join("ca.pem");
    std::fs::copy(world.emulator.ca_path(), &authority).unwrap();
    let given = run(Command::new("chown").arg("-R").arg(format!("{SOMEBODY}:{SOMEBODY}")).arg(world.home()));
    given.ok();
    for _ in 0..3 {
        world.emulator.approve(USER_ONE);
    }
    let mut session = Command::new(repository().join("tests/support/user-manager"));
    session.arg(world.home()).arg(SOMEBODY.to_string()).arg("env");
    for (name, value) in [
        ("AZURE_AUTHORITY_HOST", world.emulator.authority()),
        ("SSL_CERT_FILE", authority.display().to_string()),
        ("TOKENKEEP_CACHE", world.cache.clone()),
        ("SCOPE", SCOPE.to_owned()),
        ("GRAPH", GRAPH.to_owned()),
    ] {
        session.arg(format!("{name}={value}"));
    }
    session.args(["sh", "-c", SESSION]);
    let session = run(&mut session);
    let said = |name: &str| -> String {
        let line = session.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name}: {session:?}")).trim().to_owned()
    };
    let json = |name: &str| -> Value {
        serde_json::from_str(&said(name)).unwrap_or_else(|error| panic!("{name}: {error}: {session:?}"))
    };
    assert_eq!(said("asleep"), "inactive", "nobody had asked yet");
    for store in ["vault", "plaintext", "platform"] {
        assert_eq!(json(store)["source"], "agent", "{store}: {session:?}");
    }
    let status = json("status");
    assert_eq!(status["pid"].to_string(), said("pid"));
    assert_eq!(status["counters"]["refreshes"], 3, "{status}");
    assert!(status["socket"].as_str().unwrap().ends_with("/tokenkeep/agent.sock"));
    assert_eq!(said("sandbox"), "Umask:\t0077 NoNewPrivs:\t1 Seccomp:\t2");
    // What the manager made of lines that a process itself shows nothing of.
    let unit = said("unit");
    for setting in [
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "MemorySwapMax=0",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=1",
        "Restart=on-failure",
        "Type=notify",
    ] {
        assert!(unit.split(' ').any(|shown| shown == setting), "{setting}: {unit}");
    }
    assert_eq!(said("core").split_whitespace().filter(|word| *word == "0").count(), 2);
    assert_eq!(json("locked")["state"], "locked");
    assert_eq!(json("refused")["error"]["kind"], "locked");
    assert_eq!(json("unlocked")["state"], "unlocked");
    assert_eq!(json("again")["source"], "agent");
    assert_eq!(said("reloaded"), "");
    assert_eq!((&json("after")["pid"], &json("after")["state"]), (&status["pid"], &json!("unlocked")));

    assert_eq!(json("stopped")["changed"], true);
    assert_eq!(said("off"), "inactive");
    assert_eq!(json("without")["source"], "cache");
    assert_eq!(json("started")["pid"].to_string(), said("mainpid"));
    assert_eq!(said("on"), "active");
    assert_eq!(json("other")["error"]["kind"], "usage");
    assert_eq!(json("same")["changed"], true);
    assert!(json("left")["locks_in_seconds"].as_u64().unwrap() > 3_500, "the new unit counts");

    assert_eq!(said("gone"), "inactive");
    assert_eq!(said("files"), "");
    assert_eq!(json("absent")["error"]["kind"], "agent_unreachable");
}
