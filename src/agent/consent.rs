//! Questions to the person: may this program have such tokens? Asked once for many requests, with a
//! deadline, while everybody else is served; the answer is remembered for a while.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::agent_client::protocol::{Consent, Consents, Question};
use crate::policy::Asking;
use crate::process::FileId;
use crate::store::Places;
use crate::text::harmless;
use crate::time::{Clock, UnixTime};

use super::ask_program::AskProgram;
use super::asker::Asker;
use super::chosen::Chosen;
use super::journal::{Journal, Note};
use super::memory;
use super::permit::Wanted;

/// A person looks at a few.
const MOST_OPEN: usize = 32;

/// More are not kept; the one that ends first goes.
const MOST_REMEMBERED: usize = 256;

/// A no holds for so long, so that whoever tries again and again does not wear a person down.
const NO_HOLDS: Duration = Duration::from_secs(300);

/// Scopes and names are shown up to so many characters.
const LONGEST: usize = 512;

/// Everything that is asked and was answered.
#[derive(Debug)]
pub(super) struct Questions {
    state: Mutex<State>,
    chosen: Arc<Chosen>,
    /// One question on the screen at a time, whichever program asks.
    turn: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    places: Places,
    loaded: OnceCell<()>,
    /// One writer at a time, so that the last state is the one that stays.
    saving: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Open>,
    remembered: Vec<Remembered>,
    is_changed: bool,
}

/// What is the same in all requests that one answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Matter {
    /// The files that ask, by name and identity: of `tokenkeep token` also the one that started it.
    programs: Vec<(String, FileId)>,
    account: String,
    tenant: String,
    client_id: String,
    scopes: String,
}

/// An answer that still holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Remembered {
    id: String,
    matter: Matter,
    username: String,
    allowed: bool,
    pub(super) until: i64,
}

#[derive(Debug)]
struct Open {
    id: String,
    /// `None` if the program is not certain: then nobody else's answer will do, and none is kept.
    matter: Option<Matter>,
    asker: Asker,
    wanted: Arc<Wanted>,
    asked: Question,
    /// How long a yes holds, as whoever is asked was told.
    remember: Duration,
    waiting: usize,
    until: Instant,
    answer: watch::Sender<Option<bool>>,
}

/// Why somebody who had to be asked for gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoConsent {
    Declined,
    Nobody,
    TooMany,
}

/// What an answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) allow: bool,
    /// How long it holds; zero for this one question, `None` for as long as the file says.
    pub(super) holds: Option<Duration>,
}

