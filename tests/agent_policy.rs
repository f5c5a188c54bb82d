//! Who asks is known, written down, and held against the user's own policy.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use emulator::{USER_ONE, USER_TWO};
use serde_json::{Value, json};

use crate::support::{Agent, AgentReply as Reply, GRAPH, Run, SCOPE, World, built, parse_reply, post, run};

/// What a header may have in it; a file's name may have anything.
const HOSTILE: &str = "evil\u{9b}31m\u{202e}exe\u{200b}";

/// A world with one signed-in user and this policy.
fn with_policy(policy: &str) -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    write_policy(&world, policy);
    world
}

fn write_policy(world: &World, policy: &str) -> PathBuf {
    let folder = world.places().config.join("tokenkeep");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    fs::write(&file, policy).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A program of its own at this place, which can ask the agent.
fn program(world: &World, name: &str) -> PathBuf {
    let path = world.home().join("programs").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fresh = path.with_extension("new");
    fs::copy(built("ask-agent"), &fresh).unwrap();
    fs::rename(fresh, &path).unwrap();
    path
}

fn start(program: &Path, agent: &Agent, request: &str) -> Child {
    let mut command = Command::new(program);
    command.arg(&agent.socket).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = loop {
        match command.spawn() {
            // another test's child holds the copy open until it has begun
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            child => break child.unwrap(),
        }
    };
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    child
}

/// What this program gets when it asks for a token.
fn asked_by(program: &Path, agent: &Agent, world: &World, members: &Value) -> Reply {
    let mut ask = world.agent_question();
    for (name, value) in members.as_object().unwrap() {
        ask[name] = value.clone();
    }
    let child = start(program, agent, &post("/v1/token", &ask));
    parse_reply(&child.wait_with_output().unwrap().stdout)
}

fn scopes(scope: &str) -> Value {
    json!({"scopes": [scope]})
}

#[test]
fn rules_go_by_program_scope_tenant_and_account_and_the_first_that_fits_decides() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    let (one, two) = (program(&world, "one"), program(&world, "two"));
    let file = write_policy(
        &world,
        &format!(
            "[policy]\ndefault = 'deny'\n
            [[policy.rule]]\nname = 'not graph'\naction = 'deny'\nscope = 'https://graph.microsoft.com'
            [[policy.rule]]\naction = 'deny'\ntenant = 'elsewhere.example'
            [[policy.rule]]\naction = 'allow'\nexecutable = '{}'\naccount = '{USER_ONE}'",
            one.display()
        ),
    );
    let agent = Agent::of(&world);
    let ask = |program: &Path, account: &str, members: &Value| {
        let mut all = json!({"account": account, "scopes": [SCOPE]});
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        asked_by(program, &agent, &world, &all)
    };
    assert_eq!(ask(&one, USER_ONE, &json!({})).ok()["account"]["username"], USER_ONE);
    let denied = |reply: Reply, by: &str| {
        assert_eq!((reply.status, reply.kind()), (403, "denied_by_policy"), "{reply:?}");
        let message = reply.body["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(by) && message.contains(&*file.to_string_lossy()), "{message}");
        assert!(reply.body["error"]["hint"].as_str().unwrap().contains("config.toml"), "{reply:?}");
    };
    denied(ask(&two, USER_ONE, &json!({})), "the default of");
    denied(ask(&one, USER_TWO, &json!({})), "the default of");
    denied(ask(&one, USER_ONE, &scopes(GRAPH)), "the rule \"not graph\" (line 6)");
    denied(ask(&one, USER_ONE, &json!({"tenant": "elsewhere.example"})), "the rule in line 9");
    assert_eq!(world.emulator.count("token.refresh_token"), 0, "nobody was asked for what is denied");

    let status = agent.status();
    assert_eq!(status["counters"]["denials"], json!({"default": 2, "not graph": 1, "line 9": 1}), "{status}");
    assert_eq!(status["counters"]["refusals"]["denied_by_policy"], 4);
    let clients = status["clients"].as_array().unwrap();
    let of_one = clients.iter().find(|client| client["executable"] == json!(one)).unwrap();
    let own = std::env::current_exe().unwrap();
    assert_eq!(of_one["started_by"], json!(own), "this test");
}

#[test]
fn the_command_line_is_told_in_its_own_form_and_with_its_own_exit_code() {
    let world = with_policy("[[policy.rule]]\naction = 'deny'\nscope = 'https://graph.microsoft.com'");
    let _agent = Agent::of(&world);
    let token = ["token", "--scope", GRAPH];
    world.run(&token).exits(9).says("the rule in line 2").says("hint: change");
    let told = world.run(&[&token[..], &["--json"]].concat()).exits(9).json();
    assert_eq!(told["error"]["kind"], "denied_by_policy");
    world.run(&["token", "--scope", SCOPE]).ok();
    // The policy guards what goes through the agent, and says so: a program of the user's can read the cache.
    run(world.command(&token).env("TOKENKEEP_NO_AGENT", "1")).ok();
}

#[test]
fn a_program_that_was_replaced_or_sees_other_files_is_not_the_one_that_is_allowed() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let trusted = program(&world, "trusted");
    write_policy(
        &world,
        &format!(
            "[policy]\ndefault = 'deny'\n[[policy.rule]]\naction = 'allow'\nexecutable = '{}'",
            trusted.display()
        ),
    );
    let agent = Agent::of(&world);
    asked_by(&trusted, &agent, &world, &scopes(SCOPE)).ok();

    // Began as the trusted file, which another one replaced before it asked.
    let mut ask = world.agent_question();
    ask["scopes"] = json!([SCOPE]);
    let request = post("/v1/token", &ask);
    let mut child = Command::new(&trusted);
    let mut child = child.arg(&agent.socket).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    program(&world, "trusted");
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let reply = parse_reply(&child.wait_with_output().unwrap().stdout);
    assert_eq!(reply.kind(), "denied_by_policy");
    let message = reply.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("replaced or removed since it was started"), "{message}");

    // A mount of its own shows another program under the trusted one's name.
    let other = program(&world, "other");
    let script = format!(
        "mount --bind {} {} && exec {} {}",
        other.display(),
        trusted.display(),
        trusted.display(),
        agent.socket.display()
    );
    let mut masked = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    masked.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let reply = parse_reply(&masked.wait_with_output().unwrap().stdout);
    assert_eq!(reply.kind(), "denied_by_policy");

    // Connected as somebody else and became it afterwards: that is the program that runs.
    let mut became = Command::new(&other)
        .arg(&agent.socket)
        .args(["/bin/sh", "-c", "printf %s \"$REQUEST\"; exec cat >&2"])
        .env("REQUEST", &request)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut became.stderr.take().unwrap(), &mut text).unwrap();
    became.wait().unwrap();
    assert_eq!(parse_reply(&text).kind(), "denied_by_policy");
}

