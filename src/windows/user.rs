//! Users, as Windows tells them.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{GetTokenInformation, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::{FreedByUs, succeeded};

/// A user as Windows numbers them, such as `S-1-5-21-1004336348-1177238915-682003330-512`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sid(String);

impl fmt::Display for Sid {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// The user of this process.
pub(crate) fn own_user() -> io::Result<Sid> {
    // SAFETY: it only answers with a number that stands for this process.
    user_of_process(unsafe { GetCurrentProcess() })
}

pub(super) fn user_of_process(process: HANDLE) -> io::Result<Sid> {
    let mut token = ptr::null_mut();
    // SAFETY: one handle is written; a bad one of the process is answered with an error.
    succeeded(unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) })?;
    // SAFETY: it was just opened, for us alone.
    user_of_token(&unsafe { OwnedHandle::from_raw_handle(token) })
}

pub(super) fn user_of_token(token: &OwnedHandle) -> io::Result<Sid> {
    // More than the longest SID takes; of numbers as wide as pointers, so that it is aligned for them.
    let mut buffer = [0_usize; 32];
    let mut used = 0;
    let size = u32::try_from(size_of_val(&buffer)).map_err(io::Error::other)?;
    // SAFETY: the handle is open, and at most `size` bytes of the buffer are written.
    let asked = unsafe {
        let to: *mut c_void = buffer.as_mut_ptr().cast();
        GetTokenInformation(token.as_raw_handle(), TokenUser, to, size, &mut used)
    };
    succeeded(asked)?;
    // SAFETY: on success the buffer begins with this structure, whose pointer leads into it.
    unsafe { sid((*buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid) }
}

/// # Safety
/// It has to be a valid one.
pub(super) unsafe fn sid(sid: PSID) -> io::Result<Sid> {
    let mut text = ptr::null_mut();
    // SAFETY: the caller's; one pointer is written.
    succeeded(unsafe { ConvertSidToStringSidW(sid, &mut text) })?;
    let text = FreedByUs(text.cast());
    let mut units = Vec::new();
    // SAFETY: on success it is a text that ends with a zero.
    while let unit @ 1.. = unsafe { *text.0.cast::<u16>().add(units.len()) } {
        units.push(unit);
    }
    Ok(Sid(String::from_utf16_lossy(&units)))
}
