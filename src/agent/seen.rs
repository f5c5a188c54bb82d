//! What a look at a process showed, and how it is told.

use std::sync::{Arc, LazyLock};

use crate::process::{self, Program, Stands};
use crate::text::harmless;

/// A path is told up to so many characters.
const LONGEST_PATH: usize = 512;

const NOBODY_KNOWS: &str = "an unknown program";

/// A program that asks, and what started it.
#[derive(Debug)]
pub(super) struct Seen {
    /// `None` if nobody can tell any more.
    pub(super) program: Option<Program>,
    pub(super) parent: Option<Program>,
    /// The program's path, harmless, and what is odd about it.
    pub(super) executable: Arc<str>,
    /// The same of what started it.
    pub(super) started_by: Option<Arc<str>>,
}

impl Seen {
    /// Looks at what started this one, too.
    pub(super) fn of(program: Option<Program>) -> Self {
        let parent = program.as_ref().and_then(|program| process::look_at(program.parent?, None));
        Self::both(program, parent)
    }

    pub(super) fn both(program: Option<Program>, parent: Option<Program>) -> Self {
        let executable = in_words(program.as_ref());
        let started_by = parent.as_ref().map(|parent| in_words(Some(parent)));
        Self { program, parent, executable, started_by }
    }
}

impl Default for Seen {
    fn default() -> Self {
        static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| NOBODY_KNOWS.into());
        Self { program: None, parent: None, executable: Arc::clone(&NOBODY), started_by: None }
    }
}

fn in_words(program: Option<&Program>) -> Arc<str> {
    let Some(Program { path: Some(path), stands, .. }) = program else { return NOBODY_KNOWS.into() };
    let path = harmless(&path.to_string_lossy(), LONGEST_PATH);
    match stands {
        Stands::Here => path.into(),
        Stands::Deleted => format!("{path} (replaced or removed since it was started)").into(),
        Stands::Elsewhere => format!("{path} (of other files than ours)").into(),
        Stands::Unknown => format!("{path} (perhaps)").into(),
    }
}
