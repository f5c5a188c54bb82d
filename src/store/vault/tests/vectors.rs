//! The language-neutral test vectors of `fixtures/vault`: pieces with fixed keys and nonces, and
//! whole small vaults, one good and the others with one fault each.
//!
//! `UPDATE_VAULT_FIXTURES=1 cargo test --lib vault::tests::vectors` writes them anew; without it
//! they are what the code is held to.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::error::VaultError;
use crate::store::Store as _;

use super::super::keys::{EpochKeys, SecretKey, length_prefixed};
use super::super::seal::{Context, KeyPair, open, open_from, seal_to_from, seal_with_nonce};
use super::super::space::{self, Bundle};
use super::*;

const PASSPHRASE: &str = "correct horse battery staple";

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/vault"))
}

fn updates() -> bool {
    std::env::var_os("UPDATE_VAULT_FIXTURES").is_some()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Every primitive once, with inputs that anybody can repeat.
fn pieces() -> Value {
    let (vault_id, data) = ([0x11; 16], SecretKey::from_bytes(&[0x22; 32]).unwrap());
    let keys = EpochKeys::new(vault_id, 3, data);
    let path = ["AccessToken".to_owned(), "key".to_owned()];
    let bundle = Bundle::Account("uid.utid".to_owned());
    let name = "cache msal.cache.nocae";
    let [space, bundle, identity] = space::vector(&keys, name, &path, &bundle);
    let context = Context { vault_id: &vault_id, epoch: 3, table: "entry", space: name, identity: &identity };
    let plain = br#"{"path":["AccessToken","key"],"order":0,"value":{"secret":"s"}}"#;
    let sealed = seal_with_nonce(&keys.sealing, &[0x33; 12], context, plain);
    assert_eq!(open(&keys.sealing, context, &sealed).unwrap().as_slice(), plain);

    let sender = KeyPair::of(SecretKey::from_bytes(&[0x44; 32]).unwrap()).unwrap();
    let receiver = KeyPair::of(SecretKey::from_bytes(&[0x55; 32]).unwrap()).unwrap();
    let key_context = Context { vault_id: &vault_id, epoch: 3, table: "data key", space: "", identity: &[] };
    let sealed_key =
        seal_to_from(&sender, &receiver.public, &[0x66; 12], key_context, keys.data.expose()).unwrap();
    assert_eq!(open_from(&receiver, key_context, &sealed_key).unwrap().as_slice(), keys.data.expose());

    json!({
        "vault_id": hex(&vault_id), "epoch": 3, "data_key": hex(keys.data.expose()),
        "length_prefixed": {"parts": ["", "6162"], "bytes": hex(&length_prefixed(&[b"", b"ab"]))},
        "blind_index": {
            "space_name": name, "space": hex(&space),
            "account": "uid.utid", "bundle": hex(&bundle),
            "path": path, "identity": hex(&identity),
        },
        "sealed_entry": {
            "nonce": hex(&[0x33; 12]), "associated_data": hex(&context.to_bytes()),
            "plain": std::str::from_utf8(plain).unwrap(), "sealed": hex(&sealed),
        },
        "sealed_to_public_key": {
            "sender_secret": hex(&[0x44; 32]), "receiver_secret": hex(&[0x55; 32]),
            "receiver_public": hex(&receiver.public), "nonce": hex(&[0x66; 12]),
            "associated_data": hex(&key_context.to_bytes()), "sealed": hex(&sealed_key),
        },
        "bucket_total": {"bucket": 7, "rows": hex(&[0x77; 48]), "total": hex(&keys.total(&[
            &length_prefixed(&[name.as_bytes()])[..], &[7], &[0x77; 48]].concat()))},
        "audit_link": {"before": hex(&[0x88; 32]), "seq": 9, "sealed": "aabb",
            "link": hex(&keys.link(&[0x88; 32], 9, &[0xaa, 0xbb]))},
    })
}

#[test]
fn the_pieces_are_what_the_vectors_say() {
    let path = folder().join("pieces.json");
    if updates() {
        fs::write(&path, format!("{:#}\n", pieces())).unwrap();
    }
    let written: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(pieces(), written);
}

/// Each bad vault is the good one after one of these.
const FAULTS: [(&str, &str); 9] = [
    ("audit-event-changed", "UPDATE audit SET sealed = zeroblob(60) WHERE seq = 2"),
    (
        "entry-bit-flipped",
        "UPDATE entry SET sealed = CAST(substr(sealed, 1, 20) || x'00' || substr(sealed, 22) AS BLOB) WHERE id = 2",
    ),
    ("entry-missing", "DELETE FROM entry WHERE id = 2"),
    (
        "entry-of-another",
        "UPDATE entry SET sealed = (SELECT sealed FROM entry AS o WHERE o.id = 4) WHERE id = 2",
    ),
    ("head-missing", "DELETE FROM space"),
    ("newer-format", "UPDATE vault SET format = 99; PRAGMA user_version = 99"),
    ("protector-checksum-wrong", "UPDATE protector SET created = created + 1"),
    ("protector-missing", "DELETE FROM protector WHERE slot = 2"),
    (
        "root-bit-flipped",
        "UPDATE epoch SET root = CAST(substr(root, 1, 20) || x'00' || substr(root, 22) AS BLOB)",
    ),
];

fn write_vaults() {
    let room = Room::new();
    let clock = Arc::new(ManualClock::at(NOW));
    let vault = Vault::create_with(&room.path(), &passphrase(PASSPHRASE), 512, clock).unwrap();
    vault.add_protector(&super::super::RecoveryKey::generate(), soon()).unwrap();
    put(&vault, 1, 1);
    let document = vault.store(CACHE).load().unwrap().document.to_bytes();
    drop(vault);
    let good = folder().join("good.db");
    fs::copy(room.path(), &good).unwrap();
    fs::write(folder().join("good.json"), &*document).unwrap();
    for (name, fault) in FAULTS {
        let bad = folder().join(format!("bad-{name}.db"));
        fs::copy(&good, &bad).unwrap();
        let connection = Connection::open(&bad).unwrap();
        connection.execute_batch(fault).unwrap();
        connection.close().unwrap();
    }
    let bytes = fs::read(&good).unwrap();
    fs::write(folder().join("bad-empty.db"), b"").unwrap();
    fs::write(folder().join("bad-truncated.db"), &bytes[..bytes.len() - 512]).unwrap();
}

/// A private copy: a vault is not opened where others may write.
fn copied(name: &str) -> Room {
    let room = Room::new();
    super::super::file::prepare_folder(&room.path()).unwrap();
    drop(super::super::file::create_private(&room.path()).unwrap());
    fs::write(room.path(), fs::read(folder().join(name)).unwrap()).unwrap();
    room
}

fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("bad-"));
    names.sort();
    names
}

