//! What a user chose for good: `config.toml`.
//!
//! It holds policy, so a file that somebody else may write is not used at all, and a word that is not
//! known is an error: a rule that is quietly ignored protects nobody.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::policy::Policy;
use crate::time::Length;

/// A user's choices fit on a few pages.
const MAX_LENGTH: u64 = 256 * 1024;

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
    #[error("{}, line {line}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, problem: String },
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

impl Config {
    /// What the file says. Links are followed: it is the file itself that has to be this user's, or
    /// root's.
    ///
    /// # Errors
    /// A [`ConfigError`]. That there is no such file is [`ConfigError::Io`], too.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
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
        let mut config = parsed.map_err(|(line, problem)| ConfigError::Invalid {
            path: path.to_owned(),
            line,
            problem,
        })?;
        path.clone_into(&mut config.policy.file);
        Ok(config)
    }

    /// The same, and the defaults where there is no file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_if_there(path: &Path) -> Result<Self, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// What stands in for a file that cannot be used where there has to be something.
    pub(crate) fn that_allows_nothing(error: &ConfigError) -> Self {
        Self { policy: Policy::that_allows_nothing(error.to_string()), ..Self::default() }
    }

    /// The text, or in which line it is wrong, and how.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line_of = |at: usize| {
            let before = &text.as_bytes()[..at.min(text.len())];
            before.iter().filter(|byte| **byte == b'\n').count() + 1
        };
        let parsed = toml::from_str(text).map_err(|error| {
            let line = line_of(error.span().map_or(0, |span| span.start));
            (line, error.message().replace('\n', ", "))
        });
        parsed.map(|mut config: Self| {
            for rule in &mut config.policy.rule {
                rule.is_at_line(line_of(rule.offset()));
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
    use std::time::Duration;

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
        assert_eq!(Config::read_if_there(&absent).unwrap(), Config::default());
        assert!(matches!(Config::read(&absent), Err(ConfigError::Io { .. })));
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
            let (line, problem) = Config::parse(&format!("[agent]\n\nlock_after = {bad}")).unwrap_err();
            assert_eq!(line, 3, "{bad}: {problem}");
        }
    }

    #[test]
    fn an_unknown_word_is_named_with_its_line_and_the_known_ones() {
        let (_folder, path) = file("# mine\n[agent]\nlock_after_idel = '1h'\n");
        let error = Config::read(&path).unwrap_err();
        let text = error.to_string();
        for part in ["config.toml, line 3: ", "`lock_after_idel`", "`lock_after_idle`", "`lock_after`"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(error.kind(), "config_invalid");
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
