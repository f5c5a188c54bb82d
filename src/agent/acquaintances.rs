//! Programs that asked before: to look at one and at what started it takes two dozen system calls, to
//! recognise it four.

use std::sync::{Mutex, PoisonError};

use crate::process::{self, FileId, HandleId, Program};

use super::peer::Peer;

/// Programs that ask again and again are few.
const MOST: usize = 16;

/// The latest last.
#[derive(Debug)]
pub(super) struct Acquaintances(Mutex<Vec<Acquaintance>>);

#[derive(Clone, Debug)]
struct Acquaintance {
    handle: HandleId,
    /// The file that ran, which is another one after an `exec`, and differs once it is replaced.
    runs: FileId,
    seen: Seen,
}

/// The program at the other end, and what started it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) program: Option<Program>,
    pub(super) parent: Option<Program>,
}

impl Acquaintances {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn look_at(&self, peer: &Peer) -> Seen {
        let Some(pid) = peer.pid else { return Seen::default() };
        let handle = peer.handle.as_deref().and_then(process::Handle::id);
        if let Some(handle) = handle
            && let Some(seen) = self.recognise(pid, handle)
            && process::lives(peer.handle.as_deref())
        {
            return seen;
        }
        let program = process::look_at(pid, peer.handle.as_deref());
        let parent = program.as_ref().and_then(|program| process::look_at(program.parent?, None));
        let seen = Seen { program, parent };
        if let Some(handle) = handle {
            self.remember(handle, &seen);
        }
        seen
    }

    fn recognise(&self, pid: i32, handle: HandleId) -> Option<Seen> {
        let known = self.known().iter().find(|known| known.handle == handle).cloned()?;
        (process::runs(pid) == Some(known.runs)).then_some(known.seen)
    }

    fn remember(&self, handle: HandleId, seen: &Seen) {
        let mut known = self.known();
        known.retain(|known| known.handle != handle);
        let Some(runs) = seen.program.as_ref().filter(|seen| seen.is_certain()).and_then(|seen| seen.file)
        else {
            return;
        };
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push(Acquaintance { handle, runs, seen: seen.clone() });
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Acquaintance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::process::Child;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    fn peer_of(child: &Child) -> Peer {
        let pid = i32::try_from(child.id()).unwrap();
        Peer { pid: Some(pid), handle: process::handle_of(pid).map(Arc::new) }
    }

    fn path(seen: &Seen) -> String {
        seen.program.as_ref().unwrap().path.as_ref().unwrap().display().to_string()
    }

    #[test]
    fn a_program_is_recognised_until_it_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("sh");
        fs::copy("/bin/sh", &program).unwrap();
        let mut child = process::start(&program, &["-c", "read go; exec /bin/cat"]);
        let peer = peer_of(&child);
        let known = Acquaintances::new();
        let first = known.look_at(&peer);
        assert_eq!(path(&first), program.display().to_string());
        assert_eq!(known.0.lock().unwrap().len(), 1);
        known.0.lock().unwrap()[0].seen.parent = None;
        assert!(known.look_at(&peer).parent.is_none(), "it was recognised, not looked at");

        // the same process becomes another program
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let is_cat = || path(&known.look_at(&peer)).ends_with("/cat");
        let given_up = Instant::now() + Duration::from_secs(60);
        while !is_cat() {
            assert!(Instant::now() < given_up, "it is still taken for the shell");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(known.look_at(&peer).parent.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(known.look_at(&peer).program.is_none(), "it has ended");
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("cat");
        fs::copy("/bin/cat", &program).unwrap();
        let mut child = process::start(&program, &[]);
        let (peer, known) = (peer_of(&child), Acquaintances::new());
        assert!(known.look_at(&peer).program.unwrap().is_certain());
        fs::remove_file(&program).unwrap();
        assert!(!known.look_at(&peer).program.unwrap().is_certain());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_has_ended_is_not_recognised_in_the_next_one_with_its_number() {
        let cat = std::path::Path::new("/bin/cat");
        let (mut child, mut next) = (process::start(cat, &[]), process::start(cat, &[]));
        let (peer, known) = (peer_of(&child), Acquaintances::new());
        assert!(known.look_at(&peer).program.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        // the next one stands in for whoever may get the number: it runs the same file
        let reused = Peer { pid: peer_of(&next).pid, ..peer };
        assert!(known.look_at(&reused).program.is_none());
        next.kill().unwrap();
        next.wait().unwrap();
    }
}