#[test]
fn what_exec_runs_is_the_one_that_asks_with_an_agent_and_without() {
    let world = with_policy("");
    let python = fs::canonicalize("/usr/bin/python3").unwrap();
    write_policy(
        &world,
        &format!(
            "[policy]\ndefault = 'deny'\n[[policy.rule]]\naction = 'allow'\nexecutable = '{}'\nscope = '{SCOPE}'",
            python.display()
        ),
    );
    const ASK: &str = r"
import json, os, sys, urllib.error, urllib.request
url = os.environ['IDENTITY_ENDPOINT'] + '?api-version=2019-08-01&resource=' + sys.argv[1]
request = urllib.request.Request(url, headers={'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']})
try:
    print(json.dumps({'status': urllib.request.urlopen(request).status}))
except urllib.error.HTTPError as error:
    print(json.dumps({'status': error.code, 'body': json.load(error)}))
";
    let through = |program: &Path, scope: &str| {
        let resource = scope.trim_end_matches("/.default");
        let program = program.to_str().unwrap();
        run(world.command(&["exec"]).args(["--", program, "-c", ASK, resource])).ok().json()
    };
    let copy = world.home().join("python");
    let check = || {
        assert_eq!(through(&python, SCOPE)["status"], 200);
        let denied = through(&python, GRAPH);
        assert_eq!(denied["status"], 403, "{denied}");
        assert!(denied["body"]["message"].as_str().unwrap().contains("denies"), "{denied}");
        fs::copy(&python, &copy).unwrap();
        assert_eq!(through(&copy, SCOPE)["status"], 403, "another program");
    };
    check();
    let agent = Agent::of(&world);
    check();
    let status = agent.status();
    assert_eq!(status["counters"]["denials"]["default"], 2, "{status}");
    let clients = status["clients"].as_array().unwrap();
    let door = clients.iter().find(|client| client["grant"].is_string()).unwrap();
    assert!(door["grant"].as_str().unwrap().starts_with("exec "), "{door}");

    // Somebody else who says so is not believed.
    let child = program(&world, "pretender");
    let members = json!({"scopes": [SCOPE], "behind": {"grant": "x", "way": "exec", "pid": 1}});
    assert_eq!(asked_by(&child, &agent, &world, &members).kind(), "denied_by_policy");
}

