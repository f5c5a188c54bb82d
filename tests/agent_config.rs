//! A running agent goes by `config.toml` as it is now, and by nothing that is half of it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use emulator::USER_ONE;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::support::{Agent, GRAPH, SCOPE, World, found, run, until};

const DENY_GRAPH: &str = "[[policy.rule]]\naction = 'deny'\nscope = 'https://graph.microsoft.com'\n";
const ASK_FOR_GRAPH: &str = "[[policy.rule]]\naction = 'ask'\nscope = 'https://graph.microsoft.com'\n";

fn file(world: &World) -> PathBuf {
    let folder = world.places().config.join("tokenkeep");
    fs::create_dir_all(&folder).unwrap();
    folder.join("config.toml")
}

/// As an editor does: another file takes the place of the old one.
fn write(file: &Path, text: &str) {
    let next = file.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, file).unwrap();
}

/// What becomes of a request: 200 or 403.
fn status_of(agent: &Agent, world: &World, scope: &str) -> u16 {
    agent.token(world, &json!({"scopes": [scope]})).status
}

fn until_it_is(status: u16, agent: &Agent, world: &World, scope: &str) {
    until("the file's word holds", || status_of(agent, world, scope) == status);
}

fn signed_in() -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world
}

#[test]
fn a_rule_holds_from_when_it_is_written_to_when_it_is_taken_back() {
    let world = signed_in();
    let agent = Agent::of(&world);
    assert_eq!(status_of(&agent, &world, GRAPH), 200);
    // There was not even a folder.
    let file = file(&world);
    write(&file, DENY_GRAPH);
    until_it_is(403, &agent, &world, GRAPH);
    assert_eq!(status_of(&agent, &world, SCOPE), 200);
    world.run(&["token", "--scope", GRAPH]).exits(9).says("hint: change").says("at once");
    let config = &agent.status()["config"];
    assert_eq!((&config["path"], &config["is_watched"]), (&json!(file), &json!(true)));
    write(&file, "");
    until_it_is(200, &agent, &world, GRAPH);
    // Written over instead of replaced, behind a link.
    let kept = world.home().join("kept.toml");
    fs::write(&kept, "").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&kept, &file).unwrap();
    fs::write(&kept, DENY_GRAPH).unwrap();
    until_it_is(403, &agent, &world, GRAPH);
    fs::remove_file(&file).unwrap();
    until_it_is(200, &agent, &world, GRAPH);
    assert_eq!(agent.status()["config"]["problem"], json!(null), "it need not be there");
}

#[test]
fn a_file_that_is_named_from_here_is_the_same_for_an_agent_that_is_left_behind() {
    let world = signed_in();
    let folder = world.home().join("here");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("mine.toml");
    write(&file, DENY_GRAPH);
    let mut start = world.command(&["agent", "start"]);
    run(start.current_dir(&folder).env("TOKENKEEP_CONFIG", "mine.toml")).ok();
    let status = world.run(&["agent", "status", "--json"]).ok().json();
    assert_eq!(status["config"]["path"], json!(file));
    world.run(&["token", "--scope", GRAPH]).exits(9);
    world.run(&["agent", "stop"]).ok();
}

fn questions(world: &World) -> Vec<Value> {
    world.run(&["agent", "consent", "--json"]).ok().json()["open"].as_array().unwrap().clone()
}

#[test]
fn no_yes_of_a_person_beats_a_rule_that_denies_by_now() {
    let world = signed_in();
    let file = file(&world);
    write(&file, ASK_FOR_GRAPH);
    let agent = Agent::of(&world);
    let ask = || {
        let mut token = world.command(&["token", "--scope", GRAPH]);
        let token = token.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let question = found("the question", || questions(&world).pop());
        (token.unwrap(), question["id"].as_str().unwrap().to_owned())
    };
    let (token, id) = ask();
    world.run(&["agent", "consent", "allow", &id]).ok();
    assert!(token.wait_with_output().unwrap().status.success());
    world.run(&["token", "--scope", GRAPH]).ok();
    let remembered =
        || world.run(&["agent", "consent", "--json"]).ok().json()["remembered"].as_array().unwrap().len();
    assert_eq!(remembered(), 1);

    // What nobody is asked about shows when the file is read.
    let deny_both = format!("{DENY_GRAPH}{ASK_FOR_GRAPH}[[policy.rule]]\naction = 'deny'\nscope = '{SCOPE}'");
    write(&file, &deny_both);
    until_it_is(403, &agent, &world, SCOPE);
    world.run(&["token", "--scope", GRAPH]).exits(9).says("the rule in line 2");
    assert_eq!(remembered(), 1);
    write(&file, ASK_FOR_GRAPH);
    until("what was said holds again", || {
        run(&mut world.command(&["token", "--scope", GRAPH])).code == Some(0)
    });

    // Somebody is being asked when the rule is written.
    world.run(&["agent", "consent", "forget", "--all"]).ok();
    let (token, id) = ask();
    write(&file, &deny_both);
    until_it_is(403, &agent, &world, SCOPE);
    world.run(&["agent", "consent", "allow", &id]).ok();
    let denied = token.wait_with_output().unwrap();
    assert_eq!(denied.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("the rule in line 2"), "{denied:?}");
}

