//! What a user chose for good: `config.toml`.
//!
//! It holds policy, so a file that somebody else may write is not used at all, and a word that is not
//! known is an error: a rule that is quietly ignored protects nobody.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::policy::Policy;
use crate::time::Length;

/// Who writes a file anew empties it or takes it away first, which is not yet meant.
pub(crate) const WRITING: Duration = Duration::from_secs(1);

/// A user's choices fit on a few pages.
const MAX_LENGTH: u64 = 256 * 1024;

/// Which file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    /// One that was named has to be there.
    is_named: bool,
}

/// All choices. What is not in the file has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) agent: AgentConfig,
    pub(crate) policy: Policy,
}

/// `[agent]`: what an agent does unless its command says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AgentConfig {
    /// As `--lock-after-idle`.
    pub(crate) lock_after_idle: Option<Length>,
    /// As `--lock-after`.
    pub(crate) lock_after: Option<Length>,
    /// `false` as `--no-lock-on-session-lock`.
    pub(crate) lock_on_session_lock: Option<bool>,
    /// `false` as `--no-lock-on-suspend`.
    pub(crate) lock_on_suspend: Option<bool>,
}

/// Why the file is not used. Each has its own cause and cure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The operating system said no.
    #[error("reading {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// It is a folder, a socket or the like.
    #[error("not using {}: it is no file", path.display())]
    NotAFile { path: PathBuf },
    /// Somebody else decides what is in it.
    #[error("not using {}: it belongs to user {uid}", path.display())]
    Foreign { path: PathBuf, uid: u32 },
    /// Somebody else can change it, or put another one in its place.
    #[error("not using {}: others may write to {} (mode {mode:o})", path.display(), open.display())]
    Open { path: PathBuf, open: PathBuf, mode: u32 },
    /// Nobody wrote that by hand.
    #[error("not using {}: it has more than {MAX_LENGTH} bytes", path.display())]
    TooLarge { path: PathBuf },
    /// Something in it cannot be understood.
    #[error("{}, {mistake}", path.display())]
    Invalid { path: PathBuf, mistake: Mistake },
}

/// What cannot be understood, and where; lines and columns are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    line: usize,
    column: usize,
    problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, problem } = self;
        write!(f, "line {line}, column {column}: {problem}")
    }
}

impl Mistake {
    /// Whether the file has a word that this version does not know, and may be a newer one's.
    pub(crate) fn is_unknown_word(&self) -> bool {
        // serde tells it by its words only
        self.problem.starts_with("unknown field ")
    }
}

impl ConfigError {
    /// What programs tell failures apart by.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "config_io",
            Self::NotAFile { .. } | Self::Foreign { .. } | Self::Open { .. } | Self::TooLarge { .. } => {
                "config_unsafe"
            }
            Self::Invalid { .. } => "config_invalid",
        }
    }

    /// What to do next, as one line for a person.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Io { path, .. } => format!("check that you may read {}", path.display()),
            Self::NotAFile { .. } | Self::TooLarge { .. } => {
                "name another file: TOKENKEEP_CONFIG=FILE".to_owned()
            }
            Self::Foreign { path, .. } => format!("see who made it, and write {} anew", path.display()),
            Self::Open { open, .. } => format!("make it yours alone: chmod go-w {}", open.display()),
            Self::Invalid { .. } => "correct it; docs/config.md has every word that it may have".to_owned(),
        }
    }
}

impl ConfigFile {
    /// The file that somebody named.
    pub(crate) const fn named(path: PathBuf) -> Self {
        Self { path, is_named: true }
    }

