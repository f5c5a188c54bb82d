//! What is wrong with one cache: its file, its locks, its content.

use std::path::Path;
use std::time::Duration;

use super::super::known::Known;
use super::super::plan::{dead_entries, removal_of};
use super::catalogue as sign;
use super::repair::{Task, Work};
use super::{ExaminationOptions, Finding, Repair, Survey};
use crate::document::{Defect, DefectKind, EntryPlace, TokenCacheDocument};
use crate::error::CacheError;
use crate::options::Storage;
use crate::store::{Content, Encoding, FileFacts, LockFacts, Place, Writing};
use crate::time::in_words;

/// Nobody writes for so long.
const LONG_HOLD: Duration = Duration::from_secs(60);

/// Collects what is wrong with one cache.
pub(super) struct Findings<'a> {
    /// Its number among the caches.
    pub(super) place: usize,
    pub(super) cache: &'a Survey,
    pub(super) options: &'a ExaminationOptions,
    /// Whether there is an encrypted store on this machine that works.
    pub(super) keyring_works: bool,
    /// What the provider called dead.
    pub(super) known: Option<&'a Known>,
    pub(super) found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    pub(super) fn collect(&mut self) {
        // first, because nothing else can be repaired while they are there
        for lock in &self.cache.odd_locks {
            let finding = Finding::new(&sign::LOCK_NO_FILE, lock.display().to_string());
            let finding = self.repaired_by(Task::SetLockAside { lock: lock.clone() }, finding);
            if self.is_news(&finding.subject) {
                self.add(finding);
            }
        }
        if let (Place::File(_), Some(file)) = (self.cache.silo.place(), &self.cache.facts.file) {
            self.of_file(file);
        }
        for lock in &self.cache.facts.locks {
            if !self.cache.odd_locks.contains(&lock.path) {
                self.of_lock(lock);
            }
        }
        self.of_leftovers();
        self.of_content();
    }

    fn subject(&self) -> String {
        self.cache.silo.describe().to_string()
    }

    /// Several caches may share a lock.
    fn is_news(&self, subject: &str) -> bool {
        self.found.iter().all(|told| told.subject != subject)
    }

    fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// Another tool's rules may not let us; then its own advice is the next step.
    fn repaired_by(&self, task: Task, finding: Finding) -> Finding {
        match self.cache.silo.writing() {
            Writing::ReadOnly { instead, .. } => finding.fix(instead),
            _ => finding.repair(Repair(Work::Cache { place: self.place, task })),
        }
    }

    fn of_file(&mut self, file: &FileFacts) {
        let path = file.path.display().to_string();
        if !file.is_ours {
            let owner = file.owner.map_or_else(String::new, |owner| format!("user {owner}"));
            let fix = format!("sudo chown -h \"$(id -un)\" {}", quoted(&path));
            self.add(Finding::new(&sign::CACHE_FOREIGN, self.subject()).detail(owner).fix(fix));
        } else if file.is_no_cache() {
            let what = match &file.link {
                Some(to) => format!("{:?}, a link to {}", file.kind, to.display()),
                None => format!("{:?}, {} bytes", file.kind, file.size),
            };
            let finding = Finding::new(&sign::CACHE_NO_FILE, self.subject()).detail(what);
            self.add(self.repaired_by(Task::SetFileAside, finding));
        } else if file.is_open_to_others() && holds_something(&self.cache.facts.content) {
            let finding = Finding::new(&sign::FILE_MODE_OPEN, self.subject()).detail(mode(file.mode));
            self.add(self.repaired_by(Task::TightenFile, finding));
        }
        if file.is_folder_open_to_others() {
            let folder = file.path.parent().unwrap_or(&file.path).display().to_string();
            let is_told =
                self.found.iter().any(|told| told.sign == &sign::FOLDER_MODE_OPEN && told.subject == folder);
            if !is_told {
                let finding = Finding::new(&sign::FOLDER_MODE_OPEN, folder).detail(mode(file.folder_mode));
                self.add(self.repaired_by(Task::TightenFolder, finding));
            }
        }
    }

    fn of_lock(&mut self, lock: &LockFacts) {
        let path = lock.path.display().to_string();
        // azd's lock stays where it is, held or not
        if !path.ends_with(".lockfile") || !self.is_news(&path) {
            return;
        }
        let age = lock.modified.map(|modified| modified.until(self.options.now));
        let is_old = age.is_some_and(|age| age > LONG_HOLD);
        let detail = match age {
            Some(age) => format!("{}, {} ago", lock.holder, in_words(age)),
            None => lock.holder.clone(),
        };
        match lock.is_alive {
            Some(true) if is_old => {
                let fix = "wait for that process, or end it".to_owned();
                self.add(Finding::new(&sign::LOCK_HELD_LONG, path).detail(detail).fix(fix));
            }
            Some(false) => {
                let finding = Finding::new(&sign::LOCK_STALE, path).detail(detail);
                self.add(self.repaired_by(Task::FreeLocks, finding));
            }
            None if is_old => {
                let finding = Finding::new(&sign::LOCK_STALE, path).detail(detail);
                self.add(self.repaired_by(Task::FreeLocks, finding));
            }
            Some(true) | None => {}
        }
    }

    fn of_leftovers(&mut self) {
        if let Some(temporary) = &self.cache.temporary {
            let finding = Finding::new(&sign::TEMPORARY_LEFT, temporary.display().to_string());
            self.add(self.repaired_by(Task::RemoveTemporary, finding));
        }
        if let Some(item) = self.cache.facts.item.as_ref().filter(|item| item.count > 1) {
            let finding = Finding::new(&sign::ITEM_DUPLICATE, self.subject());
            let fix = "remove all but the newest with your keyring's manager, such as seahorse";
            self.add(finding.detail(format!("{} items called {:?}", item.count, item.label)).fix(fix));
        }
    }

    fn of_content(&mut self) {
        match &self.cache.facts.content {
            Content::Cache { document, encoding } => {
                for defect in document.defects(self.options.now) {
                    self.of_defect(defect);
                }
                self.of_dead(document);
                self.of_encoding(*encoding);
                self.of_plaintext(*encoding);
            }
            Content::Unreadable(error) => self.of_error(error),
            _ => {}
        }
    }

    fn of_defect(&mut self, defect: Defect) {
        let mut finding = Finding::new(sign::of_defect(defect.kind), self.subject());
        finding.detail = counted(&defect);
        finding.entries.clone_from(&defect.entries);
        let finding = if defect.repairable {
            self.repaired_by(Task::Mend { defect, now: self.options.now }, finding)
        } else {
            match defect.kind {
                DefectKind::AccountWithoutRefreshToken | DefectKind::RefreshTokenOld => {
                    finding.fix(self.sign_in_again())
                }
                DefectKind::RefreshTokenWithoutAccount => {
                    let again = self.sign_in_again();
                    finding.fix(format!("{again}, and out"))
                }
                _ => finding,
            }
        };
        self.add(finding);
    }

    /// What a program wrote back that was not told of the refusal, or could not be reached then.
    fn of_dead(&mut self, document: &TokenCacheDocument) {
        let dead = self.known.map(|known| dead_entries(document, known)).unwrap_or_default();
        if let Some(first) = dead.first() {
            let mut finding = Finding::new(&sign::REFRESH_TOKEN_DEAD, self.subject());
            finding.detail = format!("{} in RefreshToken, by {}", dead.len(), first.cause.code());
            finding.entries = dead.iter().map(|entry| EntryPlace::new("RefreshToken", &entry.key)).collect();
            let finding = self.repaired_by(Task::RemoveDead(removal_of(&dead)), finding);
            self.add(finding);
        }
    }

    fn sign_in_again(&self) -> String {
        if self.cache.silo.is_of("python") {
            return "tokenkeep login".to_owned();
        }
        let command = [
            ("az", "az login"),
            ("azd", "azd auth login"),
            ("az-powershell", "Connect-AzAccount"),
            ("graph-powershell", "Connect-MgGraph"),
        ];
        let command = command.into_iter().find(|(id, _)| self.cache.silo.is_of(id));
        command
            .map_or_else(|| "sign in again with its own tool".to_owned(), |(_, command)| command.to_owned())
    }

    fn of_encoding(&mut self, found: Encoding) {
        let own = self.cache.silo.encoding();
        if found != own {
            let finding = Finding::new(&sign::ENCODING_FOREIGN, self.subject());
            let fix = "sign in again with the tool that wrote it, in its newest version";
            self.add(finding.detail(format!("{found:?} in place of {own:?}")).fix(fix));
        }
    }

    /// Of the tools that encrypt where they can; the Azure CLI and its like never do on Linux.
    fn of_plaintext(&mut self, encoding: Encoding) {
        let Content::Cache { document, .. } = &self.cache.facts.content else { return };
        let encrypts = ["python", "node", "dotnet", "java", "go", "gcm", "az-powershell", "graph-powershell"];
        let is_left = matches!(self.cache.silo.place(), Place::File(_))
            && !encoding.encrypts()
            && self.keyring_works
            && self.options.storage != Storage::Plaintext
            && encrypts.iter().any(|id| self.cache.silo.is_of(id))
            && document.client_summaries().iter().any(|client| !client.refresh_tokens.is_empty());
        if is_left {
            let name = self.cache.silo.name();
            let base = name.strip_suffix(".nocae").or_else(|| name.strip_suffix(".cae"));
            let finding = Finding::new(&sign::PLAINTEXT_LEFT, self.subject());
            self.add(match base.filter(|_| self.cache.silo.is_of("python")) {
                Some(base) => finding.fix(format!(
                    "tokenkeep import --from plaintext --remove-plaintext --store platform --cache {}",
                    quoted(base)
                )),
                None => finding.fix("sign out and in again with its own tool"),
            });
        }
    }

    fn of_error(&mut self, error: &CacheError) {
        let file = self.cache.facts.file.as_ref();
        let file = file.filter(|_| matches!(self.cache.silo.place(), Place::File(_)));
        let is_of_file =
            matches!(error, CacheError::Io { .. } | CacheError::TooLarge { .. } | CacheError::Unsafe { .. });
        // the file itself was told of already
        if is_of_file
            && file.is_some_and(|file| !file.is_ours || file.is_no_cache() || file.is_folder_open_to_others())
        {
            return;
        }
        let subject = self.subject();
        let finding = match error {
            CacheError::Damaged { detail, .. } => {
                let finding = Finding::new(&sign::CACHE_DAMAGED, subject).detail(detail.clone());
                self.repaired_by(Task::SetContentAside, finding)
            }
            CacheError::KeyGone { detail, .. } => {
                Finding::new(&sign::CACHE_KEY_GONE, subject).detail(detail.clone()).fix(error.hint())
            }
            CacheError::KeyUnavailable { detail, .. } => {
                Finding::new(&sign::CACHE_KEY_UNAVAILABLE, subject).detail(detail.clone()).fix(error.hint())
            }
            CacheError::NewerFormat { detail, .. } => {
                Finding::new(&sign::CACHE_NEWER_FORMAT, subject).detail(detail.clone()).fix(error.hint())
            }
            // the keyring's own state is told once, for all that is in it
            CacheError::Locked { .. }
            | CacheError::Timeout { .. }
            | CacheError::EncryptionUnavailable { .. } => {
                return;
            }
            other => {
                Finding::new(&sign::CACHE_UNREADABLE, subject).detail(other.to_string()).fix(other.hint())
            }
        };
        self.add(finding);
    }
}