#[test]
fn how_a_person_is_asked_is_as_the_file_says_now() {
    let world = signed_in();
    let file = file(&world);
    write(&file, &format!("[policy]\nask_timeout = '1s'\n{ASK_FOR_GRAPH}"));
    let agent = Agent::of(&world);
    assert_eq!(status_of(&agent, &world, GRAPH), 403, "nobody says anything");
    let program = world.home().join("says-yes");
    fs::write(&program, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let asking = format!("ask_program = '{}'\nremember = '1h'", program.display());
    write(&file, &format!("[policy]\nask_timeout = '1s'\n{asking}\n{ASK_FOR_GRAPH}"));
    until_it_is(200, &agent, &world, GRAPH);
    let told = world.run(&["agent", "consent", "--json"]).ok().json();
    let until = told["remembered"][0]["until"].as_i64().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    assert!((3_500..=3_600).contains(&(until - now)), "{told}");
}

#[test]
fn one_that_cannot_be_used_changes_nothing_and_that_is_told() {
    let world = signed_in();
    let file = file(&world);
    write(&file, DENY_GRAPH);
    let agent = Agent::start(world.command(&["agent"]).env("RUST_LOG", "warn"), &world.agent_socket());
    assert_eq!((status_of(&agent, &world, GRAPH), status_of(&agent, &world, SCOPE)), (403, 200));
    let told = |what: &str| {
        until(what, || agent.status()["config"]["problem"].as_str().is_some_and(|told| told.contains(what)));
        assert_eq!((status_of(&agent, &world, GRAPH), status_of(&agent, &world, SCOPE)), (403, 200));
    };
    write(&file, "[policy]\ndefault = 'deny'\n[[policy.rule]]\naction = 'allow\n");
    told("config.toml, line 4, column 16: ");
    write(&file, "[policy]\ndefault = 'deny'\nspeed = 9\n");
    told("unknown field `speed`");
    let shown = world.run(&["agent", "status"]).ok().stdout;
    assert!(shown.contains(", not as it is now: ") && shown.contains("hint: correct it"), "{shown}");
    write(&file, "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    told("others may write to");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    until_it_is(200, &agent, &world, GRAPH);
    assert_eq!(agent.status()["config"]["hint"], json!(null));
    agent.terminate();
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0));
    let warnings = said.matches("holds until that is corrected").count();
    assert!(warnings >= 3, "{said}");
}

#[test]
fn limits_hold_at_once_and_an_option_wins_over_the_file() {
    let world = signed_in();
    let file = file(&world);
    let agent = Agent::start(&mut world.command(&["agent", "--lock-after-idle=2h"]), &world.agent_socket());
    let left = || agent.status()["locks_in_seconds"].as_u64().unwrap();
    assert!((7_100..=7_200).contains(&left()));
    write(&file, "[agent]\nlock_after = '1h'\nlock_after_idle = '10m'\n");
    until("the file's limit holds", || left() <= 3_600);
    assert!(left() > 3_500, "and the option's, which is not the shorter one by now");
    write(&file, "[agent]\nlock_after = '1s'\n");
    let because = found("it is locked", || {
        let status = agent.try_get("/v1/status").ok()?.body;
        (status["state"] == "locked").then(|| status["locked_because"].clone())
    });
    assert_eq!(because, "limit");
    // What changes while it is locked holds once it is not.
    for (text, is_usable) in [("[agnet]", false), ("[agent]\nlock_after = '3h'\n", true)] {
        write(&file, text);
        until("a locked agent reads it", || agent.status()["config"]["problem"].is_null() == is_usable);
    }
    world.run(&["agent", "unlock"]).ok();
    until("it has another limit", || agent.status()["locks_in_seconds"].as_u64() > Some(7_000));
}

/// Asks its front door for a token again and again, and writes the file in between.
const ASK_AND_WRITE: &str = r"
import json, os, sys, urllib.error, urllib.request
file, texts = sys.argv[1], json.loads(sys.argv[2])
url = os.environ['IDENTITY_ENDPOINT'] + '?api-version=2019-08-01&resource=https://management.azure.com'
request = urllib.request.Request(url, headers={'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']})
def ask():
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
told = [ask()]
for text in texts:
    open(file, 'w').write(text)
    told.append(ask())
