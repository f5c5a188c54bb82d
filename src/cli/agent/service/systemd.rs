//! Units for systemd's manager of the user.
//!
//! Without privileges that manager cannot take capabilities away (`ProtectKernelModules=`, `ProtectClock=` and others
//! then fail to start), and it needs a user namespace for a file system of the service's own (`ProtectSystem=`,
//! `PrivateTmp=`), in which the kernel's keyring of the user, which may open the vault, is another one. What is left
//! holds without both.

use std::path::PathBuf;

use super::Run;
use super::file::{ServiceFile, mark};
use crate::store::Places;

/// Stopped first, while the manager still knows that the socket is to be removed.
pub(super) const DISABLE: &str = "systemctl --user stop tokenkeep-agent.socket tokenkeep-agent.service; \
     systemctl --user disable tokenkeep-agent.socket";

pub(in super::super) const SOCKET: &str = "tokenkeep-agent.socket";
pub(in super::super) const SERVICE: &str = "tokenkeep-agent.service";

/// Where clients look, as the manager calls it.
const USUAL_SOCKET: &str = "%t/tokenkeep/agent.sock";

const HARDENING: &str = "\
NoNewPrivileges=yes
UMask=0077
LimitCORE=0
LimitMEMLOCK=8M
MemorySwapMax=0
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@chown @privileged @resources @setuid
SystemCallFilter=prlimit64
SystemCallErrorNumber=EPERM
";

pub(super) fn enable(_files: &[ServiceFile]) -> String {
    format!("systemctl --user daemon-reload && systemctl --user enable --now {SOCKET}")
}

pub(super) fn files(run: &Run, places: &Places) -> Vec<ServiceFile> {
    let folder = folder(places);
    vec![
        ServiceFile::new(folder.join(SOCKET), &socket(run)),
        ServiceFile::new(folder.join(SERVICE), &service(run)),
    ]
}

pub(in super::super) fn folder(places: &Places) -> PathBuf {
    places.config.join("systemd").join("user")
}

fn socket(run: &Run) -> String {
    let place = run.socket.as_deref().map_or_else(|| USUAL_SOCKET.to_owned(), escape);
    let mark = mark();
    format!(
        "# {mark}\n\
         [Unit]\n\
         Description=Socket of the tokenkeep agent\n\
         \n\
         [Socket]\n\
         ListenStream={place}\n\
         SocketMode=0600\n\
         DirectoryMode=0700\n\
         RemoveOnStop=yes\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
}

fn service(run: &Run) -> String {
    let words = std::iter::once(&run.program).chain(&run.arguments);
    let words: Vec<String> = words.map(|word| command_word(word)).collect();
    let command = words.join(" ");
    let variable = |(name, value): &(&str, String)| quote(&format!("{name}={}", escape(value)));
    let variables = run.variables.iter().map(variable);
    let variables: String = variables.map(|variable| format!("Environment={variable}\n")).collect();
    let mark = mark();
    format!(
        "# {mark}\n\
         [Unit]\n\
         Description=tokenkeep agent: tokens for this user's programs\n\
         Requires={SOCKET}\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={command}\n\
         ExecReload=kill -HUP $MAINPID\n\
         {variables}Restart=on-failure\n\
         {HARDENING}\n\
         [Install]\n\
         Also={SOCKET}\n"
    )
}

/// As it stands in the line that starts the agent.
pub(in super::super) fn command_word(word: &str) -> String {
    quote(&escape(word).replace('$', "$$"))
}

/// `%` is systemd's.
fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

/// As one word.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=$".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_and_nothing_in_it_is_systemds() {
        let run = Run {
            program: "/opt/my tools/tokenkeep".to_owned(),
            arguments: vec!["--cache=50% of \"$HOME\" \\".to_owned(), "agent".to_owned()],
            variables: vec![("SSL_CERT_FILE", "/a $b/100%.pem".to_owned())],
            socket: Some("/run/50%/a.sock".to_owned()),
        };
        let expected = r#"
ExecStart="/opt/my tools/tokenkeep" "--cache=50%% of \"$$HOME\" \\" agent
"#;
        assert!(service(&run).contains(expected));
        assert!(service(&run).contains("\nEnvironment=\"SSL_CERT_FILE=/a $b/100%%.pem\"\n"));
        assert!(socket(&run).contains("\nListenStream=/run/50%%/a.sock\n"));
    }
}
