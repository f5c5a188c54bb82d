//! The vault and a person at a terminal: passphrases are asked for and never shown, mistyping is
//! no disaster, and giving up is an answer.

use std::process::Command;

use crate::support::{Answer, Run, World, converse, run};

const PASSPHRASE: &str = "correct horse battery staple";
const NEW: &str = "New passphrase of the vault: ";
const AGAIN: &str = "The same again: ";
const ASKED: &str = "Passphrase of the vault: ";
const RIGHT: Answer = Answer { question: ASKED, typed: "correct horse battery staple\n" };
const WRONG: Answer = Answer { question: ASKED, typed: "a guess\n" };

struct Person {
    world: World,
}

impl Person {
    fn new() -> Self {
        Self { world: World::vault() }
    }

    /// Somebody whose vault opens by nothing but a passphrase.
    fn with_a_vault() -> Self {
        let person = Self::new();
        person.init(&[
            Answer { question: NEW, typed: "correct horse battery staple\n" },
            Answer { question: AGAIN, typed: "correct horse battery staple\n" },
        ]);
        person
    }

    #[track_caller]
    fn init(&self, answers: &[Answer]) -> Run {
        self.at_the_terminal(&["vault", "init", "--protector", "passphrase", "--no-recovery-key"], answers)
            .ok()
    }

    fn at_the_terminal(&self, args: &[&str], answers: &[Answer]) -> Run {
        converse(&self.command(args), answers)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS);
        command
    }
}

/// Asserts what every conversation must come to, however it ended.
#[track_caller]
fn nothing_is_shown(run: &Run) {
    assert!(!run.stdout.contains(PASSPHRASE) && !run.stdout.contains("a guess"), "{}", run.stdout);
    assert_eq!(run.stderr, "echo on", "the terminal was left as it should not be: {}", run.stdout);
}

#[test]
fn a_new_passphrase_is_typed_twice_until_it_is_the_same() {
    let person = Person::new();
    let made = person.init(&[
        Answer { question: NEW, typed: "correct horse battery staple\n" },
        Answer { question: AGAIN, typed: "correct horse battery stable\n" },
        Answer { question: NEW, typed: "correct horse battery staple\n" },
        Answer { question: AGAIN, typed: "correct horse battery staple\n" },
    ]);
    nothing_is_shown(&made);
    assert!(made.stdout.contains("They are not the same"), "{}", made.stdout);
    nothing_is_shown(&person.at_the_terminal(&["accounts"], &[RIGHT]).ok());
}

#[test]
fn a_mistyped_passphrase_is_asked_for_again_three_times_in_all() {
    let person = Person::with_a_vault();
    let opened = person.at_the_terminal(&["accounts"], &[WRONG, WRONG, RIGHT]).ok();
    nothing_is_shown(&opened);
    assert_eq!(opened.stdout.matches("That does not open the vault").count(), 2, "{}", opened.stdout);

    let refused = person.at_the_terminal(&["accounts"], &[WRONG, WRONG, WRONG]).exits(7);
    nothing_is_shown(&refused);
    assert!(refused.stdout.contains("passphrase"), "{}", refused.stdout);
}

#[test]
fn an_empty_answer_and_ctrl_c_and_ctrl_d_give_up() {
    let person = Person::with_a_vault();
    for typed in ["\n", "\u{3}", "\u{4}"] {
        let gave_up = Answer { question: ASKED, typed };
        let refused = person.at_the_terminal(&["accounts"], &[gave_up]).exits(7);
        nothing_is_shown(&refused);
        assert_eq!(refused.stdout.matches(ASKED).count(), 1, "{}", refused.stdout);
        let told = person.at_the_terminal(&["accounts", "--json"], &[gave_up]).exits(7);
        assert!(told.stdout.contains("\"vault_prompt_refused\""), "{}", told.stdout);
    }
    let no_vault = Person::new();
    for typed in ["\n", "\u{3}", "\u{4}"] {
        let args = ["vault", "init", "--protector", "passphrase"];
        let refused = no_vault.at_the_terminal(&args, &[Answer { question: NEW, typed }]).exits(1);
        nothing_is_shown(&refused);
        assert!(!no_vault.world.places().vault().exists());
    }
}

#[test]
fn nobody_is_asked_where_nobody_may_be() {
    let person = Person::with_a_vault();
    person.at_the_terminal(&["accounts", "--no-input"], &[]).exits(7);
    let elsewhere = run(&mut person.command(&["accounts"])).exits(7);
    assert!(!elsewhere.output().contains(ASKED), "{}", elsewhere.output());
}

#[test]
fn a_rekey_shows_how_far_it_is_on_a_terminal_only() {
    let person = Person::with_a_vault();
    let passphrase = person.world.home().join("passphrase");
    std::fs::write(&passphrase, PASSPHRASE).unwrap();
    let mut fill = person.world.cache_writer("user", 150);
    run(fill.env("TOKENKEEP_PASSPHRASE_FILE", &passphrase)).ok();

    let rekeyed = person.at_the_terminal(&["vault", "rekey"], &[RIGHT]).ok();
    nothing_is_shown(&rekeyed);
    assert!(rekeyed.stdout.contains("rows under the new key"), "{}", rekeyed.stdout);
    assert!(rekeyed.stdout.contains("Everything is encrypted by a new data key"), "{}", rekeyed.stdout);

    let mut elsewhere = person.command(&["vault", "rekey"]);
    let elsewhere = run(elsewhere.env("TOKENKEEP_PASSPHRASE_FILE", &passphrase)).ok();
    assert!(!elsewhere.output().contains("rows under"), "{}", elsewhere.output());
    let quiet = person.at_the_terminal(&["vault", "rekey", "--quiet"], &[RIGHT]).ok();
    assert!(!quiet.stdout.contains("rows under"), "{}", quiet.stdout);
}

#[test]
fn a_service_has_the_passphrase_from_systemd() {
    let person = Person::with_a_vault();
    let folder = person.world.home().join("credentials");
    std::fs::create_dir(&folder).unwrap();
    let service = |args: &[&str]| run(person.command(args).env("CREDENTIALS_DIRECTORY", &folder));
    service(&["accounts"]).exits(7);
    std::fs::write(folder.join("tokenkeep-passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    service(&["accounts"]).ok();
    std::fs::write(folder.join("tokenkeep-passphrase"), "a guess").unwrap();
    let refused = service(&["accounts", "--json"]).exits(7);
    assert_eq!(refused.json()["error"]["kind"], "vault_wrong_secret");
}
