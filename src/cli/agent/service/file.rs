//! A file that we write for somebody else to read, and may write again as long as nobody edited it.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::super::failure::Failure;
use super::super::super::private_file;

/// What stands before the digest of the file, which is taken with zeros in its own place.
const MARK: &str = "written by tokenkeep agent install, sha256 ";
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Nobody writes longer ones.
const MAX_LENGTH: u64 = 64 * 1024;

/// How many lines of a difference a person reads.
const MAX_DIFFERENCES: usize = 20;

/// The line that makes a file ours; [`ServiceFile::new`] fills in the digest.
pub(super) fn mark() -> String {
    format!("{MARK}{ZEROS}")
}

/// What is to be in a file.
#[derive(Debug)]
pub(super) struct ServiceFile {
    pub(super) path: PathBuf,
    pub(super) content: String,
}

/// What is in it now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Absent,
    Same,
    /// Written by us, for other options or by another version.
    Ours,
    /// Written by us, and changed since.
    Edited {
        now: String,
    },
    Foreign {
        now: String,
    },
}

impl ServiceFile {
    /// `text` has a [`mark`] in a comment.
    pub(super) fn new(path: PathBuf, text: &str) -> Self {
        Self { path, content: text.replacen(ZEROS, &digest(text), 1) }
    }

    pub(super) fn look(&self) -> Result<Found, Failure> {
        let bytes = match private_file::read(&self.path, MAX_LENGTH) {
            Ok(bytes) => bytes,
            Err(Failure::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Found::Absent);
            }
            Err(failure) => return Err(failure),
        };
        let now = String::from_utf8_lossy(&bytes).into_owned();
        Ok(match is_intact(&now) {
            _ if now == self.content => Found::Same,
            Some(true) => Found::Ours,
            Some(false) => Found::Edited { now },
            None => Found::Foreign { now },
        })
    }

    /// Writes it in one step, whatever is there.
    pub(super) fn write(&self) -> Result<(), Failure> {
        if let Some(folder) = self.path.parent() {
            private_file::make_folder(folder)?;
        }
        private_file::write(&self.path, self.content.as_bytes())
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(Failure::file("removing", &self.path))
    }
}

/// Why the file stays as it is.
pub(super) fn refused(path: &Path, is_ours: bool, differences: &[String], hint: String) -> Failure {
    let (kind, what) = if is_ours {
        ("service_file_edited", "was edited since it was written")
    } else {
        ("service_file_foreign", "was not written by tokenkeep agent install")
    };
    let lines: String = differences.iter().map(|line| format!("\n  {line}")).collect();
    Failure::Agent { kind, problem: format!("{} {what}{lines}", path.display()), hint: Some(hint) }
}

/// Whether the digest fits; `None` if there is none.
fn is_intact(text: &str) -> Option<bool> {
    let (_, rest) = text.split_once(MARK)?;
    let written = rest.get(..ZEROS.len())?;
    Some(digest(&text.replacen(written, ZEROS, 1)) == written)
}

fn digest(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").ok();
        digits
    })
}

/// What would go (`-`) and what would come (`+`), line by line.
pub(super) fn differences(now: &str, then: &str) -> Vec<String> {
    let lines = |text: &'_ str| -> Vec<String> {
        let lines = text.lines().map(str::trim_end).filter(|line| !line.contains(MARK));
        lines.map(str::to_owned).collect()
    };
    let (now, then) = (lines(now), lines(then));
    if now.len() > 1_000 {
        return vec!["- all of it".to_owned()];
    }
    // the longest common subsequence of what follows each pair of lines
    let mut common = vec![vec![0_usize; then.len() + 1]; now.len() + 1];
    for a in (0..now.len()).rev() {
        for b in (0..then.len()).rev() {
            common[a][b] = if now[a] == then[b] {
                common[a + 1][b + 1] + 1
            } else {
                common[a + 1][b].max(common[a][b + 1])
            };
        }
    }
    let (mut a, mut b, mut found) = (0, 0, Vec::new());
    while a < now.len() || b < then.len() {
        if a < now.len() && b < then.len() && now[a] == then[b] {
            (a, b) = (a + 1, b + 1);
        } else if b == then.len() || (a < now.len() && common[a + 1][b] >= common[a][b + 1]) {
            found.push(format!("- {}", now[a]));
            a += 1;
        } else {
            found.push(format!("+ {}", then[b]));
            b += 1;
        }
    }
    if found.len() > MAX_DIFFERENCES {
        let more = found.split_off(MAX_DIFFERENCES).len();
        found.push(format!("and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, text: &str) -> ServiceFile {
        ServiceFile::new(folder.join("a.service"), &format!("# {}\n{text}", mark()))
    }

    #[test]
    fn a_file_is_ours_until_somebody_changes_a_letter() {
        let folder = tempfile::tempdir().unwrap();
        let older = file(folder.path(), "A=1\nB=2\n");
        assert_eq!(older.look().unwrap(), Found::Absent);
        older.write().unwrap();
        assert_eq!(older.look().unwrap(), Found::Same);
        let newer = file(folder.path(), "A=1\nB=3\n");
        assert_eq!(newer.look().unwrap(), Found::Ours);

        let edited = older.content.replace("B=2", "B=7");
        std::fs::write(&older.path, &edited).unwrap();
        assert_eq!(newer.look().unwrap(), Found::Edited { now: edited.clone() });
        assert_eq!(differences(&edited, &newer.content), ["- B=7", "+ B=3"]);
        for foreign in ["", "A=1\n", "# written by tokenkeep agent install, sha256 00\n"] {
            std::fs::write(&older.path, foreign).unwrap();
            assert_eq!(older.look().unwrap(), Found::Foreign { now: foreign.to_owned() });
        }
    }

    #[test]
    fn only_the_lines_that_differ_are_told() {
        assert_eq!(differences("a\nb\nc\n", "a\nb\nc"), [""; 0]);
        assert_eq!(differences("a\nx\nc\nd", "a\nb\nc\nd\ne"), ["- x", "+ b", "+ e"]);
        assert_eq!(differences("", "a"), ["+ a"]);
        let many = "line\n".repeat(100);
        assert_eq!(differences(&many, "").last().unwrap(), "and 80 more");
    }
}
