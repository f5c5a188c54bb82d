//! Opening the person's browser, or saying that there is none to open.

use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A launcher that is still running after this has done its part.
const GRACE: Duration = Duration::from_secs(5);

/// What decides whether and how a browser can be opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) platform: Platform,
    /// `BROWSER`: commands to try in order, with `%s` for the address.
    pub(crate) browser: Option<String>,
    /// Whether a screen is attached: `DISPLAY` or `WAYLAND_DISPLAY`. Counts on Linux only.
    pub(crate) display: bool,
    /// Whether this is a remote session: `SSH_CONNECTION`.
    pub(crate) remote: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Platform {
    #[default]
    Linux,
    MacOs,
    Windows,
    /// Linux inside of Windows, where the browser is outside.
    Wsl,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let platform = if cfg!(windows) {
            Platform::Windows
        } else if cfg!(target_vendor = "apple") {
            Platform::MacOs
        } else if is_set("WSL_DISTRO_NAME") || is_set("WSL_INTEROP") {
            Platform::Wsl
        } else {
            Platform::Linux
        };
        Self {
            platform,
            browser: env::var("BROWSER").ok(),
            display: is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"),
            remote: is_set("SSH_CONNECTION"),
        }
    }

    /// Why no browser can be expected here; `None` if one can. A set `BROWSER` beats all signs.
    pub(crate) fn headless(&self) -> Option<&'static str> {
        if !self.commands().is_empty() {
            return None;
        }
        match self.platform {
            Platform::Linux if !self.display => Some("there is no display"),
            Platform::MacOs | Platform::Windows if self.remote => Some("this is a remote session"),
            Platform::Linux | Platform::MacOs | Platform::Windows | Platform::Wsl => None,
        }
    }

    /// Opens the address, whatever [`Self::headless`] says: the caller may know better.
    ///
    /// Blocks for a few seconds at most, and does not wait for the browser to be closed.
    ///
    /// # Errors
    /// The last launcher's failure, when none of them worked.
    pub(crate) fn open(&self, url: &str) -> io::Result<()> {
        let chosen = self.commands();
        let outside = if self.platform == Platform::Wsl { windows_commands() } else { Vec::new() };
        let commands = if chosen.is_empty() { &outside } else { &chosen };
        let mut last = None;
        for command in commands {
            match launch(command, url) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(program = command[0], %error, "a browser could not be launched");
                    last = Some(error);
                }
            }
        }
        match last {
            // Who named a browser does not want another one.
            Some(error) if !chosen.is_empty() => Err(error),
            _ => open::that_detached(url).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => error,
                // Its text quotes the whole command and a raw wait status.
                kind => io::Error::new(kind, "the system's launcher did not succeed"),
            }),
        }
    }

    /// `BROWSER` taken apart: the platform's path separator between commands.
    fn commands(&self) -> Vec<Vec<String>> {
        let separator = if self.platform == Platform::Windows { ';' } else { ':' };
        let commands = self.browser.as_deref().unwrap_or_default().split(separator);
        commands.map(words).filter(|words| !words.is_empty()).collect()
    }
}

/// Opens the address as this process's surroundings suggest; for programs without a wish of their own.
///
/// # Errors
/// When there is no browser to be expected, or none could be started.
pub(crate) fn system_browser(url: &str) -> io::Result<()> {
    let surroundings = Surroundings::of_this_process();
    if let Some(why) = surroundings.headless() {
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    surroundings.open(url)
}

/// From inside WSL, Windows' own browser.
fn windows_commands() -> Vec<Vec<String>> {
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    vec![
        command(&["powershell.exe", "-NoProfile", "-Command", "Start-Process '%s'"]),
        command(&["wslview", "%s"]),
    ]
}

/// The words of a command; quotes keep together what belongs together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    // `browser %s &` is how shells were asked not to wait; we never do.
    if words.last().is_some_and(|last| last == "&") {
        words.pop();
    }
    words
}

fn with_address(command: &[String], url: &str) -> Vec<String> {
    let mut words: Vec<String> = command.iter().map(|word| word.replace("%s", url)).collect();
    if words == command {
        words.push(url.to_owned());
    }
    words
}

/// Starts a launcher and sees whether it fails at once.
fn launch(command: &[String], url: &str) -> io::Result<()> {
    let words = with_address(command, url);
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let (sender, ended) = mpsc::channel();
    // Outlives us if the browser does, and then leaves no zombie behind.
    thread::spawn(move || sender.send(child.wait()));
    match ended.recv_timeout(GRACE) {
        Ok(Ok(status)) if !status.success() => {
            Err(io::Error::other(format!("{} ended with {status}", words[0])))
        }
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(platform: Platform, browser: Option<&str>, display: bool, remote: bool) -> Surroundings {
        Surroundings { platform, browser: browser.map(str::to_owned), display, remote }
    }

    const URL: &str = "http://localhost:8400/start/x";
    #[test]
    fn a_browser_is_expected_where_somebody_sees_it() {
        use Platform::{Linux, MacOs, Windows, Wsl};
        let headless = |platform, browser, display, remote| {
            surroundings(platform, browser, display, remote).headless().is_some()
        };
        assert!(headless(Linux, None, false, false));
        assert!(headless(Linux, None, false, true));
        assert!(headless(Linux, Some(" : "), false, true));
        assert!(!headless(Linux, None, true, false));
        assert!(!headless(Linux, None, true, true), "a forwarded display is one");
        assert!(!headless(Linux, Some("firefox"), false, true));
        assert!(!headless(Wsl, None, false, false));
        for platform in [MacOs, Windows] {
            assert!(!headless(platform, None, false, false));
            assert!(headless(platform, None, false, true));
            assert!(!headless(platform, Some("firefox"), false, true));
        }
    }

    #[test]
    fn the_variable_holds_commands_in_order() {
        let commands = |platform, text| surroundings(platform, Some(text), false, false).commands();
        assert_eq!(
            commands(Platform::Linux, "firefox -P 'my work' %s &:w3m"),
            [vec!["firefox", "-P", "my work", "%s"], vec!["w3m"]]
        );
        assert_eq!(
            commands(Platform::Windows, r#""C:\Program Files\b.exe" -x"#),
            [[r"C:\Program Files\b.exe", "-x"]]
        );
        assert_eq!(commands(Platform::Linux, " ::& "), Vec::<Vec<String>>::new());

        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            with_address(&owned(&["b", "--url=%s"]), URL),
            ["b", "--url=http://localhost:8400/start/x"]
        );
        assert_eq!(with_address(&owned(&["b", "-x"]), URL), ["b", "-x", "http://localhost:8400/start/x"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_first_command_that_works_is_enough_and_failures_are_told() {
        let open = |commands: &str| surroundings(Platform::Linux, Some(commands), false, false).open(URL);
        open("/nonexistent/browser:false:true").unwrap();
        assert!(open("false").unwrap_err().to_string().starts_with("false ended with"));
        assert_eq!(open("false:/nonexistent/browser").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