    /// The one in the folder where the user's programs keep such files. It need not be there.
    pub(crate) fn usual(folder: &Path) -> Self {
        Self { path: folder.join("tokenkeep").join("config.toml"), is_named: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; the defaults where there is none and need not be.
    ///
    /// # Errors
    /// A [`ConfigError`]. That a link leads to nothing is [`ConfigError::Io`]: whoever made it has a file.
    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        let leads_to_nothing = |path: &Path| path.is_symlink() && !path.exists();
        match Config::read(&self.path) {
            Err(ConfigError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    && !self.is_named
                    && !self.path.ancestors().any(leads_to_nothing) =>
            {
                Ok(Config::default())
            }
            read => read,
        }
    }

    /// The same while a program runs, off its async threads. That nothing is said any more holds if it is still so
    /// a moment later, where it is `news`. `None` if those threads end.
    pub(crate) async fn read_anew(
        &self,
        news: impl Fn(&Config) -> bool,
    ) -> Option<Result<Config, ConfigError>> {
        let read = || {
            let file = self.clone();
            tokio::task::spawn_blocking(move || file.read())
        };
        let first = read().await.ok()?;
        if first.as_ref().is_ok_and(|config| config.says_nothing() && news(config)) {
            tokio::time::sleep(WRITING).await;
            return read().await.ok();
        }
        Some(first)
    }
}

impl Config {
    /// What the file says. Links are followed: it is the file itself that has to be this user's, or
    /// root's.
    ///
    /// # Errors
    /// A [`ConfigError`]. That there is no such file is [`ConfigError::Io`], too.
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        let file = open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(ConfigError::NotAFile { path: path.to_owned() });
        }
        check_owner(path, &metadata)?;
        let mut text = String::new();
        file.take(MAX_LENGTH + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_LENGTH {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let parsed = Self::parse(&text);
        let mut config = parsed.map_err(|mistake| ConfigError::Invalid { path: path.to_owned(), mistake })?;
        path.clone_into(&mut config.policy.file);
        Ok(config)
    }

    /// Whether it is as good as no file.
    fn says_nothing(&self) -> bool {
        self.agent == AgentConfig::default() && self.policy.says_nothing()
    }

    /// The text, or what is wrong with it.
    fn parse(text: &str) -> Result<Self, Mistake> {
        let place_of = |at: usize| {
            let before = text.get(..at).unwrap_or(text);
            let begin = before.rfind('\n').map_or(0, |end| end + 1);
            (before.matches('\n').count() + 1, before[begin..].chars().count() + 1)
        };
        let parsed = toml::from_str(text).map_err(|error| {
            let (line, column) = place_of(error.span().map_or(0, |span| span.start));
            Mistake { line, column, problem: error.message().replace('\n', ", ") }
        });
        parsed.map(|mut config: Self| {
            for rule in &mut config.policy.rule {
                rule.is_at_line(place_of(rule.offset()).0);
            }
            config
        })
    }
}

/// Never waits, as opening a pipe would.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), ConfigError> {
    use std::os::unix::fs::MetadataExt as _;

    const STICKY: u32 = 0o1000;
    let own = rustix::process::geteuid().as_raw();
    if ![own, 0].contains(&metadata.uid()) {
        return Err(ConfigError::Foreign { path: path.to_owned(), uid: metadata.uid() });
    }
    let is_open = |mode: u32| mode & 0o022 != 0;
    let open = |open: &Path, mode: u32| ConfigError::Open {
        path: path.to_owned(),
        open: open.to_owned(),
        mode: mode & 0o7777,
    };
    if is_open(metadata.mode()) {
        return Err(open(path, metadata.mode()));
    }
    // Whoever may write into the folder may take the file away; of a sticky one nobody may.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mode =
        fs::metadata(folder).map_err(|source| ConfigError::Io { path: folder.to_owned(), source })?.mode();
    if is_open(mode) && mode & STICKY == 0 {
        return Err(open(folder, mode));
    }
    Ok(())
}

/// A profile of Windows is its user's alone unless that was changed.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it may be refused")]
const fn check_owner(_path: &Path, _metadata: &fs::Metadata) -> Result<(), ConfigError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_not_said_has_its_default_and_no_file_says_nothing() {
        let (folder, path) = file("");
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(Config::read(&path).unwrap().agent, AgentConfig::default());
        let absent = folder.path().join("none.toml");
        assert_eq!(ConfigFile::usual(folder.path()).read().unwrap(), Config::default());
        assert!(
            matches!(ConfigFile::named(absent).read(), Err(ConfigError::Io { .. })),
            "it has to be there"
        );
    }

    #[test]
    fn the_whole_example_of_the_manual_is_understood() {
        let manual = include_str!("../docs/config.md");
        let (_, example) = manual.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let config = Config::parse(example).unwrap();
        let Config { agent, policy } = config;
        let AgentConfig { lock_after_idle, lock_after, lock_on_session_lock, lock_on_suspend } = agent;
        assert!(lock_after_idle.is_some() && lock_after.is_some(), "it has every word");
        assert!(lock_on_session_lock.is_some() && lock_on_suspend.is_some(), "it has every word");
        assert!(!policy.allows_all());
        assert!(policy.has_every_word());
    }

