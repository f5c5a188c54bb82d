//! Signing in with a browser: a real Chromium, a person who errs, strays and forgeries, and pages
//! that tell how it ended.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use emulator::{Answer, ErrorAnswer, PASSWORD, Script, USER_ONE, USER_TWO};
use tokenkeep::Error;
use tokenkeep::credential::{
    CredentialOptions, DeviceCodeCredential, Interaction, InteractiveBrowserCredential,
};

use crate::support::{Person, Quiet, Run, SCOPE, World, browse, on_a_terminal, request, wait_for_file};

const SIGN_IN: [&str; 8] = ["fill", "#login", USER_ONE, "fill", "#password", PASSWORD, "press", "#submit"];

fn by_browser(world: &World, person: &Person, more: &[&str]) -> Command {
    let mut command = world.command(&[&["login", "--browser", "--scope", SCOPE], more].concat());
    person.sits_at(&mut command);
    command
}

fn run(command: &mut Command) -> Run {
    crate::support::run(command)
}

#[test]
fn a_wrong_password_is_no_end_and_the_page_names_who_signed_in() {
    let world = World::plaintext();
    let pictures = tempfile::tempdir().unwrap();
    let picture = |name: &str| pictures.path().join(name).to_str().unwrap().to_owned();
    let (light, dark) = (picture("light.png"), picture("dark.png"));
    let steps = [
        &["fill", "#login", USER_ONE, "fill", "#password", "wrong", "press", "#submit"][..],
        &["see", "incorrect", "fill", "#password", PASSWORD, "press", "#submit"],
        &["see", "You are signed in", "picture", &light, "scheme", "dark", "picture", &dark],
    ]
    .concat();
    let person = Person::who_does(&steps);
    let run = run(&mut by_browser(&world, &person, &[])).ok();
    assert!(run.stderr.contains(&format!("Signed in as {USER_ONE}")), "{}", run.stderr);

    let visit = person.visit();
    assert!(visit.text().contains(&format!("You are signed in as {USER_ONE}.")), "{}", visit.text());
    assert_eq!((&visit.page["title"], &visit.page["status"]), (&"Signed in - tokenkeep".into(), &200.into()));
    assert_ne!(std::fs::read(light).unwrap(), std::fs::read(dark).unwrap(), "dark is a scheme of its own");

    // What stands in a process list is good for one visit, and says nothing.
    assert!(visit.address.starts_with("http://localhost:") && !visit.address.contains('?'));
    let (_, start_token) = visit.address.split_once("/start/").unwrap();
    assert!(start_token.len() >= 22, "{start_token}");
    for secret in world.emulator.secrets() {
        assert!(!visit.address.contains(&secret.value), "{} in {}", secret.kind, visit.address);
    }
    // Nor does any address that the browser's history keeps on this machine hold the code.
    let visited = visit.page["visited"].as_array().unwrap().iter().map(|url| url.as_str().unwrap());
    let here: Vec<&str> = visited.filter(|url| url.starts_with("http://localhost:")).collect();
    assert_eq!(here, [visit.address.split("/start/").next().unwrap().to_owned() + "/"]);

    world.emulator.reset_log();
    world.run(&["token", "--scope", SCOPE]).ok();
    assert_eq!(world.emulator.count(""), 0, "the sign-in was kept");
}

#[test]
fn who_says_no_is_not_asked_again_in_another_way() {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.device_code_lifetime = 2);
    let person = Person::who_does(&["press", "#cancel", "see", "Not signed in"]);
    let mut command = world.command(&["login", "--scope", SCOPE, "--json"]);
    person.sits_at(&mut command);
    let run = run(&mut command).exits(1);
    let error = &run.json()["error"];
    assert_eq!((&error["kind"], &error["code"]), (&"declined".into(), &"AADSTS65004".into()));
    assert_eq!(error["message"], "the sign-in was declined");
    assert!(!run.output().contains("code instead") && !run.output().contains("devicelogin"));
    assert_eq!(world.emulator.count("devicecode"), 0);
    assert!(!world.document().to_string().contains(USER_ONE));
    assert!(person.visit().text().contains("the sign-in was declined"));
}

