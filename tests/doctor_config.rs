//! The doctor looks at `config.toml`: a finding for each way in which an agent would not go by it, and one if an
//! agent does not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use emulator::USER_ONE;
use serde_json::{Value, json};

use crate::support::{Agent, Run, SCOPE, World, run, until};

fn file(world: &World, text: &str) -> PathBuf {
    let folder = world.places().config.join("tokenkeep");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    fs::write(&file, text).unwrap();
    chmod(&file, 0o600);
    file
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn doctor(world: &World) -> Run {
    world.run(&["doctor", "--offline", "--json"])
}

fn findings(run: &Run) -> Vec<Value> {
    let is_about_it = |finding: &&Value| finding["id"].as_str().unwrap().contains("config");
    run.json()["findings"].as_array().unwrap().iter().filter(is_about_it).cloned().collect()
}

/// The only finding about the file.
#[track_caller]
fn finding(world: &World, id: &str) -> Value {
    let found = findings(&doctor(world).exits(1));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["id"], id, "{found:#?}");
    found[0].clone()
}

#[track_caller]
fn has(finding: &Value, member: &str, text: &str) {
    assert!(finding[member].as_str().unwrap().contains(text), "{finding:#}");
}

#[test]
fn it_is_quiet_about_one_that_can_be_used_and_about_none() {
    let world = World::plaintext();
    assert_eq!(findings(&doctor(&world).ok()), [json!(null); 0]);
    file(&world, "[policy]\ndefault = 'deny'\n");
    assert_eq!(findings(&doctor(&world).ok()), [json!(null); 0]);
}

#[test]
fn each_reason_not_to_use_it_is_told_with_the_next_step() {
    let world = World::plaintext();
    let path = file(&world, "[policy]\n  default = maybe\n");
    let malformed = finding(&world, "config-malformed");
    assert_eq!((&malformed["subject"], &malformed["severity"]), (&json!(path), &json!("problem")));
    has(&malformed, "detail", "line 2, column 13: ");
    has(&malformed, "fix", "correct it");
    file(&world, "[policy]\n[[policy.rule]]\naction = 'perhaps'\n");
    has(&finding(&world, "config-malformed"), "detail", "line 3, column 10: unknown variant `perhaps`");
    file(&world, "[policy]\n  defualt = 'deny'\n");
    let unknown = finding(&world, "config-unknown-word");
    has(&unknown, "detail", "line 2, column 3: unknown field `defualt`, expected one of `default`");

    file(&world, "");
    chmod(&path, 0o620);
    has(&finding(&world, "config-mode-open"), "fix", &format!("chmod go-w {}", path.display()));
    chmod(&path, 0o600);
    let folder = path.parent().unwrap();
    chmod(folder, 0o770);
    has(&finding(&world, "config-mode-open"), "fix", &format!("chmod go-w {}", folder.display()));
    chmod(folder, 0o700);
    chown(&path, Some(54_321), None).unwrap();
    has(&finding(&world, "config-foreign-owner"), "detail", "belongs to user 54321");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    has(&finding(&world, "config-not-a-file"), "detail", "it is no file");
    fs::remove_dir(&path).unwrap();
    file(&world, &"#".repeat(256 * 1024 + 1));
    has(&finding(&world, "config-not-a-file"), "detail", "more than 262144 bytes");
    fs::write(&path, b"# \xff").unwrap();
    has(&finding(&world, "config-unreadable"), "detail", "valid UTF-8");
    let named = world.home().join("named.toml");
    let mut command = world.command(&["doctor", "--offline", "--json"]);
    let found = findings(&run(command.env("TOKENKEEP_CONFIG", &named)).exits(1));
    assert_eq!((&found[0]["id"], &found[0]["subject"]), (&json!("config-unreadable"), &json!(named)));
}

#[test]
fn an_agent_that_does_not_go_by_it_as_it_is_now_is_told() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let path = file(&world, "[policy]\ndefault = 'allow'\n");
    let agent = Agent::of(&world);
    assert_eq!(findings(&doctor(&world).ok()), [json!(null); 0]);
    file(&world, "[policy]\ndefault = \n");
    until("the agent has seen it", || !agent.status()["config"]["problem"].is_null());
    let found = findings(&doctor(&world).exits(1));
    let ids: Vec<&Value> = found.iter().map(|finding| &finding["id"]).collect();
    assert_eq!(ids, ["agent-config-older", "config-malformed"]);
    assert_eq!((&found[0]["severity"], &found[0]["subject"]), (&json!("warning"), &json!(path)));
    has(&found[0], "detail", "config.toml, line 2, column 11: ");
    has(&found[0], "fix", "correct it");
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).status, 200);
    file(&world, "[policy]\ndefault = 'allow'\n");
    until("the agent has seen it", || agent.status()["config"]["problem"].is_null());
    assert_eq!(findings(&doctor(&world).ok()), [json!(null); 0]);
}
