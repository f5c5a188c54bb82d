//! What may go where, and what happens to copies; without a file or a keyring.

use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::steps::{Step, Steps};
use super::*;
use crate::document::{Change, ChangeSet, Dialect, TokenCacheDocument};
use crate::store::{MemoryStore, Writing};

const TENANT: &str = "11111111-1111-4111-8111-111111111111";
const HOME: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.11111111-1111-4111-8111-111111111111";
const PUBLIC: &str = "login.microsoftonline.com";
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const AZURE_POWERSHELL: &str = "1950a258-227b-4e31-a9cf-717495945fc2";
const VISUAL_STUDIO: &str = "872cd9fa-d31f-45e0-9eab-6e460a02d1f1";
const APP: &str = "33333333-3333-4333-8333-333333333333";

/// A cache with one login.
fn cache(
    home: &str,
    host: &str,
    client: &str,
    family: Option<&str>,
    secret: &str,
    at: i64,
) -> TokenCacheDocument {
    let mut token = json!({
        "credential_type": "RefreshToken", "home_account_id": home, "environment": host,
        "client_id": client, "secret": secret, "last_modification_time": at.to_string(),
    });
    if let Some(family) = family {
        token["family_id"] = family.into();
    }
    let document = json!({
        "RefreshToken": {client: token},
        "Account": {"a": {
            "home_account_id": home, "environment": host, "realm": TENANT, "local_account_id": "u",
            "username": "user.one@contoso.example", "authority_type": "MSSTS",
        }},
    });
    TokenCacheDocument::parse(document.to_string().as_bytes()).unwrap()
}

fn of(client: &str, family: Option<&str>) -> TokenCacheDocument {
    cache(HOME, PUBLIC, client, family, "secret", 1)
}

fn party(tool: &str, cae: Option<bool>) -> SharedCache {
    let tool = Tool::of(tool).unwrap();
    let store = Arc::new(MemoryStore::default());
    SharedCache {
        tool,
        dialect: tool.dialect,
        cae,
        place: None,
        writing: Writing::Writable,
        has_own_key: false,
        store,
    }
}