impl Questions {
    pub(super) fn new(
        chosen: Arc<Chosen>,
        clock: Arc<dyn Clock>,
        journal: Arc<Journal>,
        places: Places,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            chosen,
            turn: Arc::new(Semaphore::new(1)),
            clock,
            journal,
            places,
            loaded: OnceCell::new(),
            saving: tokio::sync::Mutex::default(),
        })
    }

    /// Waits for an answer, unless there is one already.
    ///
    /// # Errors
    /// [`NoConsent`].
    pub(super) async fn ask(self: &Arc<Self>, asker: &Asker, wanted: &Arc<Wanted>) -> Result<(), NoConsent> {
        self.load().await;
        let matter = Matter::of(asker, wanted);
        let now = self.clock.now();
        let asking = self.chosen.now().policy.asking();
        let (id, until, mut answer) = {
            let mut state = self.state();
            if let Some(allowed) = matter.as_ref().and_then(|matter| state.known(matter, now)) {
                return if allowed { Ok(()) } else { Err(NoConsent::Declined) };
            }
            let same = |open: &Open| matter.is_some() && open.matter == matter;
            match state.open.iter().position(same) {
                Some(at) => {
                    let open = &mut state.open[at];
                    open.waiting += 1;
                    (open.id.clone(), open.until, open.answer.subscribe())
                }
                None if state.open.len() >= MOST_OPEN => return Err(NoConsent::TooMany),
                None => {
                    let open = Open::new(matter, asker, wanted, now, &asking);
                    let opened = (open.id.clone(), open.until, open.answer.subscribe());
                    self.show(&open, asking.program);
                    state.open.push(open);
                    opened
                }
            }
        };
        let _waits = Waits { questions: self, id: &id };
        // Whoever joins late does not keep it open for longer.
        let answered = timeout_at(until, answer.wait_for(Option::is_some)).await;
        match answered.map(|answer| answer.ok().and_then(|answer| *answer)) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(NoConsent::Declined),
            Ok(None) | Err(_) => Err(NoConsent::Nobody),
        }
    }

    /// Answers an open question; `None` if it is not open any more.
    pub(super) fn answer(self: &Arc<Self>, id: &str, answer: Answer, who: &str) -> Option<()> {
        let now = self.clock.now();
        let kept = {
            let mut state = self.state();
            let at = state.open.iter().position(|open| open.id == id)?;
            let open = state.open.remove(at);
            let usual = if answer.allow { open.remember } else { NO_HOLDS };
            let until = now.after(answer.holds.unwrap_or(usual));
            open.answer.send_replace(Some(answer.allow));
            self.note(&open, answer.allow, who);
            let holds = answer.holds != Some(Duration::ZERO);
            let kept = open.matter.filter(|_| holds).map(|matter| Remembered {
                id: open.id,
                matter,
                username: open.wanted.username.clone(),
                allowed: answer.allow,
                until: until.seconds(),
            });
            let is_kept = kept.is_some();
            state.remembered.extend(kept);
            state.tidy(now);
            is_kept
        };
        if kept {
            self.save();
        }
        Some(())
    }

    /// Takes back what is remembered; how many that were.
    pub(super) async fn forget(self: &Arc<Self>, id: Option<&str>) -> usize {
        self.load().await;
        let forgotten = {
            let mut state = self.state();
            let before = state.remembered.len();
            state.remembered.retain(|known| id.is_some_and(|id| known.id != id));
            before - state.remembered.len()
        };
        if forgotten > 0 {
            self.save();
        }
        forgotten
    }

    pub(super) async fn list(&self) -> Consents {
        self.load().await;
        let now = self.clock.now();
        let mut state = self.state();
        state.tidy(now);
        Consents {
            version: 1,
            open: state.open.iter().map(Open::told).collect(),
            remembered: state.remembered.iter().map(Remembered::told).collect(),
        }
    }

    /// Reads once what is remembered from before.
    async fn load(&self) {
        let places = self.places.clone();
        self.loaded
            .get_or_init(|| async {
                let read = tokio::task::spawn_blocking(move || memory::read(&places)).await;
                match read {
                    Ok(Ok(before)) => self.state().remembered.extend(before),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "what was allowed before cannot be read; asking again");
                    }
                    Err(_) => {}
                }
            })
            .await;
    }

    /// Nobody waits for it.
    fn save(self: &Arc<Self>) {
        self.state().is_changed = true;
        let questions = Arc::clone(self);
        tokio::spawn(async move { questions.saved().await });
    }

    /// Writes what is remembered, if that is not done yet.
    pub(super) async fn saved(&self) {
        let _turn = self.saving.lock().await;
        let (places, all) = {
            let mut state = self.state();
            if !std::mem::take(&mut state.is_changed) {
                return;
            }
            (self.places.clone(), state.remembered.clone())
        };
        let written = tokio::task::spawn_blocking(move || memory::write(&places, &all)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "an answer holds only until the agent ends");
        }
    }

    /// Has the person's program ask, if there is one.
    fn show(self: &Arc<Self>, open: &Open, program: Option<PathBuf>) {
        let Some(program) = program else { return };
        let asker = AskProgram::new(program, Arc::clone(&self.turn));
        let (questions, id) = (Arc::clone(self), open.id.clone());
        let (text, closed) = (open.asked.in_words(open.remember), open.answer.subscribe());
        tokio::spawn(async move {
            if let Some(allow) = asker.ask(&text, closed).await {
                questions.answer(&id, Answer { allow, holds: None }, "the program that asks");
            }
        });
    }

    fn note(&self, open: &Open, allowed: bool, who: &str) {
        let action = if allowed { "consent_given" } else { "consent_refused" };
        let reason = format!("answered by {who}").into();
        self.journal.note(Note::of(&open.asker, Some(&open.wanted), action, reason), open.asker.pid);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that waits. A question for which nobody waits any more is closed.
struct Waits<'a> {
    questions: &'a Questions,
    id: &'a str,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.questions.state();
        if let Some(at) = state.open.iter().position(|open| open.id == self.id) {
            state.open[at].waiting -= 1;
            if state.open[at].waiting == 0 {
                // its end is the end of whoever asks for it
                state.open.remove(at);
            }
        }
    }
}