#[test]
fn the_good_vault_opens_and_each_bad_one_is_refused_for_its_fault() {
    if updates() {
        write_vaults();
    }
    let room = copied("good.db");
    let vault = super::open(&room.path(), &passphrase(PASSPHRASE));
    let document = vault.store(CACHE).load().unwrap().document.to_bytes();
    assert_eq!(*document, fs::read(folder().join("good.json")).unwrap());
    vault.verify().unwrap();

    assert_eq!(names().len(), FAULTS.len() + 2);
    for name in names() {
        let room = copied(&name);
        let error = LockedVault::open(&room.path())
            .and_then(|locked| locked.unlock(&passphrase(PASSPHRASE)).map_err(|(_, error)| error))
            .and_then(|vault| vault.verify().map(drop))
            .unwrap_err();
        assert!(error.is_damage(), "{name}: {error}");
        assert_eq!(matches!(error, VaultError::Empty { .. }), name == "bad-empty.db");
        assert_eq!(matches!(error, VaultError::NewerFormat { .. }), name == "bad-newer-format.db");
    }
}

fn python(path: &Path, passphrase: &str) -> (Option<i32>, String, String) {
    use std::io::Write as _;
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vault_reader.py");
    // the one that scripts/setup makes; elsewhere any that has `cryptography`
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/pyenv-vault/bin/python");
    let python = if own.exists() { own } else { "python3".into() };
    let mut child = Command::new(python)
        .arg(reader)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn another_language_reads_the_same_document_and_refuses_the_same_faults() {
    let room = copied("good.db");
    let (status, document, said) = python(&room.path(), PASSPHRASE);
    assert_eq!(status, Some(0), "{said}");
    let expected: Value = serde_json::from_slice(&fs::read(folder().join("good.json")).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), expected);
    let (status, _, said) = python(&room.path(), "wrong");
    assert_eq!((status, said.trim()), (Some(7), "WrongPassphrase:"));
    for name in names() {
        let room = copied(&name);
        let (status, document, said) = python(&room.path(), PASSPHRASE);
        assert_eq!((status, document.as_str()), (Some(6), ""), "{name}: {said}");
    }
}

#[test]
fn another_language_reads_a_vault_in_the_middle_of_a_rekey() {
    let room = Room::new();
    let vault = Vault::create(&room.path(), &passphrase(PASSPHRASE)).unwrap();
    for user in 0..60 {
        put(&vault, user, 1);
    }
    vault.begin_rekey(soon(), |_, _| Ok(())).unwrap();
    vault.shared.write(soon(), super::super::rekey::move_some).unwrap();
    let expected = vault.store(CACHE).load().unwrap().document.to_bytes();
    drop(vault);
    let (status, document, said) = python(&room.path(), PASSPHRASE);
    assert_eq!(status, Some(0), "{said}");
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), expected);
}
