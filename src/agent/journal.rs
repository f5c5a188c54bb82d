//! Who asked for what, on its way into the vault's audit trail: kept in memory for a moment, so that
//! no request waits for a disk, and written a few at a time.
//!
//! What repeats itself is counted. What there was no room for is counted as well, and told.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::agent_client::protocol::State;
use crate::store::Places;
use crate::store::vault::{self, AuditEvent, LockedVault, Unattended};
use crate::time::{Clock, Deadline, UnixTime};

use super::asker::Asker;
use super::permit::Wanted;
use super::session::Session;

/// Different requests that wait to be written; each has some hundred bytes.
const MOST: usize = 512;

/// Processes that are named where several did the same.
const MOST_PIDS: usize = 8;

/// What is new is written after so long, with whatever came meanwhile,
const SOON: Duration = Duration::from_secs(2);

/// and what repeats itself once in so long.
const AGAIN: Duration = Duration::from_secs(900);

/// How long a write waits for others at the vault.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request by all that makes it different from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Note {
    program: Arc<str>,
    started_by: Option<Arc<str>>,
    claimed_name: Option<String>,
    grant: Option<String>,
    action: &'static str,
    reason: Cow<'static, str>,
    /// `None` if it was not even clear what.
    wanted: Option<Arc<Wanted>>,
}

/// How often that was since it was last written.
#[derive(Clone, Debug)]
struct Since {
    count: u64,
    pids: Vec<i32>,
    first: UnixTime,
    due: UnixTime,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: HashMap<Note, Since>,
    /// Requests that there was no room for.
    lost: u64,
}

/// The requests of an agent.
#[derive(Debug)]
pub(super) struct Journal {
    waiting: Mutex<Waiting>,
    clock: Arc<dyn Clock>,
    places: Places,
    came: Notify,
    /// One writer at a time, so that events keep their order.
    writing: tokio::sync::Mutex<()>,
}