impl State {
    fn known(&self, matter: &Matter, now: UnixTime) -> Option<bool> {
        let holds = |known: &&Remembered| known.until > now.seconds() && known.matter == *matter;
        self.remembered.iter().rev().find(holds).map(|known| known.allowed)
    }

    fn tidy(&mut self, now: UnixTime) {
        self.remembered.retain(|known| known.until > now.seconds());
        while self.remembered.len() > MOST_REMEMBERED {
            let first = self.remembered.iter().enumerate().min_by_key(|(_, known)| known.until);
            let Some((at, _)) = first else { return };
            self.remembered.remove(at);
        }
    }
}

impl Matter {
    /// `None` if it is not certain which files ask.
    fn of(asker: &Asker, wanted: &Wanted) -> Option<Self> {
        let programs = asker.identity()?;
        let mut scopes: Vec<&str> = wanted.scopes.iter().collect();
        scopes.sort_unstable();
        Some(Self {
            programs,
            account: wanted.home_account_id.clone(),
            tenant: wanted.tenant_in_words().to_ascii_lowercase(),
            client_id: wanted.client_id.to_ascii_lowercase(),
            scopes: scopes.join(" ").to_lowercase(),
        })
    }
}

impl Open {
    fn new(
        matter: Option<Matter>,
        asker: &Asker,
        wanted: &Arc<Wanted>,
        now: UnixTime,
        asking: &Asking,
    ) -> Self {
        let id = random_id();
        let shown = |text: &str| harmless(text, LONGEST);
        let asked = Question {
            id: id.clone(),
            pid: asker.pid,
            program: asker.seen.executable.to_string(),
            started_by: asker.seen.started_by.as_deref().map(str::to_owned),
            claimed_name: asker.claimed_name.clone(),
            grant: asker.grant.clone(),
            account: crate::agent_client::protocol::Who::new(
                shown(&wanted.username),
                shown(&wanted.home_account_id),
            ),
            scopes: wanted.scopes.iter().map(shown).collect(),
            tenant: shown(wanted.tenant_in_words()),
            client_id: shown(&wanted.client_id),
            is_kept: matter.is_some(),
            waiting: 1,
            ends_at: now.after(asking.timeout).seconds(),
        };
        Self {
            id,
            matter,
            asker: asker.clone(),
            wanted: Arc::clone(wanted),
            asked,
            remember: asking.remember,
            waiting: 1,
            until: Instant::now() + asking.timeout,
            answer: watch::Sender::default(),
        }
    }

    fn told(&self) -> Question {
        Question { waiting: self.waiting, ..self.asked.clone() }
    }
}

impl Remembered {
    fn told(&self) -> Consent {
        let Self { id, matter, username, allowed, until } = self;
        let shown = |text: &str| harmless(text, LONGEST);
        Consent {
            id: id.clone(),
            programs: matter.programs.iter().map(|(path, _)| shown(path)).collect(),
            account: crate::agent_client::protocol::Who::new(shown(username), shown(&matter.account)),
            scopes: matter.scopes.split(' ').map(shown).collect(),
            tenant: shown(&matter.tenant),
            client_id: shown(&matter.client_id),
            allowed: *allowed,
            until: *until,
        }
    }
}

