//! Whatever somebody puts into the place of a tool's cache: an answer in bounded time and memory,
//! an error that says what it is, nothing changed.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokenkeep::error::CacheError;
use tokenkeep::store::{Content, FileKind, Place, Places, Silo, SiloFacts, silos};
use tokenkeep::time::Deadline;

use crate::support::{NO_BUS, built, fake_sign_in, in_home, run};

/// What may be in the place of a cache, and what is to be said of it.
struct Hostile {
    name: &'static str,
    make: fn(&Path),
    is_expected: fn(&SiloFacts) -> bool,
}

impl Hostile {
    /// Then a few of the places have to do: it takes its time to make and to read.
    fn is_large(&self) -> bool {
        self.name.contains("50 MB")
    }
}

const MANY: usize = 50 << 20;

const HOSTILE: [Hostile; 27] = [
    // files that are none
    Hostile {
        name: "a pipe",
        make: pipe,
        is_expected: |facts| is_unsafe(facts) && is_kind(facts, FileKind::Pipe),
    },
    Hostile {
        name: "a folder",
        make: |path| fs::create_dir(path).unwrap(),
        is_expected: |facts| is_unsafe(facts) && is_kind(facts, FileKind::Folder),
    },
    Hostile {
        name: "a socket",
        make: |path| drop(UnixListener::bind(path).unwrap()),
        is_expected: |facts| is_unsafe(facts) && is_kind(facts, FileKind::Socket),
    },
    Hostile {
        name: "a link to a device that never ends",
        make: |path| symlink("/dev/zero", path).unwrap(),
        is_expected: is_unsafe,
    },
    Hostile {
        name: "a link to a terminal",
        make: |path| symlink("/dev/tty", path).unwrap(),
        is_expected: is_unsafe,
    },
    Hostile {
        name: "a link to itself",
        make: |path| symlink(path, path).unwrap(),
        is_expected: |facts| is_kind(facts, FileKind::BrokenLink) && is_io(facts),
    },
    Hostile {
        name: "a ring of links",
        make: ring,
        is_expected: |facts| is_kind(facts, FileKind::BrokenLink) && is_io(facts),
    },
    Hostile {
        name: "a link to a pipe",
        make: |path| {
            let other = path.with_extension("pipe");
            pipe(&other);
            symlink(other, path).unwrap();
        },
        is_expected: is_unsafe,
    },
    Hostile {
        name: "a link into a folder that anybody may write to",
        make: |path| symlink("/tmp/somebody-elses", path).unwrap(),
        is_expected: is_unsafe,
    },
    Hostile {
        name: "somebody else's file",
        make: foreign,
        is_expected: |facts| is_unsafe(facts) && !facts.file.as_ref().unwrap().is_ours,
    },
    // files without end, or nearly
    Hostile {
        name: "a file of a terabyte",
        make: |path| File::create(path).unwrap().set_len(1 << 40).unwrap(),
        is_expected: |facts| matches!(&facts.content, Content::Unreadable(CacheError::TooLarge { .. })),
    },
    Hostile {
        name: "50 MB of nothing",
        make: |path| File::create(path).unwrap().set_len(MANY as u64).unwrap(),
        is_expected: is_damaged,
    },
    Hostile {
        name: "50 MB of one text",
        make: |path| put(path, &[br#"{"AccessToken":{"a":{"secret":""#, &*vec![b'x'; MANY], br#""}}}"#]),
        is_expected: |facts| matches!(facts.content, Content::Cache { .. }),
    },
    Hostile {
        name: "50 MB of values",
        make: |path| put(path, &[br#"{"AccessToken":{"#, &*br#""a":{},"#.repeat(MANY / 7), br#""z":{}}}"#]),
        is_expected: is_damaged,
    },
    Hostile {
        name: "50 MB of brackets",
        make: |path| put(path, &[br#"{"AccessToken":"#, &*vec![b'['; MANY]]),
        is_expected: is_damaged,
    },
    Hostile {
        name: "brackets below the number of values",
        make: |path| put(path, &[br#"{"AccessToken":"#, &*vec![b'['; 900_000]]),
        is_expected: is_damaged,
    },
    Hostile {
        name: "50 MB of base64",
        make: |path| put(path, &[STANDARD.encode(br#"{"a":"#.repeat(MANY / 8)).as_bytes()]),
        is_expected: is_damaged,
    },
    // text that is no cache
    Hostile {
        name: "base64 of base64 of JSON",
        make: |path| put(path, &[STANDARD.encode(STANDARD.encode("{}")).as_bytes()]),
        is_expected: is_damaged,
    },
    Hostile {
        name: "half of a cache",
        make: |path| put(path, &[br#"{"AccessToken":{"a":{"#]),
        is_expected: is_damaged,
    },
    Hostile { name: "a list", make: |path| put(path, &[b"[]"]), is_expected: is_damaged },
    Hostile { name: "null", make: |path| put(path, &[b"null"]), is_expected: is_damaged },
    Hostile { name: "no text", make: |path| put(path, &[b"{\"a\": \"\xff\xfe\"}"]), is_expected: is_damaged },
    Hostile {
        name: "sections of wrong types",
        make: |path| {
            put(
                path,
                &[br#"{"AccessToken":[1],"RefreshToken":"x","IdToken":7,"Account":null,"AppMetadata":true}"#],
            );
        },
        is_expected: |facts| matches!(facts.content, Content::Cache { .. }),
    },
    Hostile {
        name: "entries of wrong types",
        make: |path| {
            put(path, &[br#"{"Account":{"a":[],"b":null,"c":{"home_account_id":{},"environment":[],"realm":7,"username":{"a":1}}},"RefreshToken":{"d":{"secret":1e999}}}"#]);
        },
        is_expected: |facts| !matches!(facts.content, Content::Absent | Content::Blank),
    },
    // what looks encrypted
    Hostile {
        name: "a JWE of nothing",
        make: |path| put(path, &[b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2Iiwia2lkIjoiMSJ9...."]),
        is_expected: is_damaged,
    },
    Hostile {
        name: "a JWE of another kind",
        make: |path| {
            put(path, &[b"eyJhbGciOiJub25lIiwiZW5jIjoiTk9ORSIsImtpZCI6IjEifQ..MDEyMzQ1Njc4OWFiY2RlZg.eA.eA"]);
        },
        is_expected: is_damaged,
    },
    Hostile {
        name: "50 MB of a JWE",
        make: |path| {
            put(
                path,
                &[
                    b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2Iiwia2lkIjoiMSJ9..MDEyMzQ1Njc4OWFiY2RlZg.",
                    &*vec![b'A'; MANY],
                    b".MDEyMzQ1Njc4OWFiY2RlZg",
                ],
            );
        },
        is_expected: |facts| matches!(&facts.content, Content::Unreadable(CacheError::KeyGone { .. })),
    },
];

fn is_unsafe(facts: &SiloFacts) -> bool {
    matches!(&facts.content, Content::Unreadable(CacheError::Unsafe { .. }))
}

fn is_io(facts: &SiloFacts) -> bool {
    matches!(&facts.content, Content::Unreadable(CacheError::Io { .. }))
}

fn is_damaged(facts: &SiloFacts) -> bool {
    matches!(&facts.content, Content::Unreadable(CacheError::Damaged { .. }))
}

fn is_kind(facts: &SiloFacts, kind: FileKind) -> bool {
    facts.file.as_ref().is_some_and(|file| file.kind == kind)
}

fn put(path: &Path, parts: &[&[u8]]) {
    let mut file = File::create(path).unwrap();
    for part in parts {
        file.write_all(part).unwrap();
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn ring(path: &Path) {
    let other = path.with_extension("other");
    symlink(&other, path).unwrap();
    symlink(path, other).unwrap();
}

fn foreign(path: &Path) {
    put(path, &[b"{}"]);
    std::os::unix::fs::chown(path, Some(65534), None).expect("these tests run as root, as scripts/test does");
}

/// Where the profiles keep files, in a home of its own.
fn places(home: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for silo in silos(&Places::below(home)) {
        if let Place::File(path) = silo.place() {
            let folder = path.parent().unwrap();
            fs::create_dir_all(folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
            paths.push(path.clone());
        }
    }
    assert!(paths.len() >= 12, "{paths:?}");
    paths
}

fn silo_at(home: &Path, path: &Path) -> Silo {
    let found =
        silos(&Places::below(home)).into_iter().find(|silo| *silo.place() == Place::File(path.to_owned()));
    found.unwrap_or_else(|| panic!("{} is not listed", path.display()))
}

/// The answer; fails instead of waiting with a program that waits for ever.
fn answer<T: Send + 'static>(what: &str, question: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(question()));
    receiver.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// What a file is, as far as that can be told without reading the whole of it.
fn outside(path: &Path) -> (u64, u32, Option<PathBuf>, Vec<u8>) {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::symlink_metadata(path).unwrap();
    let mut beginning = Vec::new();
    if metadata.is_file() {
        File::open(path).unwrap().take(4096).read_to_end(&mut beginning).unwrap();
    }
    (metadata.len(), metadata.mode(), fs::read_link(path).ok(), beginning)
}

#[test]
fn in_every_tools_place_whatever_is_there_gets_its_finding() {
    for hostile in &HOSTILE {
        let home = tempfile::tempdir().unwrap();
        let places = if hostile.is_large() { 1 } else { usize::MAX };
        for path in self::places(home.path()).into_iter().take(places) {
            (hostile.make)(&path);
            let before = outside(&path);
            let silo = silo_at(home.path(), &path);
            let case = format!("{} in the place of {}", hostile.name, path.display());
            let facts = answer(&case, move || silo.facts());
            assert!(facts.exists, "{case}");
            assert!((hostile.is_expected)(&facts), "{case}: {facts:?}");
            assert_eq!(outside(&path), before, "{case}: it was changed");
            remove(&path);
        }
    }
}

#[test]
fn nothing_of_it_is_read_as_a_cache_or_written_over() {
    std::thread::scope(|scope| {
        for (number, hostile) in HOSTILE.iter().filter(|hostile| !hostile.is_large()).enumerate() {
            scope.spawn(move || {
                let home = tempfile::tempdir().unwrap();
                let all = places(home.path());
                // another place for each: the way is the same, and damage is looked at three times
                let path = all[number % all.len()].clone();
                (hostile.make)(&path);
                let before = outside(&path);
                let silo = silo_at(home.path(), &path);
                let is_readable = matches!(silo.facts().content, Content::Cache { .. });
                let case = format!("{} in the place of {}", hostile.name, path.display());
                let store = silo.open();
                let sign_in = fake_sign_in("zoe", 0);
                let (loaded, applied) = answer(&case, move || {
                    let loaded = store.load().map(drop);
                    (loaded, store.apply(&sign_in, Deadline::within(Duration::from_secs(5))).map(drop))
                });
                if !is_readable {
                    loaded.unwrap_err();
                    applied.unwrap_err();
                    assert_eq!(outside(&path), before, "{case}: it was changed");
                }
            });
        }
    });
}

fn remove(path: &Path) {
    for path in [path.to_owned(), path.with_extension("pipe"), path.with_extension("other")] {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
    }
}

/// All at once, in a process that has a gigabyte for its whole address space.
#[test]
fn a_home_full_of_it_is_looked_through_in_bounded_memory() {
    let home = tempfile::tempdir().unwrap();
    let paths = places(home.path());
    let mut made = 0;
    for (path, hostile) in paths.iter().zip(HOSTILE.iter().filter(|hostile| hostile.is_large())) {
        (hostile.make)(path);
        made += 1;
    }
    assert!(made >= 6);
    let program = in_home(&built("look-at-caches"), home.path());
    let mut limited = in_home(Path::new("sh"), home.path());
    limited.args(["-c", "ulimit -v 1048576; exec \"$0\" \"$1\""]).arg(program.get_program()).arg(home.path());
    limited.env("DBUS_SESSION_BUS_ADDRESS", NO_BUS);
    let seen = run(&mut limited).ok().stdout;
    assert_eq!(seen.lines().filter(|line| line.starts_with("exists")).count(), made, "{seen}");
}
