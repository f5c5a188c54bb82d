//! Who asks: the process at the other end as the system tells, and what it says of itself.

use std::sync::{Arc, LazyLock};

use crate::agent_client::protocol::Behind;
use crate::policy::Subject;
use crate::process::{self, FileId, Program};
use crate::text::harmless;

use super::acquaintances::KNOWN;
use super::peer::Peer;
use super::seen::Seen;

/// A name that a program gives itself is kept up to so many characters.
const LONGEST_NAME: usize = 64;

/// Our own program, whose front doors ask for others.
static OURS: LazyLock<Option<Program>> =
    LazyLock::new(|| process::look_at(i32::try_from(std::process::id()).ok()?, None));

/// The one who asks for a token, as it was when it asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    /// The process at the other end of the connection,
    pub(super) connected: Option<i32>,
    /// and the one that asks: the child behind a front door, else the same.
    pub(super) pid: Option<i32>,
    /// What connected, or what our own front door asks for.
    pub(super) seen: Arc<Seen>,
    /// What it calls itself, made harmless. It proves nothing.
    pub(super) claimed_name: Option<String>,
    /// The grant through which a front door of ours asks, such as `exec 1a2b3c4d`.
    pub(super) grant: Option<String>,
}

impl Asker {
    /// Looks at the peer of a connection.
    pub(super) fn of(peer: &Peer, claimed_name: Option<&str>, behind: Option<&Behind>) -> Self {
        let seen = KNOWN.look_at(peer);
        let asker = Self {
            connected: peer.pid,
            pid: peer.pid,
            claimed_name: claimed_name.map(|name| harmless(name, LONGEST_NAME)),
            seen,
            grant: None,
        };
        match behind {
            // Anybody can say that; only our own program is believed.
            Some(behind) if asker.seen.program.as_ref().is_some_and(is_ours) => asker.behind(behind),
            _ => asker,
        }
    }

    fn behind(self, behind: &Behind) -> Self {
        let grant = Some(format!("{} {}", harmless(&behind.way, 16), harmless(&behind.grant, 16)));
        let child = behind.pid.and_then(|pid| process::look_at(i32::try_from(pid).ok()?, None));
        // The system says whose child it is.
        let child = child.filter(|child| child.parent == self.pid && self.pid.is_some());
        match child {
            Some(child) => Self {
                pid: Some(child.pid),
                seen: Arc::new(Seen::both(Some(child), self.seen.program.clone())),
                grant,
                ..self
            },
            None => Self { grant, ..self },
        }
    }

    /// The files that ask, by name and identity; `None` if that is not certain. Anybody can run
    /// `tokenkeep token`, so whoever ran it counts, too.
    pub(super) fn identity(&self) -> Option<Vec<(String, FileId)>> {
        let of = |program: Option<&Program>| {
            let program = program.filter(|program| program.is_certain())?;
            Some((program.path.as_ref()?.to_string_lossy().into_owned(), program.file?))
        };
        let mut files = vec![of(self.seen.program.as_ref())?];
        if self.seen.program.as_ref().is_some_and(is_ours) {
            files.push(of(self.seen.parent.as_ref())?);
        }
        Some(files)
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(self.seen.program.as_ref())
    }

    pub(super) fn parent(&self) -> Subject<'_> {
        Subject::of(self.seen.parent.as_ref())
    }

    /// Everything that is known, as one line.
    pub(super) fn in_words(&self) -> String {
        let Seen { executable, started_by, parent, .. } = &*self.seen;
        let mut text = executable.to_string();
        if let Some(pid) = self.pid {
            text.push_str(&format!(" (process {pid})"));
        }
        if let (Some(started_by), Some(parent)) = (started_by, parent) {
            text.push_str(&format!(", started by {started_by} (process {})", parent.pid));
        }
        if let Some(grant) = &self.grant {
            text.push_str(&format!(", through {grant}"));
        }
        if let Some(name) = &self.claimed_name {
            text.push_str(&format!(", calls itself \"{name}\""));
        }
        text
    }
}

/// Our own program at the other end, as a person's command is.
pub(super) fn is_our_command(peer: &Peer) -> bool {
    let program = peer.pid.and_then(|pid| process::look_at(pid, peer.handle.as_deref()));
    program.as_ref().is_some_and(is_ours)
}

fn is_ours(program: &Program) -> bool {
    let file = |program: &Program| program.file.map(|file| (file.device, file.inode));
    OURS.as_ref().is_some_and(|ours| {
        // an agent may be older than the program that stands in its place
        let is_newer = program.is_certain() && program.path == ours.path;
        file(ours).is_some() && (file(ours) == file(program) || is_newer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    fn peer(pid: Option<i32>) -> Peer {
        Peer { pid, handle: None }
    }

    #[test]
    fn a_program_is_named_by_the_system_and_its_own_name_is_a_claim() {
        let asker = Asker::of(&peer(Some(own())), Some("evil\u{1b}[2J\n\u{202e}"), None);
        let path = std::env::current_exe().unwrap();
        assert_eq!(asker.subject().path, Some(&*path));
        let text = asker.in_words();
        assert!(text.starts_with(&format!("{} (process {}), started by ", path.display(), own())), "{text}");
        assert!(text.ends_with(r#", calls itself "evil\u{1b}[2J\u{a}\u{202e}""#), "{text}");
        let nobody = Asker::of(&peer(None), None, None);
        assert_eq!(nobody.in_words(), "an unknown program");
        assert_eq!(nobody.subject().path, None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_front_door_is_believed_only_if_it_is_ours_and_only_about_its_own_child() {
        let mut child =
            std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let behind = |pid: Option<u32>| Behind { grant: "1a2b".to_owned(), way: "exec".to_owned(), pid };
        // This test's program stands in for ours, as it does for the agent's own.
        let asker = Asker::of(&peer(Some(own())), None, Some(&behind(Some(child.id()))));
        assert_eq!(asker.pid, i32::try_from(child.id()).ok());
        assert!(asker.seen.executable.ends_with("/cat"), "{asker:?}");
        assert_eq!(asker.grant.as_deref(), Some("exec 1a2b"));

        let not_its_child = Asker::of(&peer(Some(own())), None, Some(&behind(Some(1))));
        assert_eq!(not_its_child.pid, Some(own()));
        let pretender = i32::try_from(child.id()).unwrap();
        let pretended = Asker::of(&peer(Some(pretender)), None, Some(&behind(None)));
        assert_eq!(pretended.grant, None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
