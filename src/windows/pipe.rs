//! Whether a named pipe is there, and whose it is.

use std::io;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;

use tokio::net::windows::named_pipe::NamedPipeClient;
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_SEM_TIMEOUT, ERROR_SUCCESS};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::{OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID};
use windows_sys::Win32::System::Pipes::{GetNamedPipeServerProcessId, WaitNamedPipeW};

use super::user::sid;
use super::{FreedByUs, Sid, is, succeeded, wide};

/// Whether there is such a pipe. Unlike opening it, this takes no instance away from anybody.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    let path = wide(path.as_os_str());
    // 0 would mean the time that the pipe's maker chose
    let shortest = 1;
    // SAFETY: the name ends with a zero and outlives the call.
    match succeeded(unsafe { WaitNamedPipeW(path.as_ptr(), shortest) }) {
        Ok(()) => Ok(true),
        Err(error) if is(&error, ERROR_SEM_TIMEOUT) => Ok(true),
        Err(error) if is(&error, ERROR_FILE_NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who made the pipe: nobody but an administrator can make one that belongs to somebody else.
pub(crate) fn owner(pipe: &impl AsRawHandle) -> io::Result<Sid> {
    let (mut owner, mut descriptor): (PSID, PSECURITY_DESCRIPTOR) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open; two pointers are written, and the rest is not wanted.
    let done = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut descriptor,
        )
    };
    if done != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(done.cast_signed()));
    }
    let _descriptor = FreedByUs(descriptor);
    // SAFETY: on success the owner lies in the descriptor, which lives until the end of this function.
    unsafe { sid(owner) }
}

/// The process that made the other end of this one.
pub(crate) fn server_process(pipe: &NamedPipeClient) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the handle is open; one number is written.
    succeeded(unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &mut process) })?;
    Ok(process)
}
