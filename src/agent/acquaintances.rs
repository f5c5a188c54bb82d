//! Programs that asked before: to look at one and at what started it takes two dozen system calls, to
//! recognise it three.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::process::{self, FileId, Handle};

use super::peer::Peer;
use super::seen::Seen;

/// Programs that ask again and again are few.
const MOST: usize = 16;

/// Of this process.
pub(super) static KNOWN: Acquaintances = Acquaintances::new();

/// The latest last.
#[derive(Debug)]
pub(super) struct Acquaintances(Mutex<Vec<Acquaintance>>);

#[derive(Clone, Debug)]
struct Acquaintance {
    pid: i32,
    /// As long as the process lives nobody else has its number.
    handle: Arc<Handle>,
    /// The file that ran, which is another one after an `exec`, and differs once it is replaced.
    runs: FileId,
    seen: Arc<Seen>,
}

impl Acquaintances {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The handle that there is already of whoever connected with this number. To be asked about
    /// connections in the order in which they were made: an earlier one with the number was another's.
    #[cfg(unix)]
    pub(super) fn handle_of(&self, pid: Option<i32>) -> Option<Arc<Handle>> {
        let pid = pid?;
        let mut known = self.known();
        let handle = known.iter().find(|known| known.pid == pid).map(|known| Arc::clone(&known.handle))?;
        if process::lives(Some(&handle)) {
            return Some(handle);
        }
        known.retain(|known| known.pid != pid);
        None
    }

    pub(super) fn look_at(&self, peer: &Peer) -> Arc<Seen> {
        let Some(pid) = peer.pid else { return Arc::default() };
        if let Some(handle) = &peer.handle
            && let Some(seen) = self.recognise(pid, handle)
            && process::lives(Some(handle))
        {
            return seen;
        }
        let seen = Arc::new(Seen::of(process::look_at(pid, peer.handle.as_deref())));
        if let Some(handle) = &peer.handle {
            self.remember(pid, handle, &seen);
        }
        seen
    }

    fn recognise(&self, pid: i32, handle: &Arc<Handle>) -> Option<Arc<Seen>> {
        let is_this = |known: &&Acquaintance| Arc::ptr_eq(&known.handle, handle);
        let (known_runs, seen) =
            self.known().iter().find(is_this).map(|known| (known.runs, Arc::clone(&known.seen)))?;
        (process::runs(pid) == Some(known_runs)).then_some(seen)
    }

    fn remember(&self, pid: i32, handle: &Arc<Handle>, seen: &Arc<Seen>) {
        let mut known = self.known();
        known.retain(|known| known.pid != pid);
        let certain = seen.program.as_ref().filter(|seen| seen.is_certain());
        let Some(runs) = certain.and_then(|seen| seen.file).filter(|_| process::lives(Some(handle))) else {
            return;
        };
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push(Acquaintance { pid, handle: Arc::clone(handle), runs, seen: Arc::clone(seen) });
    }

    fn known(&self) -> MutexGuard<'_, Vec<Acquaintance>> {
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
        assert!(known.handle_of(peer.pid).is_none());
        let first = known.look_at(&peer);
        assert!(Arc::ptr_eq(&known.handle_of(peer.pid).unwrap(), peer.handle.as_ref().unwrap()));
        assert_eq!(path(&first), program.display().to_string());
        assert_eq!(known.0.lock().unwrap().len(), 1);
        assert!(Arc::ptr_eq(&known.look_at(&peer), &first), "it was recognised, not looked at");

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
        assert!(known.handle_of(peer.pid).is_none(), "it has ended");
        assert!(known.look_at(&peer).program.is_none());
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("cat");
        fs::copy("/bin/cat", &program).unwrap();
        let mut child = process::start(&program, &[]);
        let (peer, known) = (peer_of(&child), Acquaintances::new());
        assert!(known.look_at(&peer).program.as_ref().unwrap().is_certain());
        fs::remove_file(&program).unwrap();
        assert!(!known.look_at(&peer).program.as_ref().unwrap().is_certain());
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
