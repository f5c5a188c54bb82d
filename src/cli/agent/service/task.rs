//! A task of Windows's scheduler that starts the agent when the user signs in.

use super::Run;
use super::file::{ServiceFile, mark};
use super::xml::escape;
use crate::store::Places;

const NAME: &str = "tokenkeep agent";

pub(super) const DISABLE: &str =
    "schtasks /End /TN \"tokenkeep agent\" & schtasks /Delete /F /TN \"tokenkeep agent\"";

pub(super) fn enable(files: &[ServiceFile]) -> String {
    let path = files.first().map(|file| file.path.display().to_string()).unwrap_or_default();
    format!("schtasks /Create /TN \"{NAME}\" /XML \"{path}\" && schtasks /Run /TN \"{NAME}\"")
}

pub(super) fn files(run: &Run, places: &Places) -> Vec<ServiceFile> {
    vec![ServiceFile::new(places.local_data.join("tokenkeep").join("agent-task.xml"), &task(run))]
}

fn task(run: &Run) -> String {
    let program = escape(&run.program);
    // `agent` itself would keep a window open.
    let (agent, options) = run.arguments.split_at(1.min(run.arguments.len()));
    let words = agent.iter().map(String::as_str).chain(["start"]).chain(options.iter().map(String::as_str));
    let arguments = escape(&words.map(quote).collect::<Vec<_>>().join(" "));
    let mark = mark();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- {mark} -->
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Hidden>true</Hidden>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>3</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"#
    )
}

/// As one word for the parser that programs on Windows share.
fn quote(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => quoted.push_str(&"\\".repeat(2 * backslashes + 1)),
            _ => quoted.push_str(&"\\".repeat(backslashes)),
        }
        if c != '\\' {
            quoted.push(c);
            backslashes = 0;
        }
    }
    quoted.push_str(&"\\".repeat(2 * backslashes));
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_one_that_others_read() {
        let run = super::super::tests::run();
        let read = "import sys, xml.dom.minidom as d; t = d.parseString(sys.argv[1].encode()); \
                    print(*(t.getElementsByTagName(n)[0].firstChild.data for n in ('Command', 'Arguments')), sep='\\n')";
        let told = super::super::tests::python(read, &task(&run));
        assert_eq!(told, format!("{}\nagent start {}\n", run.program, quote(&run.arguments[1])));
    }

    #[test]
    fn a_word_is_quoted_as_programs_on_windows_read_it() {
        for (word, quoted) in [
            ("agent", "agent"),
            (r"C:\a b\", r#""C:\a b\\""#),
            (r#"say "x\""#, r#""say \"x\\\"""#),
            ("", r#""""#),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }
}
