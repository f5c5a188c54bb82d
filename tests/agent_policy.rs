//! Who asks is known, written down, and held against the user's own policy.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emulator::{USER_ONE, USER_TWO};
use serde_json::{Value, json};

use crate::support::{
    Agent, AgentReply as Reply, Answer, GRAPH, Run, SCOPE, World, built, converse_openly, found, parse_reply,
    post, run, until,
};

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
fn rules_go_by_the_day() {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    // 1970 began on a Thursday; wherever the clock on the wall is, it is not two days off.
    let today = usize::try_from(since.as_secs() / 86_400 + 3).unwrap() % 7;
    let policy = |from: usize, to: usize| {
        let days = format!("{}-{}", DAYS[(today + from) % 7], DAYS[(today + to) % 7]);
        format!(
            "[policy]\ndefault = 'deny'\n[[policy.rule]]\naction = 'allow'\ndays = '{days}'\nhours = '00:00-24:00'"
        )
    };
    let world = with_policy(&policy(6, 8));
    let agent = Agent::of(&world);
    agent.token(&world, &scopes(SCOPE)).ok();
    drop(agent);
    write_policy(&world, &policy(2, 5));
    let agent = Agent::of(&world);
    assert_eq!(agent.token(&world, &scopes(SCOPE)).kind(), "denied_by_policy");
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

/// The command, ended after a while: an agent that should not start would run for ever.
fn bounded(world: &World, args: &[&str]) -> Command {
    let command = world.command(args);
    let mut timeout = Command::new("timeout");
    timeout.arg("30").arg(command.get_program()).args(command.get_args()).env_clear();
    timeout.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    timeout
}

#[test]
fn a_policy_that_cannot_be_relied_on_starts_no_agent_and_opens_no_door() {
    let world = with_policy("[policy]\ndefualt = 'deny'");
    let file = world.places().config.join("tokenkeep").join("config.toml");
    for command in [&["agent"][..], &["agent", "start"]] {
        run(&mut bounded(&world, command))
            .exits(2)
            .says("config.toml, line 2")
            .says("`defualt`")
            .says("`default`");
    }
    run(world.command(&["exec"]).args(["--", "true"])).exits(125).says("line 2");
    world.run(&["token", "--scope", SCOPE]).ok();

    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    run(&mut bounded(&world, &["agent"])).exits(1).says("others may write to").says("chmod go-w");
    fs::remove_file(&file).unwrap();
    run(bounded(&world, &["agent"]).env("TOKENKEEP_CONFIG", &file)).exits(1).says("No such file");
}

/// A program that asks, in the test's hands: it notes each question, and answers what it is told.
struct AskProgram {
    folder: PathBuf,
}

impl AskProgram {
    fn of(world: &World) -> Self {
        let folder = world.home().join("ask");
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let script = format!(
            "#!/bin/sh\necho \"$SSH_ASKPASS_PROMPT $$\" >> '{0}'\nprintf '%s\\n' \"$1\" >> '{1}'\n\
             read -r answer < '{2}'\nexit \"$answer\"\n",
            path("runs"),
            path("questions"),
            path("answers")
        );
        fs::write(folder.join("program"), script).unwrap();
        fs::set_permissions(folder.join("program"), fs::Permissions::from_mode(0o700)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("answers"), 0o600.into()).unwrap();
        Self { folder }
    }

    fn words(&self) -> String {
        format!("ask_program = '{}'\n", self.folder.join("program").display())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    fn runs(&self) -> usize {
        self.read("runs").lines().count()
    }

    /// Waits until the question is on the screen, so to speak, and answers it by this exit code.
    fn answer(&self, code: u8) {
        let given_up = Instant::now() + Duration::from_secs(30);
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(nonblocking);
        let mut answers = loop {
            // nobody reads before somebody asks
            match options.open(self.folder.join("answers")) {
                Ok(answers) => break answers,
                Err(error) => assert!(Instant::now() < given_up, "nobody asks: {error}"),
            }
            std::thread::yield_now();
        };
        writeln!(answers, "{code}").unwrap();
    }
}

fn open_questions(world: &World) -> Vec<Value> {
    let told = world.run(&["agent", "consent", "--json"]).ok().json();
    told["open"].as_array().unwrap().clone()
}

fn remembered(world: &World) -> Vec<Value> {
    let told = world.run(&["agent", "consent", "--json"]).ok().json();
    told["remembered"].as_array().unwrap().clone()
}

/// Waits for the one question that is open, for so many requests.
fn question(world: &World, waiting: usize) -> Value {
    found("the question", || match open_questions(world).as_slice() {
        [question] if question["waiting"] == json!(waiting) => Some(question.clone()),
        _ => None,
    })
}

const ASK_FOR_VAULT: &str = "[[policy.rule]]\naction = 'ask'\nscope = 'https://vault.azure.net'\n";
const VAULT: &str = "https://vault.azure.net/.default";

fn request_for(world: &World, scope: &str) -> String {
    let mut ask = world.agent_question();
    ask["scopes"] = json!([scope]);
    post("/v1/token", &ask)
}

fn reply_of(child: Child) -> Reply {
    parse_reply(&child.wait_with_output().unwrap().stdout)
}

#[test]
fn sixty_four_requests_ask_once_and_hold_up_nobody_else() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let asks = AskProgram::of(&world);
    write_policy(&world, &format!("[policy]\n{}{ASK_FOR_VAULT}", asks.words()));
    let agent = Agent::of(&world);
    let program_path = program(&world, "asks");
    let request = request_for(&world, VAULT);
    let burst: Vec<Child> = (0..64).map(|_| start(&program_path, &agent, &request)).collect();
    let asked = question(&world, 64);
    assert_eq!(asked["program"], json!(program_path));

    // While that is open everybody else is served.
    for _ in 0..10 {
        agent.token(&world, &scopes(SCOPE)).ok();
    }
    assert_eq!(open_questions(&world).len(), 1);
    asks.answer(0);
    let tokens: Vec<Value> = burst.into_iter().map(|child| reply_of(child).ok()["token"].clone()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(asks.runs(), 1);
    assert!(asks.read("runs").starts_with("confirm "), "{}", asks.read("runs"));
    let text = asks.read("questions");
    assert!(text.contains(&*program_path.to_string_lossy()) && text.contains(VAULT), "{text}");
    assert!(text.contains("A yes holds for 8 hours"), "{text}");
    crate::support::report(
        "agent-consent",
        "agent: 64 requests for what needs a word: 1 question, 64 tokens",
    );
}

#[test]
fn a_yes_is_for_this_file_and_scope_and_outlives_the_agent_until_it_is_taken_back() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let asks = AskProgram::of(&world);
    let policy = format!("[policy]\ndefault = 'ask'\n{}", asks.words());
    write_policy(&world, &policy);
    let trusted = program(&world, "trusted");
    let ask = |agent: &Agent, program: &Path, scope: &str, answer: Option<u8>| {
        let before = asks.runs();
        let child = start(program, agent, &request_for(&world, scope));
        answer.into_iter().for_each(|answer| asks.answer(answer));
        let reply = reply_of(child);
        assert_eq!(asks.runs() - before, usize::from(answer.is_some()), "{reply:?}");
        reply
    };
    let agent = Agent::of(&world);
    ask(&agent, &trusted, VAULT, Some(0)).ok();
    ask(&agent, &trusted, VAULT, None).ok();
    ask(&agent, &trusted, SCOPE, Some(0)).ok();
    let other = program(&world, "other");
    let refused = ask(&agent, &other, VAULT, Some(1));
    assert_eq!((refused.status, refused.kind()), (403, "denied_by_policy"));
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("you did not allow "), "{message}");
    assert_eq!(ask(&agent, &other, VAULT, None).kind(), "denied_by_policy", "a no holds for a while, too");
    assert_eq!(agent.status()["counters"]["denials"]["declined"], 2);

    world.run(&["agent", "stop"]).ok();
    drop(agent);
    let file = world.places().state.join("tokenkeep").join("consents.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let agent = Agent::of(&world);
    ask(&agent, &trusted, VAULT, None).ok();

    // Another file under the same name is asked about anew, and what was said of it is one more answer.
    let trusted = program(&world, "trusted");
    ask(&agent, &trusted, VAULT, Some(0)).ok();
    assert_eq!(remembered(&world).len(), 4);
    let known = remembered(&world);
    let of = |scope: &str| {
        let is = |known: &&Value| {
            known["programs"] == json!([trusted])
                && known["scopes"] == json!([scope])
                && known["allowed"] == true
        };
        known.iter().rev().find(is).unwrap()["id"].as_str().unwrap()
    };
    world.run(&["agent", "consent", "forget", of(VAULT)]).ok().says("asked again");
    ask(&agent, &trusted, VAULT, Some(0)).ok();
    world.run(&["agent", "consent", "forget", "--all"]).ok();
    assert!(remembered(&world).is_empty());
}

#[test]
fn nobody_answers_and_a_person_answers_at_a_terminal_and_no_other_program_does() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    write_policy(&world, &format!("[policy]\nask_timeout = '1s'\n{ASK_FOR_VAULT}"));
    let agent = Agent::of(&world);
    let reply = agent.token(&world, &scopes(VAULT));
    assert_eq!((reply.status, reply.kind()), (403, "denied_by_policy"));
    let message = reply.body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("nobody said whether to give "), "{message}");
    assert!(reply.body["error"]["hint"].as_str().unwrap().contains("consent --follow"), "{reply:?}");
    assert!(open_questions(&world).is_empty());
    drop(agent);

    write_policy(&world, &format!("[policy]\nask_timeout = '2m'\n{ASK_FOR_VAULT}"));
    let agent = Agent::of(&world);
    let asks = program(&world, "asks\u{1b}[2J");
    let request = request_for(&world, VAULT).replacen("host:", &format!("user-agent: {HOSTILE}\r\nhost:"), 1);
    let waits = || start(&asks, &agent, &request);
    let child = waits();
    let asked = question(&world, 1);
    let id = asked["id"].as_str().unwrap().to_owned();
    assert_eq!(asked["claimed_name"], "evil\\u{9b}31m\\u{202e}exe\\u{200b}");
    let shown = world.run(&["agent", "consent"]).ok().stdout;
    assert!(shown.contains(&id) && shown.contains("asks\\u{1b}[2J") && shown.contains("evil"), "{shown}");

    // The program itself does not answer for the person.
    for (path, body) in
        [("/v1/consents/answer", json!({"id": id, "allow": true})), ("/v1/consents/forget", json!({}))]
    {
        let reply = reply_of(start(&asks, &agent, &post(path, &body)));
        assert_eq!((reply.status, reply.kind()), (403, "denied_by_policy"));
    }
    world.run(&["agent", "consent", "allow", "none"]).exits(1).says("no such question");
    world.run(&["agent", "consent", "allow", &id, "--once"]).ok();
    reply_of(child).ok();
    assert!(remembered(&world).is_empty(), "this once");

    let child = waits();
    let id = question(&world, 1)["id"].as_str().unwrap().to_owned();
    world.run(&["agent", "consent", "deny", &id]).ok();
    assert_eq!(reply_of(child).kind(), "denied_by_policy");
    world.run(&["agent", "consent", "forget", "--all"]).ok();

    // Whoever goes away takes the question along.
    let mut child = waits();
    question(&world, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the question is gone", || open_questions(&world).is_empty());

    // `tokenkeep token` waits as well, and a person at a terminal is asked there.
    let token = world.command(&["token", "--scope", VAULT]).stdout(Stdio::piped()).spawn().unwrap();
    question(&world, 1);
    let mut follow = world.command(&["agent", "consent", "--follow"]);
    run(&mut follow).exits(2).says("nobody is at this terminal");
    let id = question(&world, 1)["id"].as_str().unwrap().to_owned();
    world.run(&["agent", "consent", "allow", &id, "--for", "1h"]).ok();
    Run::of(token.wait_with_output().unwrap(), "token").ok();
    let known = remembered(&world);
    assert_eq!(known[0]["programs"].as_array().unwrap().len(), 2, "and who ran it: {known:?}");

    let (one, two) = (program(&world, "one"), program(&world, "two"));
    let children = [&one, &two].map(|program| start(program, &agent, &request));
    let answer = |question, typed| Answer { question, typed };
    let answers = [answer("Allow it?", "y\n"), answer("Allow it?", "\n"), answer("Denied", "\u{3}")];
    let shown = converse_openly(&world.command(&["agent", "consent", "--follow"]), &answers).ok().stdout;
    assert!(shown.contains("Allowed") && shown.contains("wants a token of"), "{shown}");
    let mut statuses = children.map(|child| reply_of(child).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
}

#[test]
fn answers_rest_in_the_vault_and_a_locked_agent_has_none() {
    let world = World::vault();
    world.run(&["vault", "init", "--protector", "key-file", "--no-recovery-key"]).ok();
    world.login(USER_ONE, &[]);
    let asks = AskProgram::of(&world);
    write_policy(&world, &format!("[policy]\n{}{ASK_FOR_VAULT}", asks.words()));
    let agent = Agent::of(&world);
    let path = program(&world, "asks");
    let child = start(&path, &agent, &request_for(&world, VAULT));
    asks.answer(0);
    reply_of(child).ok();
    world.run(&["agent", "lock"]).ok();
    world.run(&["agent", "consent"]).exits(7).says("locked");
    world.run(&["agent", "unlock"]).ok();
    reply_of(start(&path, &agent, &request_for(&world, VAULT))).ok();
    assert_eq!(asks.runs(), 1, "it is remembered");
    assert!(!world.places().state.join("tokenkeep").join("consents.json").exists());
    world.run(&["agent", "stop"]).ok();
    let told = world.run(&["audit", "--verify", "--json"]).ok().json();
    let events = told["events"].as_array().unwrap();
    let given = events.iter().find(|event| event["action"] == "consent_given").unwrap();
    assert_eq!(given["reason"], "answered by the program that asks");
    assert!(given["subject"].as_str().unwrap().starts_with(&format!("{VAULT} in tenant ")));
}

#[test]
fn a_locked_agent_stays_and_allows_nothing_when_its_policy_cannot_be_read_any_more() {
    let world = with_policy("");
    let agent = Agent::of(&world);
    agent.token(&world, &scopes(SCOPE)).ok();
    let lock_after = "[agent]\nlock_after = '8h'\nlock_on_suspend = false\n";
    write_policy(&world, lock_after);
    until("it locks in time", || agent.status()["locks_in_seconds"].is_u64());
    write_policy(&world, "[policy]\ndefualt = 'allow'");
    world.run(&["agent", "lock"]).ok();
    world.run(&["token", "--scope", SCOPE]).exits(7).says("the agent is locked");
    world.run(&["agent", "unlock"]).ok();
    world
        .run(&["token", "--scope", SCOPE])
        .exits(9)
        .says("config.toml, line 2, column 1: unknown field `defualt`");
    let status = agent.status();
    assert!(status["locks_in_seconds"].as_u64().unwrap() > 28_000, "as it did before: {status}");
    assert!(status["config"]["problem"].as_str().unwrap().contains("`defualt`"), "{status}");
    write_policy(&world, "[policy]\ndefault = 'allow'");
    until("it is served again", || agent.token(&world, &scopes(SCOPE)).status == 200);
}

/// Another user than the one who runs the tests, who may look into every process.
const SOMEBODY: u32 = 54_323;

#[test]
fn who_is_not_root_sees_which_of_its_programs_asks() {
    let home = tempfile::tempdir().unwrap();
    let own = |path: &Path, mode: u32| {
        std::os::unix::fs::chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    own(home.path(), 0o700);
    let [tokenkeep, asks] = ["tokenkeep", "ask-agent"].map(|name| {
        let path = home.path().join(name);
        fs::copy(built(name), &path).unwrap();
        own(&path, 0o700);
        path
    });
    let as_somebody = |program: &Path| {
        let id = SOMEBODY.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program).env_clear();
        command.env("HOME", home.path());
        command
    };
    let socket = home.path().join("agent.sock");
    let mut command = as_somebody(&tokenkeep);
    let agent = Agent::start(command.args(["agent", "-v"]).env("TOKENKEEP_SOCK", &socket), &socket);
    let mut child =
        as_somebody(&asks).arg(&socket).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(post("/v1/token", &json!({"store": "plaintext"})).as_bytes())
        .unwrap();
    assert_eq!(reply_of(child).kind(), "no_accounts");
    let mut status = as_somebody(&tokenkeep);
    let status = run(status.args(["agent", "status", "--json"]).env("TOKENKEEP_SOCK", &socket)).ok().json();
    let clients = status["clients"].as_array().unwrap();
    assert!(clients.iter().any(|client| client["executable"] == json!(asks)), "{status}");

    // Without a vault the log has who asked.
    agent.terminate();
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("who asked") && said.contains(&*asks.to_string_lossy()), "{said}");
    assert!(said.contains("no_accounts"), "{said}");
}