    #[test]
    fn limits_are_spelled_as_on_the_command_line() {
        let config = Config::parse("[agent]\nlock_after_idle = '1h30m'\nlock_after = '8h'\n").unwrap();
        assert_eq!(config.agent.lock_after_idle, Some(Length(Duration::from_secs(5_400))));
        assert_eq!(config.agent.lock_after, Some(Length(Duration::from_secs(28_800))));
        for bad in ["'0s'", "'soon'", "30", "''"] {
            let mistake = Config::parse(&format!("[agent]\n\nlock_after = {bad}")).unwrap_err();
            assert_eq!((mistake.line, mistake.column), (3, 14), "{mistake}");
            assert!(!mistake.is_unknown_word(), "{mistake}");
        }
    }

    #[test]
    fn an_unknown_word_is_named_with_its_line_and_the_known_ones() {
        let (_folder, path) = file("# mine\n[agent]\nlock_after_idel = '1h'\n");
        let error = Config::read(&path).unwrap_err();
        let text = error.to_string();
        for part in
            ["config.toml, line 3, column 1: ", "`lock_after_idel`", "`lock_after_idle`", "`lock_after`"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(error.kind(), "config_invalid");
        let ConfigError::Invalid { mistake, .. } = error else { unreachable!("{error}") };
        assert!(mistake.is_unknown_word());
        let wide = Config::parse("[agent]\nlock_after = 'äöü' x").unwrap_err();
        assert_eq!((wide.line, wide.column), (2, 20), "characters are counted: {wide}");
        assert!(Config::parse("[agnet]\n").is_err());
        assert!(Config::parse("lock_after = '8h'\n").is_err());
        assert!(Config::parse("[agent]\n[agent]\n").is_err());
        assert!(Config::parse("[agent").is_err());
    }

    #[test]
    fn what_nobody_can_have_written_by_hand_is_not_read() {
        let (_folder, path) = file(&"#".repeat(256 * 1024));
        Config::read(&path).unwrap();
        fs::write(&path, "#".repeat(256 * 1024 + 1)).unwrap();
        assert!(matches!(Config::read(&path), Err(ConfigError::TooLarge { .. })));
        fs::write(&path, b"# \xff").unwrap();
        assert!(matches!(Config::read(&path), Err(ConfigError::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_to_nothing_is_no_file_that_nobody_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let usual = ConfigFile::usual(folder.path());
        let link = |to: &Path| std::os::unix::fs::symlink("elsewhere", to).unwrap();
        link(usual.path().parent().unwrap());
        assert!(matches!(usual.read(), Err(ConfigError::Io { .. })));
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        assert_eq!(usual.read().unwrap(), Config::default());
        link(usual.path());
        assert!(matches!(usual.read(), Err(ConfigError::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_could_have_written_is_refused_with_its_own_reason() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let chmod = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let (folder, path) = file("");
        for mode in [0o664, 0o646] {
            chmod(&path, mode);
            match Config::read(&path).unwrap_err() {
                ConfigError::Open { open, mode: told, .. } => assert_eq!((open, told), (path.clone(), mode)),
                other => panic!("{other}"),
            }
        }
        chmod(&path, 0o644);
        chmod(folder.path(), 0o777);
        match Config::read(&path).unwrap_err() {
            ConfigError::Open { open, .. } => assert_eq!(open, folder.path()),
            other => panic!("{other}"),
        }
        chmod(folder.path(), 0o1777);
        Config::read(&path).unwrap();
        assert!(matches!(Config::read(folder.path()), Err(ConfigError::NotAFile { .. })));

        // Those who keep such files elsewhere link to them.
        let link = folder.path().join("link.toml");
        symlink(&path, &link).unwrap();
        Config::read(&link).unwrap();
        // rustix makes none on macOS
        #[cfg(target_os = "linux")]
        {
            let pipe = folder.path().join("pipe");
            rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
            assert!(matches!(Config::read(&pipe), Err(ConfigError::NotAFile { .. })), "and nobody waits");
        }

        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(matches!(Config::read(&path), Err(ConfigError::Foreign { uid: 65_534, .. })));
        }
    }
}
