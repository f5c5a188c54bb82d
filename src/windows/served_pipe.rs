//! Named pipes for one user alone, and who opens them.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::ERROR_CANNOT_IMPERSONATE;
use windows_sys::Win32::Security::{RevertToSelf, SECURITY_ATTRIBUTES, TOKEN_QUERY};
use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, ImpersonateNamedPipeClient};
use windows_sys::Win32::System::Threading::{GetCurrentThread, OpenThreadToken};

use super::process::Process;
use super::rules::Rules;
use super::user::user_of_token;
use super::{Sid, is, succeeded};

/// A new instance of the pipe, which only this user may open or add instances to, and nobody from
/// another machine. The first one fails if there is such a pipe already, whoever made it.
pub(crate) fn create(path: &Path, user: &Sid, is_first: bool) -> io::Result<NamedPipeServer> {
    // Made ours by name: an administrator's would belong to all administrators otherwise.
    let rules = Rules::parse(&format!("O:{user}D:P(A;;GA;;;{user})"))?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?,
        lpSecurityDescriptor: rules.descriptor(),
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options.first_pipe_instance(is_first).reject_remote_clients(true);
    // SAFETY: the attributes and what they point to are valid and outlive the call.
    unsafe { options.create_with_security_attributes_raw(path, (&raw mut attributes).cast()) }
}

/// The process that opened the other end of this one.
pub(crate) fn client_process(pipe: &NamedPipeServer) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the handle is open; one number is written.
    succeeded(unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &mut process) })?;
    Ok(process)
}

/// The user that opened the other end of this one, as it was when they did.
pub(crate) fn client_user(pipe: &NamedPipeServer) -> io::Result<Sid> {
    match opener(pipe) {
        // Of a client that did not ask for it, Windows keeps no copy. Its process still is somebody's.
        Err(error) if is(&error, ERROR_CANNOT_IMPERSONATE) => Process::open(client_process(pipe)?)?.user(),
        known => known,
    }
}

/// Asks the pipe itself, which unlike the number of a process is nobody's to reuse.
fn opener(pipe: &NamedPipeServer) -> io::Result<Sid> {
    // SAFETY: the handle is open. From here to the end of it, this thread runs nothing else.
    succeeded(unsafe { ImpersonateNamedPipeClient(pipe.as_raw_handle()) })?;
    let mut token = ptr::null_mut();
    // SAFETY: the thread is this one; one handle is written. It is opened as ourselves.
    let opened = succeeded(unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &mut token) });
    // SAFETY: it takes nothing.
    if unsafe { RevertToSelf() } == 0 {
        // Nothing may be done in somebody else's name.
        std::process::abort();
    }
    opened?;
    // SAFETY: it was just opened, for us alone.
    user_of_token(&unsafe { OwnedHandle::from_raw_handle(token) })
}

#[cfg(test)]
mod tests {
    use tokio::net::windows::named_pipe::ClientOptions;

    use super::super::own_user;
    use super::super::pipe::{exists, owner, server_process};
    use super::*;

    fn a_path() -> String {
        format!(r"\\.\pipe\tokenkeep-test-{}", uuid::Uuid::new_v4())
    }

    #[tokio::test]
    async fn both_ends_are_this_users_and_say_so() {
        let (path, user) = (a_path(), own_user().unwrap());
        assert!(user.to_string().starts_with("S-1-5-"), "{user}");
        assert!(!exists(Path::new(&path)).unwrap());
        let server = create(Path::new(&path), &user, true).unwrap();
        assert!(exists(Path::new(&path)).unwrap());
        let client = ClientOptions::new().open(&path).unwrap();
        server.connect().await.unwrap();
        assert!(exists(Path::new(&path)).unwrap(), "busy is not gone");
        assert_eq!(owner(&client).unwrap(), user);
        assert_eq!(client_user(&server).unwrap(), user);
        assert_eq!(Process::open(client_process(&server).unwrap()).unwrap().user().unwrap(), user);
        let here = std::process::id();
        assert_eq!((client_process(&server).unwrap(), server_process(&client).unwrap()), (here, here));
        drop((server, client));
        // The runtime closes it when it has taken back what was under way.
        while exists(Path::new(&path)).unwrap() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_lets_nobody_act_for_it_is_known_by_its_process() {
        let (path, user) = (a_path(), own_user().unwrap());
        let server = create(Path::new(&path), &user, true).unwrap();
        let _client = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        server.connect().await.unwrap();
        assert_eq!(client_user(&server).unwrap(), user);
    }
}
