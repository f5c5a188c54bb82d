//! What the user chose for good, as it is now: `config.toml` is read anew when it changes and when somebody asks
//! for that. One that cannot be used changes nothing: what it said before holds on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::agent_client::protocol::ConfigStatus;
use crate::config::{AgentConfig, Config, ConfigError, ConfigFile};
use crate::policy::Policy;
use crate::process::ending::HangUps;
use crate::store::Watcher;
use crate::time::{Clock, Length, UnixTime};

use super::clocks::LockAfter;
use super::logind::LockOn;

/// When to lock, as the options of the agent's command say. They win over the file, whenever that changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    pub(crate) lock_after: LockAfter,
    pub(crate) lock_on: LockOn,
}

/// What holds for the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) lock_after: LockAfter,
    pub(super) lock_on: LockOn,
    pub(super) policy: Policy,
}

/// The file, and what holds because of it.
#[derive(Debug)]
pub(crate) struct Chosen {
    file: ConfigFile,
    given: Given,
    now: watch::Sender<Arc<InForce>>,
    told: Mutex<Told>,
}

/// What is said of the file.
#[derive(Debug)]
struct Told {
    read_at: UnixTime,
    is_watched: bool,
    problem: Option<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    message: String,
    hint: String,
}

impl Chosen {
    pub(crate) fn new(file: ConfigFile, given: Given, config: Config, now: UnixTime) -> Self {
        Self::with(file, given, given.and(config), Told { read_at: now, is_watched: true, problem: None })
    }

    /// For an agent that has to be there although the file cannot be used: it allows nothing, and locks
    /// when it did `before`.
    pub(crate) fn unusable(
        file: ConfigFile,
        given: Given,
        before: (LockAfter, LockOn),
        error: &ConfigError,
        now: UnixTime,
    ) -> Self {
        let (lock_after, lock_on) = before;
        let policy = Policy::that_allows_nothing(error.to_string());
        let told = Told { read_at: now, is_watched: true, problem: Some(Problem::of(error)) };
        Self::with(file, given, InForce { lock_after, lock_on, policy }, told)
    }

    fn with(file: ConfigFile, given: Given, now: InForce, told: Told) -> Self {
        Self { file, given, now: watch::Sender::new(Arc::new(now)), told: Mutex::new(told) }
    }

    /// What holds at this moment.
    pub(super) fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.now.borrow())
    }

    /// The same, for whoever has to do something when it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<InForce>> {
        self.now.subscribe()
    }

    /// When it locks by itself.
    pub(crate) fn locks(&self) -> (LockAfter, LockOn) {
        let now = self.now();
        (now.lock_after, now.lock_on)
    }

    pub(super) fn status(&self) -> ConfigStatus {
        let told = self.told();
        let problem = told.problem.as_ref();
        ConfigStatus {
            path: self.file.path().display().to_string(),
            read_at: told.read_at.seconds(),
            is_watched: told.is_watched,
            problem: problem.map(|problem| problem.message.clone()),
            hint: problem.map(|problem| problem.hint.clone()),
        }
    }

    /// Reads the file whenever it changes, and when a hang-up asks for that.
    pub(super) async fn keep_up(&self, clock: Arc<dyn Clock>) {
        let changed = Arc::new(Notify::new());
        let hint = Arc::clone(&changed);
        let watcher = Watcher::new(move || hint.notify_one());
        let watcher = watcher.and_then(|watcher| watcher.add_file(self.file.path()).map(|()| watcher));
        if let Err(error) = &watcher {
            tracing::warn!(%error, "changes of config.toml go unnoticed until SIGHUP");
            self.told().is_watched = false;
        }
        let mut hang_ups = HangUps::from_now_on();
        loop {
            // For the first time, too: nobody watched when the agent began.
            self.read_anew(clock.now()).await;
            tokio::select! {
                () = changed.notified() => {}
                () = hang_ups.next() => {}
            }
        }
    }

    async fn read_anew(&self, now: UnixTime) {
        let news = |config: &Config| *self.now() != self.given.and(config.clone());
        let Some(read) = self.file.read_anew(news).await else { return };
        match read {
            Ok(config) => {
                let mut told = self.told();
                (told.read_at, told.problem) = (now, None);
                drop(told);
                self.take(self.given.and(config));
            }
            Err(error) => self.go_on(&error),
        }
    }

    fn take(&self, next: InForce) {
        let is_new = self.now.send_if_modified(|now| {
            let is_new = **now != next;
            if is_new {
                *now = Arc::new(next);
            }
            is_new
        });
        if is_new {
            tracing::info!(file = %self.file.path().display(), "what it says holds from now on");
        }
    }

    fn go_on(&self, error: &ConfigError) {
        let problem = Problem::of(error);
        if self.told().problem.as_ref() == Some(&problem) {
            return;
        }
        if self.now().policy.allows_nothing() {
            tracing::error!(%error, "nobody gets a token until that is corrected");
            let policy = Policy::that_allows_nothing(error.to_string());
            self.take(InForce { policy, ..InForce::clone(&self.now()) });
        } else {
            tracing::warn!(%error, "what config.toml said before holds until that is corrected");
        }
        self.told().problem = Some(problem);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    /// What holds by the options and by the file.
    fn and(&self, Config { agent, policy }: Config) -> InForce {
        let AgentConfig { lock_after_idle, lock_after, lock_on_session_lock, lock_on_suspend } = agent;
        let length = |of_file: Option<Length>| of_file.map(|Length(length)| length);
        InForce {
            lock_after: LockAfter {
                idle: self.lock_after.idle.or(length(lock_after_idle)),
                whole: self.lock_after.whole.or(length(lock_after)),
            },
            // Either may say no.
            lock_on: LockOn {
                session_lock: self.lock_on.session_lock && lock_on_session_lock.unwrap_or(true),
                suspend: self.lock_on.suspend && lock_on_suspend.unwrap_or(true),
            },
            policy,
        }
    }
}

