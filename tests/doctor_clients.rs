//! Real clients cannot use a cache with these defects, and can once the doctor has repaired it.

use std::fs;

use emulator::{CLIENT_APP, USER_ONE};
use serde_json::{Value, json};

use crate::support::{GRAPH, PrivateNetwork, Run, SCOPE, node, python};

/// A defect, and who fails because of it.
struct Row {
    id: &'static str,
    plant: fn(&mut Value),
    /// Python, Node.
    fails: [bool; 2],
}

const fn row(id: &'static str, plant: fn(&mut Value), fails: [bool; 2]) -> Row {
    Row { id, plant, fails }
}

fn entries(document: &Value, section: &str) -> Vec<(String, Value)> {
    document[section].as_object().unwrap().clone().into_iter().collect()
}

fn set(document: &mut Value, section: &str, field: &str, to: &Value) {
    for entry in document[section].as_object_mut().unwrap().values_mut() {
        entry[field] = to.clone();
    }
}

fn remove(document: &mut Value, section: &str, field: &str) {
    for entry in document[section].as_object_mut().unwrap().values_mut() {
        entry.as_object_mut().unwrap().remove(field);
    }
}

/// The same entries once more, under another name of the cloud.
fn double(document: &mut Value, section: &str) {
    for (key, mut entry) in entries(document, section) {
        entry["environment"] = "login.microsoftonline.com".into();
        document[section][format!("{key}-twin")] = entry;
    }
}

const ROWS: &[Row] = &[
    row("account-incomplete", |document| remove(document, "Account", "username"), [true, false]),
    row("client-duplicate", |document| double(document, "AppMetadata"), [false, true]),
    row(
        "credential-type-misspelled",
        |document| set(document, "RefreshToken", "credential_type", &json!("refreshtoken")),
        [true, true],
    ),
    row("entry-malformed", |document| document["RefreshToken"]["odd"] = json!(["odd"]), [true, false]),
    row(
        "field-malformed",
        |document| set(document, "Account", "username", &json!({"first": "odd"})),
        [true, false],
    ),
    row("null-value", |document| document["IdToken"]["none"] = Value::Null, [false, true]),
    row(
        "refresh-token-duplicate",
        |document| {
            let (key, mut stale) = entries(document, "RefreshToken").remove(0);
            stale["environment"] = "login.microsoftonline.com".into();
            stale["secret"] = "stale".into();
            stale["last_modification_time"] = "1750000000".into();
            let newer = document["RefreshToken"].take();
            document["RefreshToken"] =
                json!({key.replace("login.windows.net", "login.microsoftonline.com"): stale});
            document["RefreshToken"].as_object_mut().unwrap().extend(newer.as_object().unwrap().clone());
        },
        [false, true],
    ),
    row("section-malformed", |document| document["AppMetadata"] = json!(["odd"]), [true, false]),
];

#[test]
fn what_keeps_python_and_node_from_a_cache_is_repaired_for_them() {
    let network = PrivateNetwork::with_plaintext("repaired");
    let record = network.file("record.json").to_str().unwrap().to_owned();
    network.approve(USER_ONE);
    let login = ["login", "--device-code", "--client-id", CLIENT_APP, "--scope", SCOPE];
    network.tokenkeep(&[&login[..], &["--record-out", &record]].concat()).ok();
    let file = network.cache_file();
    let by_python = || network.client(python("record_token.py"), &["--record", &record, "--scope", GRAPH]);
    let by_node = || {
        let mut command = node("msal_node.mjs");
        command.args(["token", "--client-id", CLIENT_APP, "--scope", GRAPH, "--force-refresh", "--file"]);
        network.inside(command.arg(&file))
    };
    let sound = fs::read(&file).unwrap();
    let check = |id: &str, planted: &str, fails: [bool; 2]| {
        for (client, fails) in [(&by_python as &dyn Fn() -> Run, fails[0]), (&by_node, fails[1])] {
            fs::write(&file, planted).unwrap();
            let met = client();
            assert_eq!(met.code != Some(0), fails, "{id}: {}", met.output());
        }
        fs::write(&file, planted).unwrap();
        let repaired = network.tokenkeep(&["doctor", "--repair", "--yes", "--json"]).ok().json();
        let repairs = repaired["repairs"].as_array().unwrap();
        assert!(repairs.iter().any(|repair| repair["id"] == id), "{id}: {repaired:#}");

        let kept = fs::read(&file).unwrap();
        network.forget_requests();
        for client in [&by_python as &dyn Fn() -> Run, &by_node] {
            fs::write(&file, &kept).unwrap();
            client().ok();
        }
        assert_eq!((network.requests("token"), network.requests("devicecode")), (2, 0), "{id}: silently");
    };
    for Row { id, plant, fails } in ROWS {
        let mut document: Value = serde_json::from_slice(&sound).unwrap();
        plant(&mut document);
        check(id, &document.to_string(), *fails);
    }
    check("byte-order-mark", &format!("\u{feff}{}", std::str::from_utf8(&sound).unwrap()), [true, true]);
}