impl Journal {
    pub(super) fn new(clock: Arc<dyn Clock>, places: Places) -> Self {
        Self {
            waiting: Mutex::default(),
            clock,
            places,
            came: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Notes a request. Takes no time worth naming.
    pub(super) fn note(&self, note: Note, pid: Option<i32>) {
        let is_new = self.waiting().note(note, pid, self.clock.now());
        if is_new {
            self.came.notify_one();
        }
    }

    /// Writes what is due, for as long as somebody polls it.
    pub(super) async fn keep_writing(&self, session: &Session) {
        loop {
            let next = self.waiting().next();
            match next {
                None => self.came.notified().await,
                Some(due) => {
                    let wait = self.clock.now().until(due);
                    tokio::select! {
                        () = tokio::time::sleep(wait.min(AGAIN)) => {}
                        () = self.came.notified() => continue,
                    }
                    let now = self.clock.now();
                    self.write(session, |waiting| waiting.take(|since| since.due <= now, now)).await;
                }
            }
        }
    }

    /// Writes everything, at the end.
    pub(super) async fn write_all(&self, session: &Session) {
        let now = self.clock.now();
        self.write(session, |waiting| waiting.take(|_| true, now)).await;
    }

    async fn write(&self, session: &Session, take: impl FnOnce(&mut Waiting) -> Vec<AuditEvent> + Send) {
        let _turn = self.writing.lock().await;
        let events = take(&mut self.waiting());
        if events.is_empty() {
            return;
        }
        let (count, places) = (events.len() as u64, self.places.clone());
        let is_locked = session.state() != State::Unlocked;
        let written = tokio::task::spawn_blocking(move || into_vault(&places, &events, is_locked)).await;
        if !written.unwrap_or(false) {
            self.waiting().lost += count;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether this is something new.
    fn note(&mut self, note: Note, pid: Option<i32>, now: UnixTime) -> bool {
        if let Some(since) = self.notes.get_mut(&note) {
            if since.count == 0 {
                since.first = now;
            }
            since.count += 1;
            if let Some(pid) = pid.filter(|pid| since.pids.len() < MOST_PIDS && !since.pids.contains(pid)) {
                since.pids.push(pid);
            }
            return since.count == 1;
        }
        if self.notes.len() >= MOST {
            // what is written is kept only so that it is counted when it comes again
            self.notes.retain(|_, since| since.count > 0);
        }
        if self.notes.len() >= MOST {
            self.lost += 1;
            return false;
        }
        let pids = pid.into_iter().collect();
        self.notes.insert(note, Since { count: 1, pids, first: now, due: now.after(SOON) });
        true
    }

    /// When to write again.
    fn next(&self) -> Option<UnixTime> {
        self.notes.values().filter(|since| since.count > 0).map(|since| since.due).min()
    }

    /// The events of all notes that are ready, in the order of their first requests.
    fn take(&mut self, is_ready: impl Fn(&Since) -> bool, now: UnixTime) -> Vec<AuditEvent> {
        self.notes.retain(|_, since| since.count > 0 || since.due > now);
        let ready = self.notes.iter_mut().filter(|(_, since)| since.count > 0 && is_ready(since));
        let mut events: Vec<AuditEvent> = ready
            .map(|(note, since)| {
                let event = note.event(since);
                *since = Since { count: 0, pids: Vec::new(), first: now, due: now.after(AGAIN) };
                event
            })
            .collect();
        events.sort_by_key(|event| event.at);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let subject = format!("at least {lost} requests were not noted one by one");
            events.push(AuditEvent::new(now, AGENT, "requests_not_noted").subject(subject));
        }
        events
    }
}

const AGENT: &str = concat!("tokenkeep agent ", env!("CARGO_PKG_VERSION"));

impl Note {
    pub(super) fn of(
        asker: &Asker,
        wanted: Option<&Arc<Wanted>>,
        action: &'static str,
        reason: Cow<'static, str>,
    ) -> Self {
        Self {
            program: Arc::clone(&asker.seen.executable),
            started_by: asker.seen.started_by.clone(),
            claimed_name: asker.claimed_name.clone(),
            grant: asker.grant.clone(),
            action,
            reason,
            wanted: wanted.cloned(),
        }
    }

    fn event(&self, since: &Since) -> AuditEvent {
        let mut actor = self.program.to_string();
        match since.pids.as_slice() {
            [] => {}
            [pid] => actor.push_str(&format!(" (process {pid})")),
            pids => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                let more = if pids.len() == MOST_PIDS { " and more" } else { "" };
                actor.push_str(&format!(" (processes {}{more})", pids.join(", ")));
            }
        }
        if let Some(parent) = &self.started_by {
            actor.push_str(&format!(", started by {parent}"));
        }
        if let Some(grant) = &self.grant {
            actor.push_str(&format!(", through {grant}"));
        }
        if let Some(name) = &self.claimed_name {
            actor.push_str(&format!(", calls itself \"{name}\""));
        }
        let mut event =
            AuditEvent::new(since.first, actor, self.action).reason(self.reason.clone().into_owned());
        if let Some(wanted) = &self.wanted {
            event.cache = Some(wanted.cache.clone());
            event.account = Some(wanted.home_account_id.clone());
            event.subject = Some(wanted.subject());
        }
        if since.count > 1 {
            let subject = event.subject.get_or_insert_default();
            let separator = if subject.is_empty() { "" } else { ", " };
            subject.push_str(&format!("{separator}{} times", since.count));
        }
        event
    }
}

/// Writes the events into the user's vault, if there is one. A vault that is closed takes them sealed,
/// and to a locked agent it stays closed, whatever would open it.
fn into_vault(places: &Places, events: &[AuditEvent], is_locked: bool) -> bool {
    let path: PathBuf = places.vault();
    if path.symlink_metadata().is_err() {
        for AuditEvent { actor, action, reason, subject, .. } in events {
            tracing::info!(actor, action, reason, subject, "who asked");
        }
        return true;
    }
    let open = || vault::open(&path, &Unattended::of_environment(places)).ok();
    let written = match if is_locked { None } else { open() } {
        Some(vault) => vault.record_events(events, Deadline::within(PATIENCE)),
        None => LockedVault::open(&path).and_then(|mut vault| vault.record_events(events)),
    };
    match written {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "who asked was not written into the vault");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::TenantId;
    use crate::token::Scopes;

    const WHAT: &str = "a/.default in tenant contoso.example for client c";

    fn note(program: &str) -> Note {
        Note {
            program: program.into(),
            started_by: Some("/bin/sh".into()),
            claimed_name: Some("me".to_owned()),
            grant: None,
            action: "token_given",
            reason: "cache".into(),
            wanted: Some(Arc::new(Wanted {
                cache: "msal.cache".to_owned(),
                client_id: "c".to_owned(),
                home_account_id: "u.t".to_owned(),
                scopes: Scopes::new(["a/.default"]).unwrap(),
                tenant: TenantId::parse("contoso.example").unwrap(),
                username: "user".to_owned(),
            })),
        }
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn take(waiting: &mut Waiting, now: i64) -> Vec<AuditEvent> {
        waiting.take(|since| since.due <= at(now), at(now))
    }

    #[test]
    fn what_is_new_comes_soon_and_what_repeats_itself_is_counted() {
        let mut waiting = Waiting::default();
        for pid in 1..=64 {
            waiting.note(note("/a"), Some(pid), at(100));
        }
        assert_eq!(waiting.next(), Some(at(102)));
        assert!(take(&mut waiting, 101).is_empty());
        let events = take(&mut waiting, 102);
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(
            event.actor,
            "/a (processes 1, 2, 3, 4, 5, 6, 7, 8 and more), started by /bin/sh, calls itself \"me\""
        );
        assert_eq!((event.at, event.subject.as_deref()), (100, Some(&*format!("{WHAT}, 64 times"))));
        assert_eq!(waiting.next(), None, "nothing came since");

        assert!(waiting.note(note("/a"), Some(7), at(200)), "somebody has to wake up for it");
        assert!(!waiting.note(note("/a"), Some(7), at(201)));
        assert_eq!(waiting.next(), Some(at(102 + 900)));
        let events = take(&mut waiting, 1_002);
        assert_eq!((events[0].at, events[0].subject.as_deref()), (200, Some(&*format!("{WHAT}, 2 times"))));
        assert!(events[0].actor.starts_with("/a (process 7), "));
        take(&mut waiting, 10_000);
        assert!(waiting.notes.is_empty(), "it is forgotten");
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_told() {
        let mut waiting = Waiting::default();
        for number in 0..1_000 {
            waiting.note(note(&format!("/{number}")), Some(1), at(100));
        }
        let events = waiting.take(|_| true, at(100));
        assert_eq!(events.len(), MOST + 1);
        let last = &events[MOST];
        assert_eq!(last.action, "requests_not_noted");
        assert_eq!(last.subject.as_deref(), Some("at least 488 requests were not noted one by one"));
        assert!(waiting.take(|_| true, at(101)).is_empty(), "told once");
        for number in 0..600 {
            waiting.note(note(&format!("/later/{number}")), Some(1), at(102));
        }
        assert_eq!(waiting.take(|_| true, at(102)).len(), MOST + 1, "there is room again");
    }

    #[test]
    fn a_locked_agent_does_not_open_the_vault_to_write_what_it_refused() {
        use crate::store::vault::{KeyFile, Vault};

        let home = tempfile::tempdir().unwrap();
        let places = Places::below(home.path());
        let key_file = places.key_file();
        std::fs::create_dir_all(key_file.parent().unwrap()).unwrap();
        drop(Vault::create(&places.vault(), &KeyFile::new(&key_file)).unwrap());
        let events = [AuditEvent::new(at(7), "/a", "token_refused")];
        let sealed = || {
            let connection = rusqlite::Connection::open(places.vault()).unwrap();
            let count = connection.query_row("SELECT count(*) FROM audit_pending", [], |row| row.get(0));
            count.unwrap_or(0_i64)
        };
        assert!(into_vault(&places, &events, true));
        assert_eq!(sealed(), 1, "to the vault's public key");
        assert!(into_vault(&places, &events, false));
        assert_eq!(sealed(), 0, "whoever opens it takes them in");
        let unattended = Unattended::of_environment(&places);
        let told = vault::open(&places.vault(), &unattended).unwrap().audit().unwrap();
        assert_eq!(told.iter().filter(|entry| entry.event.actor == "/a").count(), 2);
    }
}
