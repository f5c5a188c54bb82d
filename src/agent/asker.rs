//! Who asks: the process at the other end as the system tells, and what it says of itself.

use std::sync::LazyLock;

use crate::agent_client::protocol::Behind;
use crate::policy::Subject;
use crate::process::{self, FileId, Program, Stands};
use crate::text::harmless;

use super::acquaintances::{Acquaintances, Seen};
use super::peer::Peer;

/// A name that a program gives itself is kept up to so many characters,
const LONGEST_NAME: usize = 64;

/// and a path up to so many.
const LONGEST_PATH: usize = 512;

/// Our own program, whose front doors ask for others.
static OURS: LazyLock<Option<Program>> =
    LazyLock::new(|| process::look_at(i32::try_from(std::process::id()).ok()?, None));

static KNOWN: Acquaintances = Acquaintances::new();

/// The one who asks for a token, as it was when it asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    /// The process at the other end of the connection,
    pub(super) connected: Option<i32>,
    /// and the one that asks: the child behind a front door, else the same.
    pub(super) pid: Option<i32>,
    /// What connected, or what our own front door asks for; `None` if nobody can tell any more.
    pub(super) program: Option<Program>,
    pub(super) parent: Option<Program>,
    /// What it calls itself, made harmless. It proves nothing.
    pub(super) claimed_name: Option<String>,
    /// The grant through which a front door of ours asks, such as `exec 1a2b3c4d`.
    pub(super) grant: Option<String>,
}

impl Asker {
    /// Looks at the peer of a connection.
    pub(super) fn of(peer: &Peer, claimed_name: Option<&str>, behind: Option<&Behind>) -> Self {
        let Seen { program, parent } = KNOWN.look_at(peer);
        let asker = Self {
            connected: peer.pid,
            pid: peer.pid,
            claimed_name: claimed_name.map(|name| harmless(name, LONGEST_NAME)),
            ..Self::default()
        };
        match behind {
            // Anybody can say that; only our own program is believed.
            Some(behind) if program.as_ref().is_some_and(is_ours) => asker.behind(program, behind),
            _ => Self { program, parent, ..asker },
        }
    }

    fn at(self, program: Option<Program>) -> Self {
        let parent = program.as_ref().and_then(|program| process::look_at(program.parent?, None));
        Self { program, parent, ..self }
    }

    fn behind(self, door: Option<Program>, behind: &Behind) -> Self {
        let grant = format!("{} {}", harmless(&behind.way, 16), harmless(&behind.grant, 16));
        let asker = Self { grant: Some(grant), ..self };
        let child = behind.pid.and_then(|pid| process::look_at(i32::try_from(pid).ok()?, None));
        // The system says whose child it is.
        let child = child.filter(|child| child.parent == asker.pid && asker.pid.is_some());
        match child {
            Some(child) => Self { pid: Some(child.pid), program: Some(child), parent: door, ..asker },
            None => asker.at(door),
        }
    }

    /// The files that ask, by name and identity; `None` if that is not certain. Anybody can run
    /// `tokenkeep token`, so whoever ran it counts, too.
    pub(super) fn identity(&self) -> Option<Vec<(String, FileId)>> {
        let of = |program: Option<&Program>| {
            let program = program.filter(|program| program.is_certain())?;
            Some((program.path.as_ref()?.to_string_lossy().into_owned(), program.file?))
        };
        let mut files = vec![of(self.program.as_ref())?];
        if self.program.as_ref().is_some_and(is_ours) {
            files.push(of(self.parent.as_ref())?);
        }
        Some(files)
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(self.program.as_ref())
    }

    pub(super) fn parent(&self) -> Subject<'_> {
        Subject::of(self.parent.as_ref())
    }

    /// The program's path, harmless, and what is odd about it.
    pub(super) fn executable(&self) -> String {
        in_words(self.program.as_ref())
    }

    /// The same of what started it.
    pub(super) fn started_by(&self) -> Option<String> {
        self.parent.as_ref().map(|parent| in_words(Some(parent)))
    }

    /// Everything that is known, as one line.
    pub(super) fn in_words(&self) -> String {
        let mut text = self.executable();
        if let Some(pid) = self.pid {
            text.push_str(&format!(" (process {pid})"));
        }
        if let Some(parent) = &self.parent {
            text.push_str(&format!(", started by {} (process {})", in_words(Some(parent)), parent.pid));
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

fn in_words(program: Option<&Program>) -> String {
    let Some(path) = program.and_then(|program| program.path.as_ref()) else {
        return "an unknown program".to_owned();
    };
    let path = harmless(&path.to_string_lossy(), LONGEST_PATH);
    match program.map_or(Stands::Unknown, |program| program.stands) {
        Stands::Here => path,
        Stands::Deleted => format!("{path} (replaced or removed since it was started)"),
        Stands::Elsewhere => format!("{path} (of other files than ours)"),
        Stands::Unknown => format!("{path} (perhaps)"),
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
        assert!(asker.executable().ends_with("/cat"), "{asker:?}");
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
