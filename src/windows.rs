//! Calls of Windows that no safe library of ours makes, each wrapped once.

#![expect(unsafe_code, reason = "these are calls of a C interface")]

pub(crate) mod memory;
pub(crate) mod pipe;
#[cfg(feature = "cli")]
pub(crate) mod process;
#[cfg(feature = "cli")]
mod rules;
#[cfg(feature = "cli")]
pub(crate) mod served_pipe;
mod user;

use std::ffi::{OsStr, c_void};
use std::io;
use std::os::windows::ffi::OsStrExt as _;

use windows_sys::Win32::Foundation::LocalFree;

pub(crate) use self::user::{Sid, own_user};

/// Whether the error is this one of Windows's.
pub(crate) fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

/// What Windows made and leaves to us.
struct FreedByUs(*mut c_void);

impl Drop for FreedByUs {
    fn drop(&mut self) {
        // SAFETY: it is what such a call answered with, and freed once.
        unsafe { LocalFree(self.0) };
    }
}

fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

fn succeeded(done: i32) -> io::Result<()> {
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