os.unlink(file)
print(json.dumps(told + [ask()]))
";

#[test]
fn a_front_door_without_an_agent_goes_by_it_too() {
    let world = signed_in();
    let file = file(&world);
    write(&file, "");
    let texts =
        json!(["[policy]\ndefault = 'deny'", "[policy]\ndefualt = 'allow'", "[policy]\ndefault = 'allow'"]);
    let mut exec = world.command(&["exec"]);
    exec.args(["--", "/usr/bin/python3", "-c", ASK_AND_WRITE]).arg(&file).arg(texts.to_string());
    assert_eq!(run(&mut exec).ok().json(), json!([200, 403, 403, 200, 200]));
}

#[test]
fn a_hang_up_has_it_read_what_no_system_tells_of() {
    let world = signed_in();
    let [first, second, middle] = ["first", "second", "middle"].map(|name| {
        let folder = world.home().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    });
    write(&first.join("mine.toml"), "");
    write(&second.join("mine.toml"), DENY_GRAPH);
    let link = middle.join("link");
    symlink(first.join("mine.toml"), &link).unwrap();
    symlink(&link, file(&world)).unwrap();
    let agent = Agent::of(&world);
    let pid = agent.pid();
    assert_eq!(status_of(&agent, &world, GRAPH), 200);
    let next = middle.join("next");
    symlink(second.join("mine.toml"), &next).unwrap();
    fs::rename(next, link).unwrap();
    agent.signal(Signal::HUP);
    until_it_is(403, &agent, &world, GRAPH);
    assert_eq!(agent.status()["pid"], json!(pid));
}

#[test]
fn where_the_system_tells_nothing_that_is_told_and_a_hang_up_helps() {
    let world = signed_in();
    let command = world.command(&["agent"]);
    let mut alone = Command::new("unshare");
    let script = "echo 0 >/proc/sys/user/max_inotify_instances; exec \"$@\"";
    alone.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    alone.arg(command.get_program()).args(command.get_args()).env_clear();
    alone.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let agent = Agent::start(alone.env("PATH", "/usr/bin:/bin"), &world.agent_socket());
    assert_eq!(agent.status()["config"]["is_watched"], json!(false));
    assert!(world.run(&["agent", "status"]).ok().stdout.contains(", not watched: "));
    let doctor = world.run(&["doctor", "--offline", "--json"]).exits(1).json();
    let findings = doctor["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["id"] == "agent-config-unwatched").unwrap();
    assert_eq!(found["fix"], json!(format!("after a change: kill -HUP {}", agent.pid())));
    write(&file(&world), DENY_GRAPH);
    agent.signal(Signal::HUP);
    until_it_is(403, &agent, &world, GRAPH);
}

#[test]
fn a_hang_up_at_the_instant_of_a_lock_ends_nobody() {
    let world = World::plaintext();
    let agent = Agent::of(&world);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                agent.signal(Signal::HUP);
                std::thread::yield_now();
            }
        });
        for _ in 0..5 {
            let locked = world.run(&["agent", "lock", "--json"]);
            let unlocked = world.run(&["agent", "unlock", "--json"]);
            if locked.code != Some(0) || unlocked.code != Some(0) {
                is_over.store(true, Ordering::Relaxed);
                panic!("{locked:?} {unlocked:?}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(agent.status()["pid"], json!(agent.pid()));
}

#[test]
fn in_the_foreground_it_ends_with_its_terminal() {
    let world = World::plaintext();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let held = File::options().read(true).write(true).open(&name).unwrap();
    let on_it = |args: &[&str], socket: &Path| {
        let command = world.command(args);
        let mut session = Command::new("sh");
        session.args(["-c", "exec setsid --ctty -- \"$@\" <\"$TERMINAL\"", "sh"]);
        session.arg(command.get_program()).args(command.get_args()).env_clear();
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        session.env("TERMINAL", &name).env("PATH", "/usr/bin:/bin").env("TOKENKEEP_SOCK", socket);
        Agent::start(&mut session, socket)
    };
    let folder = world.home().join("socket");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let mut agent = on_it(&["agent"], &folder.join("agent.sock"));
    agent.signal(Signal::HUP);
    assert_eq!(agent.status()["state"], "unlocked", "the terminal is there");
    drop((terminal, held));
    until("it has ended", || agent.child.try_wait().unwrap().is_some());
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(!folder.join("agent.sock").exists(), "in order");
}
