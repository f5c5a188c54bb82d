//! What stands in the memory of a process.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::{Run, World};

/// Reads all memory of a process, and says which of the texts it was given stand in it.
const SCANNER: &str = r#"
import json, sys
wanted = {name: bytes(text) for name, text in json.load(sys.stdin)}
found, size = set(), 0
with open(f"/proc/{sys.argv[1]}/maps") as maps, open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
    for line in maps:
        fields = line.split()
        start, end = (int(at, 16) for at in fields[0].split("-"))
        if "r" not in fields[1] or fields[-1] in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
            continue
        memory.seek(start)
        try:
            part = memory.read(end - start)
        except OSError:  # mapped beyond the end of a file
            continue
        size += len(part)
        found |= {name for name, text in wanted.items() if text in part}
assert size > 1 << 20, size
print(json.dumps(sorted(found)))
"#;

/// Which of these texts stand anywhere in the memory of the process.
pub(crate) fn found_in(pid: u32, secrets: &[(&'static str, Vec<u8>)]) -> BTreeSet<String> {
    let mut scanner = Command::new("/usr/bin/python3")
        .args(["-c", SCANNER, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(scanner.stdin.take().unwrap(), secrets).unwrap();
    let scanned = Run::of(scanner.wait_with_output().unwrap(), "scanner").ok();
    serde_json::from_value(scanned.json()).unwrap()
}

/// What the world's document holds, and nobody else has to see.
pub(crate) fn secrets_of(world: &World, token: &str) -> Vec<(&'static str, Vec<u8>)> {
    let document = world.store().load().unwrap().document;
    let document: serde_json::Value = serde_json::from_slice(&document.to_bytes()).unwrap();
    let refresh = document["RefreshToken"].as_object().unwrap().values().next().unwrap();
    vec![
        ("access token", token.as_bytes().to_vec()),
        ("refresh token", refresh["secret"].as_str().unwrap().as_bytes().to_vec()),
    ]
}

pub(crate) fn names(secrets: &[(&'static str, Vec<u8>)]) -> BTreeSet<String> {
    secrets.iter().map(|(name, _)| (*name).to_owned()).collect()
}
