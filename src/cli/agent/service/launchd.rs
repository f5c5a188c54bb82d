//! A launchd agent of the user. launchd's own sockets would have to be asked for by a call of its, so the agent binds
//! its own.

use super::Run;
use super::file::{ServiceFile, mark};
use super::xml::escape;
use crate::cli::settings::shell_word;
use crate::store::Places;

const LABEL: &str = "tokenkeep.agent";

pub(super) const DISABLE: &str = "launchctl bootout gui/$(id -u)/tokenkeep.agent";

pub(super) fn enable(files: &[ServiceFile]) -> String {
    let path = files.first().map(|file| file.path.display().to_string()).unwrap_or_default();
    format!("launchctl bootstrap gui/$(id -u) {}", shell_word(&path))
}

pub(super) fn files(run: &Run, places: &Places) -> Vec<ServiceFile> {
    let path = places.home.join("Library").join("LaunchAgents").join(format!("{LABEL}.plist"));
    vec![ServiceFile::new(path, &agent(run))]
}

fn agent(run: &Run) -> String {
    let command = std::iter::once(&run.program).chain(&run.arguments);
    let words: String = command.map(|word| format!("    <string>{}</string>\n", escape(word))).collect();
    let variables: String = run
        .variables
        .iter()
        .map(|(name, value)| format!("    <key>{name}</key>\n    <string>{}</string>\n", escape(value)))
        .collect();
    let mark = mark();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- {mark} -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
{words}  </array>
  <key>EnvironmentVariables</key>
  <dict>
{variables}  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ProcessType</key>
  <string>Background</string>
  <key>Umask</key>
  <integer>63</integer>
  <key>HardResourceLimits</key>
  <dict>
    <key>Core</key>
    <integer>0</integer>
  </dict>
</dict>
</plist>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_one_that_others_read() {
        let run = super::super::tests::run();
        let read = "import json, plistlib, sys; print(json.dumps(plistlib.loads(sys.argv[1].encode())))";
        let list = super::super::tests::python(read, &agent(&run));
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!(
            list["ProgramArguments"],
            serde_json::json!([run.program, run.arguments[0], run.arguments[1]])
        );
        assert_eq!(list["EnvironmentVariables"]["SSL_CERT_FILE"], run.variables[0].1);
        assert_eq!((&list["RunAtLoad"], &list["KeepAlive"]["SuccessfulExit"]), (&true.into(), &false.into()));
        assert_eq!(list["Umask"], 0o77);
    }
}
