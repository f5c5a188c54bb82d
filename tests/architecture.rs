//! Arrows point down only: a room imports rooms below it, never one above.

use std::fs;
use std::path::{Path, PathBuf};

/// Top first. Rooms on one line do not know each other.
const ROOMS: &[&[&str]] = &[
    &["cli"],
    &["agent", "serve"],
    &["share"],
    &["revocation"],
    &["credential"],
    &["agent_client"],
    &["acquire"],
    &["entra", "store"],
    &["document"],
    &["config"],
    &["policy"],
    &["bounded_http", "process"],
    &["cloud", "error", "options", "record", "text", "time", "token"],
];

/// The nouns lean on each other.
const NOUNS: usize = ROOMS.len() - 1;

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn wrong_way(src: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files(src) {
        let inside = file.strip_prefix(src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let Some(from) = floor(room) else { continue };
        for other in rooms_named_in(&fs::read_to_string(&file).unwrap()) {
            let Some(to) = floor(&other) else { continue };
            let beside = to == from && other != room && from != NOUNS;
            if to < from || beside {
                found.push(format!("{} names crate::{other}", inside.display()));
            }
        }
    }
    found
}

/// Every name that directly follows `crate::`, also inside braces.
fn rooms_named_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(leading_name(rest)),
            Some(group) => names.extend(members(group)),
        }
    }
    names
}

fn leading_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each member of a group, up to its closing brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = vec![leading_name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(leading_name(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn arrows_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(wrong_way(&src), [""; 0]);
}

#[test]
fn an_upward_and_a_sideways_import_would_be_found() {
    let src = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = src.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("acquire/mod.rs", "use crate::{entra::Client, store::{Store, open}};\n// crate::cli\n");
    write("token.rs", "use crate::error::Error;\n");
    assert_eq!(wrong_way(src.path()), [""; 0]);

    write("document/find.rs", "fn f() -> crate::acquire::Choice {}\n");
    write("entra/mod.rs", "use crate::{time::Clock, store::Store};\n");
    assert_eq!(
        wrong_way(src.path()),
        ["document/find.rs names crate::acquire", "entra/mod.rs names crate::store"]
    );
}

#[test]
fn no_test_file_is_forgotten() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let runner = fs::read_to_string(tests.join("runner.rs")).unwrap();
    for entry in fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_module = path.extension().is_some_and(|e| e == "rs") && name != "runner";
        assert!(!is_module || runner.contains(&format!("mod {name};")), "{name} is not run");
    }
}