/// The clients that could use the login, and whose it was, or the reason why none can.
fn planned(source: &TokenCacheDocument, to: &str, home: &str, host: &str) -> Result<Vec<String>, String> {
    let (from, target) = (party("python", Some(false)), party(to, Some(false)));
    let empty = TokenCacheDocument::default();
    let copies = plan(&[(&from, source)], (home, host), (&target, &empty), None);
    let shown = |copy: &Copy| match &copy.way {
        Way::Family(of) => format!("{} of {of}", copy.login.client_id()),
        Way::SameClient => copy.login.client_id().to_owned(),
    };
    copies.map(|copies| copies.iter().map(shown).collect()).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_login_goes_to_its_own_client_and_to_the_family_and_to_nobody_else() {
    let (family, app) = (of(AZURE_CLI, Some("1")), of(APP, None));
    let visual_studio = of(VISUAL_STUDIO, Some("1"));
    let derived = |client: &str, of: &str| format!("{client} of {of}");
    for (source, to, expected) in [
        (&family, "node", vec![AZURE_CLI.to_owned()]),
        (&family, "az", vec![AZURE_CLI.to_owned()]),
        (&family, "azd", vec![AZURE_CLI.to_owned()]),
        (&family, "az-powershell", vec![derived(AZURE_POWERSHELL, AZURE_CLI)]),
        (&family, "gcm", vec![derived(VISUAL_STUDIO, AZURE_CLI)]),
        (&visual_studio, "node", vec![VISUAL_STUDIO.to_owned(), derived(AZURE_CLI, VISUAL_STUDIO)]),
        (&visual_studio, "az", vec![derived(AZURE_CLI, VISUAL_STUDIO)]),
        (&app, "dotnet", vec![APP.to_owned()]),
    ] {
        assert_eq!(planned(source, to, HOME, PUBLIC), Ok(expected), "{to}");
    }
    for (source, to, reason) in [
        (&app, "az", "in no family"),
        (&app, "gcm", "in no family"),
        (&of(AZURE_CLI, None), "az-powershell", "in no family"),
        (&family, "graph-powershell", "not known to be in the family"),
        (&TokenCacheDocument::default(), "node", "no refresh token"),
    ] {
        let refused = planned(source, to, HOME, PUBLIC).unwrap_err();
        assert!(refused.contains(reason), "{to}: {refused}");
    }
}

#[test]
fn what_a_cache_says_of_a_client_counts_more_than_the_list() {
    let mut document = of(AZURE_CLI, Some("1"));
    let told = |family: Option<&str>, client: &str| {
        let mut value = json!({"client_id": client, "environment": PUBLIC});
        if let Some(family) = family {
            value["family_id"] = family.into();
        }
        let text = json!({"AppMetadata": {client: value}}).to_string();
        let told = TokenCacheDocument::parse(text.as_bytes()).unwrap();
        ChangeSet::of(Change::Merge(Box::new(told)))
    };
    document.apply(&told(Some("1"), "14d82eec-204b-4c2f-b7e8-296a70dab67e"));
    planned(&document, "graph-powershell", HOME, PUBLIC).unwrap();
    document.apply(&told(None, AZURE_POWERSHELL));
    planned(&document, "az-powershell", HOME, PUBLIC).unwrap_err();
}

#[test]
fn other_clouds_personal_accounts_and_ad_fs_are_no_families_that_we_know() {
    let china = "login.partner.microsoftonline.cn";
    let source = cache(HOME, china, AZURE_CLI, Some("1"), "s", 1);
    planned(&source, "az", HOME, china).unwrap();
    planned(&source, "az-powershell", HOME, china).unwrap_err();
    let personal = "00000000-0000-0000-0000-000000000001.9188040d-6c67-4c5b-b112-36a304b66dad";
    let source = cache(personal, PUBLIC, AZURE_CLI, Some("1"), "s", 1);
    planned(&source, "az", personal, PUBLIC).unwrap();
    assert!(planned(&source, "gcm", personal, PUBLIC).unwrap_err().contains("personal"));
    let source = cache("subject", "adfs.contoso.example", APP, None, "s", 1);
    assert!(planned(&source, "node", "subject", "adfs.contoso.example").unwrap_err().contains("AD FS"));
}

#[test]
fn each_mode_of_continuous_access_evaluation_keeps_to_itself_but_for_caches_of_both() {
    let (source, empty) = (of(AZURE_CLI, Some("1")), TokenCacheDocument::default());
    for (from, to, is_possible) in [
        (Some(false), Some(false), true),
        (Some(false), Some(true), false),
        (Some(true), None, true),
        (None, Some(true), true),
    ] {
        let (from, to) = (party("python", from), party("node", to));
        let copies = plan(&[(&from, &source)], (HOME, PUBLIC), (&to, &empty), None);
        assert_eq!(copies.is_ok(), is_possible, "{from:?} {to:?}");
        assert!(is_possible || matches!(copies, Err(Refusal::OtherMode)));
    }
}

#[test]
fn with_a_client_only_its_login_is_shared() {
    let mut source = of(AZURE_CLI, Some("1"));
    source.apply(&ChangeSet::of(Change::Merge(Box::new(cache(HOME, PUBLIC, APP, None, "other", 1)))));
    let (from, to) = (party("python", None), party("node", None));
    let empty = TokenCacheDocument::default();
    let of = |client: Option<&str>| {
        let copies = plan(&[(&from, &source)], (HOME, PUBLIC), (&to, &empty), client).unwrap();
        copies.iter().map(|copy| copy.login.client_id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(None).len(), 2);
    assert_eq!(of(Some(APP)), [APP]);
}

/// Three caches with copies of one login, and who is signed in where.
struct World {
    documents: Vec<TokenCacheDocument>,
    steps: Steps,
    /// The moment, which is also the number of the latest refresh token.
    now: i64,
}

const PARTIES: usize = 3;

impl World {
    fn new() -> Self {
        let source = of(AZURE_CLI, Some("1"));
        let tools = ["node", "az-powershell"];
        let mut documents = vec![source.clone()];
        let mut copied = Vec::new();
        for tool in tools {
            let (from, to) = (party("python", None), party(tool, None));
            let mut document = TokenCacheDocument::default();
            let copies = plan(&[(&from, &source)], (HOME, PUBLIC), (&to, &document), None).unwrap();
            copies.iter().for_each(|copy| _ = document.apply(&copy.changes()));
            documents.push(document);
            copied.push((to.dialect, copies));
        }
        let targets: Vec<_> = copied.iter().map(|(dialect, copies)| (*dialect, copies.as_slice())).collect();
        let steps = Steps::new((HOME, PUBLIC), &[Dialect::Own], &targets);
        let mut world = Self { documents, steps, now: 1 };
        assert_eq!(world.settle(), 0, "after a share nothing is left to do");
        world
    }

    /// Carries over until nothing is left to do; tells how much that was.
    fn settle(&mut self) -> usize {
        let mut carried = 0;
        for _ in 0..4 {
            let documents: Vec<_> = self.documents.iter().map(Some).collect();
            let before = carried;
            for step in self.steps.look(&documents) {
                if let Step::Carry { to, changes, .. } = step {
                    carried += usize::from(self.documents[to].apply(&changes));
                }
            }
            if carried == before {
                return carried;
            }
        }
        panic!("it goes round in circles");
    }

    fn secret(&self, party: usize) -> Option<String> {
        let tokens = self.entries(party, "RefreshToken");
        assert!(tokens.len() <= 1, "twins: {tokens:?}");
        tokens.first().map(|token| token["secret"].as_str().unwrap().to_owned())
    }

    fn entries(&self, party: usize, section: &str) -> Vec<Value> {
        let value = self.value(party);
        value[section].as_object().into_iter().flatten().map(|(_, entry)| entry.clone()).collect()
    }

    fn value(&self, party: usize) -> Value {
        serde_json::from_slice(&self.documents[party].to_bytes()).unwrap()
    }

    /// The tool writes another refresh token into its own cache.
    fn write(&mut self, party: usize, secret: &str, at: i64) {
        let mut value = self.value(party);
        for (_, token) in value["RefreshToken"].as_object_mut().into_iter().flatten() {
            token["secret"] = secret.into();
            token["last_modification_time"] = at.to_string().into();
        }
        self.documents[party] = TokenCacheDocument::parse(value.to_string().as_bytes()).unwrap();
    }

    fn is_in(&self, party: usize) -> bool {
        self.documents[party].has_account(HOME, PUBLIC)
    }

    fn remove(&mut self, party: usize, sections: &[&str]) {
        let mut value = self.value(party);
        for section in sections {
            value[*section] = Value::Object(Map::new());
        }
        self.documents[party] = TokenCacheDocument::parse(value.to_string().as_bytes()).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// The tool renewed its refresh token.
    Rotated(usize),
    /// A program that did not notice wrote back what there was so long ago.
    WroteBack(usize, i64),
    SignedIn(usize),
    SignedOut(usize),
    /// The tool was told that its refresh token is dead.
    Dropped(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..PARTIES).prop_map(Event::Rotated),
        1 => (0..PARTIES, 1..5_i64).prop_map(|(party, ago)| Event::WroteBack(party, ago)),
        1 => (0..PARTIES).prop_map(Event::SignedIn),
        1 => (0..PARTIES).prop_map(Event::SignedOut),
        1 => (0..PARTIES).prop_map(Event::Dropped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever happens: it ends, everybody who is signed in has the latest, nobody is signed in
    /// again, nothing that was dropped comes back.
    #[test]
    fn copies_come_together_and_nothing_is_undone(events in vec(any_event(), 1..24)) {
        let mut world = World::new();
        let mut dropped = [false; PARTIES];
        for event in events {
            let before: Vec<bool> = (0..PARTIES).map(|party| world.is_in(party)).collect();
            let mut expected = before.clone();
            match event {
                Event::Rotated(party) if world.secret(party).is_some() => {
                    world.now += 1;
                    let secret = format!("secret {}", world.now);
                    world.write(party, &secret, world.now);
                    dropped = [false; PARTIES];
                }
                Event::WroteBack(party, ago) if world.now - ago > 1 => {
                    let secret = format!("secret {}", world.now - ago);
                    world.write(party, &secret, world.now - ago);
                }
                Event::SignedIn(party) => {
                    world.now += 1;
                    let secret = format!("secret {}", world.now);
                    let client = if party == 2 { AZURE_POWERSHELL } else { AZURE_CLI };
                    world.documents[party] = cache(HOME, PUBLIC, client, Some("1"), &secret, world.now);
                    expected[party] = true;
                    dropped = [false; PARTIES];
                }
                Event::SignedOut(party) => {
                    world.remove(party, &["RefreshToken", "Account", "IdToken"]);
                    expected[party] = false;
                }
                Event::Dropped(party) if world.secret(party).is_some() => {
                    world.remove(party, &["RefreshToken"]);
                    dropped[party] = true;
                }
                _ => continue,
            }
            let carried = world.settle();
            prop_assert!(carried <= PARTIES);
            let after: Vec<bool> = (0..PARTIES).map(|party| world.is_in(party)).collect();
            prop_assert_eq!(&after, &expected, "{:?}", event);
            let secrets: Vec<String> = (0..PARTIES).filter_map(|party| world.secret(party)).collect();
            prop_assert!(secrets.windows(2).all(|two| two[0] == two[1]), "{:?} {:?}", event, secrets);
            for party in 0..PARTIES {
                if after[party] && !dropped[party] && !secrets.is_empty() && !matches!(event, Event::Dropped(_)) {
                    prop_assert!(world.secret(party).is_some() , "{:?} {}", event, party);
                }
                prop_assert!(!dropped[party] || world.secret(party).is_none(), "{:?} {}", event, party);
            }
            prop_assert_eq!(world.settle(), 0);
        }
    }
}

#[test]
fn the_documentation_names_every_tool() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sharing.md");
    let text = std::fs::read_to_string(path).unwrap();
    for profile in crate::store::PROFILES.iter().filter(|profile| profile.id != "go-old") {
        assert!(text.contains(&format!("`{}`", profile.id)), "{}", profile.id);
    }
}