fn random_id() -> String {
    let mut bytes = [0; 4];
    // an id is no secret, and a question without one could not be answered
    if getrandom::fill(&mut bytes).is_err() {
        bytes = std::process::id().to_be_bytes();
    }
    format!("{:08x}", u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn matter(path: &str, inode: u64) -> Matter {
        let file = FileId { device: 1, inode, size: 1, modified: (1, 1), changed: (1, 1) };
        Matter {
            programs: vec![(path.to_owned(), file)],
            account: "u.t".to_owned(),
            tenant: "t".to_owned(),
            client_id: "c".to_owned(),
            scopes: "a/.default".to_owned(),
        }
    }

    fn remembered(number: i64, matter: Matter, allowed: bool, until: i64) -> Remembered {
        Remembered { id: number.to_string(), matter, username: String::new(), allowed, until }
    }

    #[test]
    fn an_answer_holds_until_its_second_and_for_the_very_file_and_the_last_one_counts() {
        let mut state = State::default();
        state.remembered.push(remembered(1, matter("/a", 1), false, 100));
        state.remembered.push(remembered(2, matter("/a", 1), true, 100));
        assert_eq!(state.known(&matter("/a", 1), at(99)), Some(true));
        assert_eq!(state.known(&matter("/a", 1), at(100)), None);
        assert_eq!(state.known(&matter("/a", 2), at(99)), None, "another file");
        assert_eq!(state.known(&matter("/b", 1), at(99)), None, "another name");
        let other = |change: fn(&mut Matter)| {
            let mut other = matter("/a", 1);
            change(&mut other);
            state.known(&other, at(99))
        };
        assert_eq!(other(|matter| matter.scopes.push('x')), None);
        assert_eq!(other(|matter| matter.account.push('x')), None);
        assert_eq!(other(|matter| matter.tenant.push('x')), None);
        assert_eq!(other(|matter| matter.client_id.push('x')), None);
        state.tidy(at(100));
        assert!(state.remembered.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_ends_first_goes() {
        let mut state = State::default();
        for number in 0..1_000 {
            state.remembered.push(remembered(
                number,
                matter("/a", number.unsigned_abs()),
                true,
                1_000 + number,
            ));
        }
        state.tidy(at(0));
        assert_eq!(state.remembered.len(), MOST_REMEMBERED);
        assert!(state.remembered.iter().all(|known| known.until >= 2_000 - 256));
    }

    fn wanted() -> Arc<Wanted> {
        Arc::new(Wanted {
            cache: "msal.cache".to_owned(),
            client_id: "c".to_owned(),
            home_account_id: "u.t".to_owned(),
            scopes: crate::token::Scopes::new(["a/.default"]).unwrap(),
            tenant: crate::cloud::TenantId::parse("t").unwrap(),
            username: "user.one@contoso.example".to_owned(),
        })
    }

    fn questions(home: &std::path::Path) -> Arc<Questions> {
        let clock: Arc<dyn Clock> = Arc::new(crate::time::ManualClock::at(at(1_000)));
        let journal = Arc::new(Journal::new(Arc::clone(&clock), Places::below(home)));
        Questions::new(Arc::default(), clock, journal, Places::below(home))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_is_bounded_and_nobodys_answer_is_a_no() {
        let home = tempfile::tempdir().unwrap();
        let questions = questions(home.path());
        let flood: Vec<_> = (0..40)
            .map(|_| {
                let questions = Arc::clone(&questions);
                // who is not known is asked about one by one
                tokio::spawn(async move { questions.ask(&Asker::default(), &wanted()).await })
            })
            .collect();
        let mut ended = Vec::new();
        for one in flood {
            ended.push(one.await.unwrap().unwrap_err());
        }
        let count = |why: NoConsent| ended.iter().filter(|ended| **ended == why).count();
        assert_eq!((count(NoConsent::TooMany), count(NoConsent::Nobody)), (40 - MOST_OPEN, MOST_OPEN));
        assert!(questions.list().await.open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_about_nobody_knows_whom_is_for_this_once() {
        let home = tempfile::tempdir().unwrap();
        let questions = questions(home.path());
        for allow in [true, false] {
            let asked = Arc::clone(&questions);
            let asked = tokio::spawn(async move { asked.ask(&Asker::default(), &wanted()).await });
            // Its turn comes before the paused clock goes on.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let [open] = questions.list().await.open.try_into().expect("one question");
            assert!(
                !open.is_kept && open.in_words(Duration::ZERO).ends_with("so the answer is for this once")
            );
            assert!(questions.answer(&open.id, Answer { allow, holds: None }, "a test").is_some());
            assert!(questions.answer(&open.id, Answer { allow, holds: None }, "a test").is_none(), "once");
            assert_eq!(asked.await.unwrap().is_ok(), allow);
        }
        assert!(questions.list().await.remembered.is_empty());
        assert!(!home.path().join(".local").exists(), "nothing was written");
    }
}