#[test]
fn who_asked_is_in_the_audit_trail_and_no_name_of_its_own_can_do_harm() {
    let world = World::vault();
    let vault = |args: &[&str]| world.run(args).ok();
    vault(&["vault", "init", "--protector", "key-file", "--no-recovery-key"]);
    world.login(USER_ONE, &[]);
    write_policy(&world, "[[policy.rule]]\naction = 'deny'\nscope = 'https://graph.microsoft.com'");
    let agent = Agent::of(&world);
    let asks = program(&world, "it\u{1b}[2J\nasks");
    let mut ask = world.agent_question();
    for scope in [SCOPE, SCOPE, GRAPH] {
        ask["scopes"] = json!([scope]);
        let request =
            post("/v1/token", &ask).replacen("host:", &format!("user-agent: {HOSTILE}\r\nhost:"), 1);
        let child = start(&asks, &agent, &request);
        let reply = parse_reply(&child.wait_with_output().unwrap().stdout);
        assert_eq!(reply.status, if scope == SCOPE { 200 } else { 403 }, "{reply:?}");
    }
    let status = agent.status().to_string();
    let shown = world.run(&["agent", "status"]).ok().stdout;
    world.run(&["agent", "lock"]).ok();
    assert_eq!(asked_by(&asks, &agent, &world, &scopes(SCOPE)).kind(), "locked");
    world.run(&["agent", "stop"]).ok();

    let audit = world.run(&["audit", "--verify", "--json"]).ok();
    let told = audit.json();
    assert!(told["verified"]["events"].as_u64().unwrap() > 3, "{told}");
    let events = told["events"].as_array().unwrap();
    let of = |action: &str, reason: &str| {
        let found = events.iter().find(|event| event["action"] == action && event["reason"] == reason);
        found.unwrap_or_else(|| panic!("{action} {reason}: {told}")).clone()
    };
    let given = of("token_given", "cache");
    let actor = given["actor"].as_str().unwrap();
    assert!(actor.contains("/it\\u{1b}[2J\\u{a}asks (process"), "{actor}");
    assert!(
        actor.contains(&format!(", started by {}", std::env::current_exe().unwrap().display())),
        "{actor}"
    );
    assert!(actor.ends_with(", calls itself \"evil\\u{9b}31m\\u{202e}exe\\u{200b}\""), "{actor}");
    assert!(given["subject"].as_str().unwrap().contains(SCOPE), "{given}");
    assert_eq!(given["account"].as_str().unwrap().split('.').count(), 2);
    let denied = of("token_refused", "denied_by_policy");
    assert!(denied["subject"].as_str().unwrap().contains("graph.microsoft.com"), "{denied}");
    of("token_refused", "locked");

    let everywhere = [&status, &shown, &audit.stdout, &world.run(&["audit"]).ok().stdout];
    for text in everywhere {
        assert!(!text.contains(|c: char| "\u{1b}\u{9b}\u{202e}\u{200b}".contains(c)), "{text:?}");
        assert!(text.contains("evil"), "{text}");
    }
}

#[test]
fn a_policy_that_cannot_be_relied_on_starts_no_agent_and_opens_no_door() {
    let world = with_policy("[policy]\ndefualt = 'deny'");
    let file = world.places().config.join("tokenkeep").join("config.toml");
    for command in [&["agent"][..], &["agent", "start"]] {
        world.run(command).exits(2).says("config.toml, line 2").says("`defualt`").says("`default`");
    }
    run(world.command(&["exec"]).args(["--", "true"])).exits(125).says("line 2");
    world.run(&["token", "--scope", SCOPE]).ok();

    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    world.run(&["agent"]).exits(1).says("others may write to").says("chmod go-w");
    fs::remove_file(&file).unwrap();
    let named =
        world.command(&["agent"]).env("TOKENKEEP_CONFIG", &file).stdin(Stdio::null()).output().unwrap();
    Run::of(named, "agent").exits(1).says("No such file");
}