impl Problem {
    fn of(error: &ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint() }
    }
}

#[cfg(test)]
impl Default for Chosen {
    fn default() -> Self {
        let file = ConfigFile::named(std::path::PathBuf::new());
        Self::new(file, Given::default(), Config::default(), UnixTime::from_seconds(0))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::config::WRITING;
    use crate::policy::Action;

    const DENY: &str = "[policy]\ndefault = 'deny'\n";

    fn chosen(path: &Path, given: Given) -> Chosen {
        let file = ConfigFile::named(path.to_owned());
        let config = file.read().unwrap();
        Chosen::new(file, given, config, UnixTime::from_seconds(1))
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_used_changes_nothing_until_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        write(&path, DENY);
        let chosen = chosen(&path, Given::default());
        let before = chosen.now();
        write(&path, "[policy]\ndefault = 'allow'\n[[policy.rule]]\n");
        chosen.read_anew(at(2)).await;
        assert_eq!(chosen.now(), before, "not even the half that is right");
        let status = chosen.status();
        let problem = status.problem.unwrap();
        assert!(problem.contains("config.toml, line 3, column 1: missing field `action`"), "{problem}");
        assert_eq!((status.read_at, status.hint.is_some()), (1, true));

        write(&path, "[policy]\ndefault = 'ask'\n");
        chosen.read_anew(at(3)).await;
        assert_eq!(chosen.now().policy.default, Action::Ask);
        let status = chosen.status();
        assert_eq!((status.read_at, status.problem, status.hint), (3, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_just_being_written_is_waited_for_and_one_that_is_gone_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let usual = ConfigFile::usual(folder.path());
        std::fs::create_dir(usual.path().parent().unwrap()).unwrap();
        write(usual.path(), DENY);
        let config = usual.read().unwrap();
        let chosen = Chosen::new(usual.clone(), Given::default(), config, at(1));
        for takes_away in [true, false] {
            if takes_away {
                std::fs::remove_file(usual.path()).unwrap();
            } else {
                write(usual.path(), "");
            }
            let writes = async {
                sleep(WRITING / 2).await;
                assert_eq!(chosen.now().policy.default, Action::Deny, "no request slips through meanwhile");
                write(usual.path(), DENY);
            };
            tokio::join!(chosen.read_anew(at(2)), writes);
            assert_eq!(chosen.now().policy.default, Action::Deny);
        }
        std::fs::remove_file(usual.path()).unwrap();
        let began = Instant::now();
        chosen.read_anew(at(3)).await;
        assert_eq!((chosen.now().policy.clone(), began.elapsed()), (Policy::default(), WRITING));
        chosen.read_anew(at(4)).await;
        assert_eq!(began.elapsed(), WRITING, "there is nothing to wait for");
    }

    #[tokio::test]
    async fn one_that_had_to_be_there_and_is_gone_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        write(&path, DENY);
        let chosen = chosen(&path, Given::default());
        std::fs::remove_file(&path).unwrap();
        chosen.read_anew(at(2)).await;
        assert_eq!(chosen.now().policy.default, Action::Deny);
        assert!(chosen.status().problem.unwrap().contains("mine.toml"));
    }

    #[tokio::test]
    async fn an_option_wins_whatever_the_file_says_later() {
        let hour = |hours: u64| Duration::from_secs(hours * 3_600);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        write(&path, "");
        let given = Given {
            lock_after: LockAfter { idle: None, whole: Some(hour(8)) },
            lock_on: LockOn { session_lock: false, suspend: true },
        };
        let chosen = chosen(&path, given);
        assert_eq!(chosen.now().lock_after, given.lock_after);
        write(
            &path,
            "[agent]\nlock_after_idle = '1h'\nlock_after = '2h'\nlock_on_session_lock = true\nlock_on_suspend = false",
        );
        chosen.read_anew(at(2)).await;
        let (lock_after, lock_on) = chosen.locks();
        assert_eq!(lock_after, LockAfter { idle: Some(hour(1)), whole: Some(hour(8)) });
        assert_eq!(lock_on, LockOn { session_lock: false, suspend: false });
    }

    #[tokio::test]
    async fn who_has_no_version_that_can_be_used_allows_nothing_and_says_what_is_wrong_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        write(&path, "[agnet]");
        let file = ConfigFile::named(path.clone());
        let limits = LockAfter { idle: Some(Duration::from_secs(60)), whole: None };
        let before = (limits, LockOn { session_lock: true, suspend: false });
        let error = file.read().unwrap_err();
        let chosen = Chosen::unusable(file, Given::default(), before, &error, at(1));
        assert_eq!((chosen.locks(), chosen.now().policy.default), (before, Action::Deny));
        write(&path, "[agent]\nlock_after = 'soon'");
        chosen.read_anew(at(2)).await;
        assert_eq!((chosen.locks(), chosen.now().policy.allows_nothing()), (before, true));
        assert_eq!(chosen.now().policy, Policy::that_allows_nothing(chosen.status().problem.unwrap()));
        write(&path, "");
        chosen.read_anew(at(3)).await;
        assert!(chosen.now().policy.allows_all());
    }
}