pub(super) fn of_copy(copy: &Path) -> Finding {
    let path = copy.display().to_string();
    let fix = format!("rm -r {}", quoted(&path));
    Finding::new(&sign::DAMAGED_COPY, path).fix(fix)
}

/// Whether there is anything in it that others should not see.
fn holds_something(content: &Content) -> bool {
    match content {
        Content::Cache { document, .. } => !document.is_empty(),
        Content::Absent | Content::Blank => false,
        _ => true,
    }
}

fn mode(mode: Option<u32>) -> String {
    mode.map_or_else(String::new, |mode| format!("mode {mode:04o}"))
}

/// How many entries, and of which sections.
fn counted(defect: &Defect) -> String {
    let mut sections: Vec<(&str, usize)> = Vec::new();
    for entry in &defect.entries {
        match sections.iter_mut().find(|(section, _)| *section == entry.section) {
            Some((_, count)) => *count += 1,
            None => sections.push((&entry.section, 1)),
        }
    }
    let counts = sections.iter().map(|(section, count)| format!("{count} in {section}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// As one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Places, silos};
    use crate::time::UnixTime;

    /// What is found of a file that cannot be read for this reason; some there are on one system only.
    fn found(error: CacheError) -> Vec<Finding> {
        let home = tempfile::tempdir().unwrap();
        let places = Places::below(home.path());
        let silo = silos(&places).into_iter().find(|silo| matches!(silo.place(), Place::File(_))).unwrap();
        let Place::File(path) = silo.place() else { unreachable!("it was looked for") };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
        let mut facts = silo.facts();
        facts.content = Content::Unreadable(error);
        let cache = Survey { silo, facts, temporary: None, odd_locks: Vec::new() };
        let options = ExaminationOptions::new(places, UnixTime::from_seconds(1_800_000_000));
        let mut found = Vec::new();
        Findings {
            place: 0,
            cache: &cache,
            options: &options,
            keyring_works: true,
            known: None,
            found: &mut found,
        }
        .of_content();
        found
    }

    #[test]
    fn each_reason_why_a_cache_cannot_be_read_has_its_finding_and_next_step() {
        let (place, detail) = ("x".to_owned(), "as it says".to_owned());
        for (error, sign) in [
            (CacheError::KeyGone { place: place.clone(), detail: detail.clone() }, &sign::CACHE_KEY_GONE),
            (
                CacheError::KeyUnavailable { place: place.clone(), detail: detail.clone() },
                &sign::CACHE_KEY_UNAVAILABLE,
            ),
            (CacheError::NewerFormat { place: place.clone(), detail }, &sign::CACHE_NEWER_FORMAT),
        ] {
            let [finding] = &found(error)[..] else { panic!("{}: not one finding", sign.id) };
            assert_eq!((finding.sign, finding.detail.as_str()), (sign, "as it says"));
            assert!(finding.fix.is_some() && finding.repair.is_none(), "{finding:?}");
        }
        // of the keyring it is told once, not for each cache in it
        assert!(found(CacheError::Locked { place }).is_empty());
    }

    /// azd's on Windows: the one encoding that names itself, so that a later one can be told.
    #[cfg(windows)]
    #[test]
    fn an_envelope_of_tomorrow_is_of_a_newer_format_and_one_of_another_user_has_no_key() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::below(home.path());
        let silos = silos(&places);
        let azd = silos.iter().find(|silo| silo.is_of("azd")).unwrap();
        let Place::File(path) = azd.place() else { panic!("{azd:?}") };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (kept, id) in [
            (r#"{"type":"Tomorrow","data":""}"#, "cache-newer-format"),
            (r#"{"type":"CryptProtectData","data":"c2VhbGVk"}"#, "cache-key-unavailable"),
        ] {
            std::fs::write(path, kept).unwrap();
            let mut options = ExaminationOptions::new(places.clone(), UnixTime::from_seconds(1_800_000_000));
            options.offline = true;
            let found = super::super::examine(&options).findings;
            assert!(found.iter().any(|finding| finding.sign.id == id), "{id}: {found:?}");
        }
    }
}
