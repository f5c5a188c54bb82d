//! Who is at the other end of a Unix socket, as the kernel says.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::Handle;

/// The process that connected, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: u32,
    /// `None` if it is none that this process can see, as in a container beside this one.
    pub(crate) pid: Option<i32>,
}

/// # Errors
/// What the kernel says of a socket that has no other end.
#[cfg(target_os = "linux")]
pub(crate) fn credentials_of(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    option(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut peer)?;
    Ok(Credentials { user: peer.uid, pid: (peer.pid > 0).then_some(peer.pid) })
}

/// # Errors
/// What the kernel says of a socket that has no other end.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "the system's own call, which no crate of ours wraps")]
pub(crate) fn credentials_of(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let (mut user, mut group, mut pid) = (u32::MAX, u32::MAX, 0);
    // SAFETY: the kernel writes the two numbers.
    if unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut user, &raw mut group) } != 0 {
        return Err(io::Error::last_os_error());
    }
    option::<libc::pid_t>(socket, libc::SOL_LOCAL, libc::LOCAL_PEERPID, &mut pid)?;
    Ok(Credentials { user, pid: (pid > 0).then_some(pid) })
}

/// A handle of the process at the other end of this socket, if the system has such. Before Linux 6.5
/// it is of whoever has the number now.
#[cfg(target_os = "linux")]
pub(crate) fn peer_of(socket: BorrowedFd<'_>, pid: Option<i32>) -> Option<Handle> {
    handle_of_peer(socket).or_else(|| super::program::handle_of(pid?))
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn peer_of(_socket: BorrowedFd<'_>, _pid: Option<i32>) -> Option<Handle> {
    None
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a descriptor comes as a number")]
fn handle_of_peer(socket: BorrowedFd<'_>) -> Option<Handle> {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    let mut handle: libc::c_int = -1;
    option(socket, libc::SOL_SOCKET, libc::SO_PEERPIDFD, &mut handle).ok().filter(|()| handle >= 0)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Some(unsafe { OwnedFd::from_raw_fd(handle) }.into())
}

/// Numbers, and nothing else: whatever the kernel writes is a value of theirs.
trait Numbers {}
impl Numbers for libc::c_int {}
#[cfg(target_os = "linux")]
impl Numbers for libc::ucred {}

#[expect(unsafe_code, reason = "rustix does not know these options, or not that a process may be nobody's")]
fn option<T: Numbers>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &mut T) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, for which there is room.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(value).cast(), &raw mut length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::process::lives;

    #[test]
    fn the_peer_of_a_socket_is_the_process_that_made_it() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(credentials_of(one.as_fd()).unwrap(), Credentials { user, pid: Some(own) });
        assert!(lives(peer_of(one.as_fd(), None).as_ref()), "Linux 6.5 or newer");
    }

    #[test]
    fn what_is_no_socket_of_a_process_is_nobodys() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(credentials_of(socket.as_fd()).unwrap(), Credentials { user: u32::MAX, pid: None });
        assert!(peer_of(socket.as_fd(), None).is_none());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(credentials_of(file.as_fd()).is_err());
    }
}