#[test]
fn strays_and_forged_answers_get_nowhere_and_the_sign_in_goes_on() {
    let world = World::plaintext();
    let person = Person::who_only_notes_the_address();
    let mut command = by_browser(&world, &person, &["--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let address = person.visit().address;
    let (origin, start) = address.split_once("/start/").unwrap();
    let host = origin.strip_prefix("http://").unwrap();

    let form = "content-type: application/x-www-form-urlencoded";
    let post = |headers: &str, body: &str| {
        let length = body.len();
        format!("POST / HTTP/1.1\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let long = "x".repeat(100_000);
    for stray in [
        get("/"),
        get("/?code=forged&state=forged"),
        get("/?error=access_denied&error_description=no"),
        get("/?error=access_denied&state=%00"),
        get("/?%ff=%ff&state"),
        get("/start/"),
        get(&format!("/start/{}", start.to_uppercase() + "x")),
        get("/../../etc/passwd"),
        get("/index.html"),
        post(&format!("host: {host}\r\n{form}"), "code=forged&state=forged"),
        post(&format!("host: {host}\r\n{form}"), &format!("state={long}")),
        post(&format!("host: {host}\r\ncontent-type: application/json"), r#"{"code":"forged"}"#),
        post(&format!("host: evil.example\r\n{form}"), "code=forged&state=forged"),
        "OPTIONS / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}".to_owned() + "not http\r\n\r\n",
    ] {
        let answer = send(host, &stray);
        let shown: String = stray.chars().take(100).collect();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shown:?}: {answer}");
        assert!(!answer.contains("forged"), "{answer}");
    }
    // The same from inside the person's own browser, in the middle of the sign-in.
    let forged = format!("{origin}/?code=forged&state=forged");
    let steps = [&["open", forged.as_str()][..], &SIGN_IN, &["see", "You are signed in"]].concat();
    browse(&address, &steps).text();
    let run = Run::of(child.wait_with_output().unwrap(), "login --browser").ok();
    assert_eq!(run.json()["account"]["username"], USER_ONE);
    assert_eq!(world.emulator.count("token"), 1, "no forged code was tried");
}

/// Sends bytes to a server of this machine, and returns the head and what came of the body.
fn send(host: &str, request: &str) -> String {
    let (_, port) = host.rsplit_once(':').unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    // A refusal may come before all was sent.
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_refusal_at_the_end_is_told_on_the_page_and_in_the_terminal() {
    let world = World::plaintext();
    let refusal = Answer::Error(ErrorAnswer::aadsts(50105));
    world.emulator.script(Script::once(refusal).kind("token.authorization_code"));
    let person = Person::who_does(&[&SIGN_IN[..], &["see", "Not signed in"]].concat());
    let run = run(&mut by_browser(&world, &person, &[])).exits(1).says("AADSTS50105");
    assert!(run.stderr.contains("hint: ask an administrator"), "{}", run.stderr);
    assert!(person.visit().text().contains("AADSTS50105"));
    assert_eq!(world.emulator.count("token"), 1, "a code is never sent twice");
    assert!(!world.document().to_string().contains("AccessToken"));
}

/// A person at the library's own browser.
#[derive(Debug)]
struct At(Person);

impl Interaction for At {
    fn open_browser(&self, url: &str) -> std::io::Result<()> {
        self.0.open(url);
        Ok(())
    }
}

/// Expects user two, while user one is who signs in.
async fn somebody_else_signs_in(world: &World, options: CredentialOptions) -> String {
    let person = Arc::new(At(Person::who_does(&[&SIGN_IN[..], &["see", "Not signed in"]].concat())));
    let credential = InteractiveBrowserCredential::new(options, Arc::clone(&person) as _).unwrap();
    let before = world.document();
    let error = credential.authenticate(&request(SCOPE).force_refresh(true)).await.unwrap_err();
    assert!(matches!(error, Error::AuthenticationFailed(_)), "{error:?}");
    assert_eq!(world.document(), before, "nothing of the other account was kept");
    let expected = format!("{USER_ONE} signed in, but {USER_TWO} was expected; nothing was kept");
    assert!(person.0.visit().text().contains(&expected), "{}", person.0.visit().text());
    assert_eq!(error.to_string(), expected);
    error.hint().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_other_than_the_one_of_the_hint_is_refused() {
    let world = World::plaintext();
    let hint = somebody_else_signs_in(&world, world.options().login_hint(USER_TWO.to_owned())).await;
    assert!(hint.contains("expected account"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_other_than_the_one_of_the_record_is_refused() {
    let world = World::plaintext();
    world.emulator.approve(USER_TWO);
    let credential = DeviceCodeCredential::new(world.options(), Arc::new(Quiet)).unwrap();
    let record = credential.authenticate(&request(SCOPE)).await.unwrap();
    somebody_else_signs_in(&world, world.options().authentication_record(record)).await;
}

#[test]
fn without_a_browser_a_code_is_offered_but_only_to_who_did_not_insist() {
    let world = World::plaintext();
    for broken in ["/nonexistent/browser", "false"] {
        world.emulator.approve(USER_ONE);
        let mut command = world.command(&["login", "--scope", SCOPE]);
        let run = run(command.env("BROWSER", broken)).ok();
        assert!(run.stderr.contains("No browser could be started"), "{}", run.stderr);
        assert!(run.stderr.contains("/devicelogin and enter the code"), "{}", run.stderr);
    }

    world.emulator.reset_log();
    let mut command = world.command(&["login", "--browser", "--scope", SCOPE]);
    command.env("BROWSER", "false").stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find(|line| line.contains("http://localhost:")).unwrap();
    let said = lines.find(|line| line.contains("No browser could be started")).unwrap();
    assert!(said.contains("that address still works"), "{said}");
    browse(address.trim(), &[&SIGN_IN[..], &["see", "You are signed in"]].concat()).text();
    assert!(lines.any(|line| line == format!("Signed in as {USER_ONE}")));
    assert!(child.wait().unwrap().success());
    assert_eq!(world.emulator.count("devicecode"), 0);
}

#[test]
fn on_a_terminal_the_offer_is_a_question() {
    let world = World::plaintext();
    let ask = |answer: &str| {
        let mut command = world.command(&["login", "--scope", SCOPE]);
        on_a_terminal(command.env("BROWSER", "false"), answer)
    };
    let run = ask("n\n").exits(1);
    assert!(run.stdout.contains("Sign in with a code instead? [Y/n]"), "{}", run.stdout);
    assert!(run.stdout.contains("cancelled"), "{}", run.stdout);
    assert_eq!(world.emulator.count(""), 0);

    world.emulator.approve(USER_ONE);
    let run = ask("\n").ok();
    assert!(run.stdout.contains("Signed in as"), "{}", run.stdout);
    assert_eq!(world.emulator.count("devicecode"), 1);
}

#[test]
fn a_browser_is_expected_only_where_somebody_could_see_it() {
    let world = World::plaintext();
    let login = |environment: &[(&str, &str)], args: &[&str]| {
        world.emulator.approve(USER_ONE);
        let mut command = world.command(&[&["login", "--scope", SCOPE], args].concat());
        run(command.envs(environment.iter().copied())).ok().stderr
    };
    for environment in [&[][..], &[("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")], &[("BROWSER", "")]] {
        let said = login(environment, &[]);
        assert!(said.contains("with a code, because there is no display"), "{said}");
    }
    // A display makes a browser likely; that there is none shows when it does not start.
    assert!(login(&[("DISPLAY", ":1"), ("BROWSER", "false")], &[]).contains("No browser could be started"));
    // Who asks for a code, or for no interaction at all, has no browser opened.
    for choice in ["--device-code", "--no-input"] {
        let said = login(&[("DISPLAY", ":1"), ("BROWSER", "false")], &[choice]);
        assert!(!said.contains("browser could") && said.contains("devicelogin"), "{said}");
    }
    world.run(&["login", "--browser", "--no-input", "--scope", SCOPE]).exits(2).says("--no-input");
}

#[test]
fn a_browser_that_takes_its_time_keeps_nobody_waiting() {
    let world = World::plaintext();
    let (told, script) = (world.home().join("told"), world.home().join("browser"));
    // Runs in the foreground until it is told to end, as a browser does that was not running yet.
    let text =
        format!("#!/bin/sh\necho \"$1 $$\" >{0}.new; mv {0}.new {0}; exec sleep 600\n", told.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = world.command(&["login", "--browser", "--scope", SCOPE]);
    let mut child = command.env("BROWSER", &script).stderr(Stdio::piped()).spawn().unwrap();
    let told = wait_for_file(&told);
    let (address, pid) = told.trim().split_once(' ').unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.trim() == address), "the address is there before the browser is");
    browse(address, &[&SIGN_IN[..], &["see", "You are signed in"]].concat()).text();
    assert!(child.wait().unwrap().success());
    let still_running = Path::new("/proc").join(pid).exists();
    assert!(still_running, "the sign-in ended before the browser did");
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
}
