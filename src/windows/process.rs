//! Processes: what others may do with this one, and which program another one runs.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, IntoRawHandle as _, OwnedHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, SetKernelObjectSecurity,
};
use windows_sys::Win32::Storage::FileSystem::{BY_HANDLE_FILE_INFORMATION, GetFileInformationByHandle};
use windows_sys::Win32::System::Console::{GetStdHandle, STD_OUTPUT_HANDLE, SetStdHandle};
use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS, GetCurrentProcess, OpenProcess, PROCESS_NAME_WIN32,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, QueryFullProcessImageNameW,
};

use super::rules::Rules;
use super::user::{own_user, user_of_process};
use super::{Sid, succeeded};

/// How a program is started that goes on without the console of the one that started it.
pub(crate) const DETACHED: u32 = DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP;

/// A process that is looked at. Nobody else gets its number as long as this is there.
#[derive(Debug)]
pub(crate) struct Process(OwnedHandle);

impl Process {
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        // SAFETY: it takes numbers only.
        let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, number) };
        if process.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, for us alone.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(process) }))
    }

    /// The file that it was started from.
    pub(crate) fn file(&self) -> io::Result<PathBuf> {
        // the longest path that Windows has
        let mut name = vec![0_u16; 32_768];
        let mut length = u32::try_from(name.len()).map_err(io::Error::other)?;
        // SAFETY: the handle is open; at most `length` units are written, and that is how many there are.
        succeeded(unsafe {
            QueryFullProcessImageNameW(
                self.0.as_raw_handle(),
                PROCESS_NAME_WIN32,
                name.as_mut_ptr(),
                &mut length,
            )
        })?;
        Ok(OsString::from_wide(&name[..length as usize]).into())
    }

    /// Whose it is.
    pub(super) fn user(&self) -> io::Result<Sid> {
        user_of_process(self.0.as_raw_handle())
    }
}

/// The volume and the number there of the file at the path.
pub(crate) fn place_of(path: &Path) -> io::Result<(u64, u64)> {
    // to look at it, and no more
    let file = File::options().access_mode(0).open(path)?;
    // SAFETY: numbers, of which zeros are some.
    let mut found: BY_HANDLE_FILE_INFORMATION = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is open, and the structure is written.
    succeeded(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut found) })?;
    let number = (u64::from(found.nFileIndexHigh) << 32) | u64::from(found.nFileIndexLow);
    Ok((found.dwVolumeSerialNumber.into(), number))
}

/// Has other programs of this user do no more with this process than wait for it, end it, and see
/// that it is there. Handles that are open already stay as they are.
pub(crate) fn close_to_others() -> io::Result<()> {
    let rights = PROCESS_TERMINATE | PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION;
    let user = own_user()?;
    // The second rule is about the owner, who could change these rules otherwise.
    let rules = Rules::parse(&format!("D:P(A;;0x{rights:x};;;{user})(A;;0x{rights:x};;;OW)(A;;GA;;;SY)"))?;
    let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the process is this one, and the rules outlive the call.
    succeeded(unsafe { SetKernelObjectSecurity(GetCurrentProcess(), what, rules.descriptor()) })
}

/// Has a crash end this process without a report, which would have its memory in it.
pub(crate) fn crash_in_silence() {
    // SAFETY: it takes a number.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}

/// The time since the machine was started, its sleep included.
pub(crate) fn since_boot() -> Duration {
    // SAFETY: it takes nothing.
    Duration::from_millis(unsafe { GetTickCount64() })
}

/// Keeps the standard handles from the programs that this one starts, unless they are given to them:
/// one that goes on would hold open what somebody reads to its end.
pub(crate) fn keep_standard_handles() {
    for handle in [io::stdin().as_raw_handle(), io::stdout().as_raw_handle(), io::stderr().as_raw_handle()] {
        // SAFETY: it takes a handle, and answers with an error if that is none.
        unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0) };
    }
}

/// Ends the standard output for whoever reads it, while this process goes on.
pub(crate) fn close_stdout() -> io::Result<()> {
    let nowhere = File::options().write(true).open("NUL")?;
    // SAFETY: it takes a number, and answers with a handle.
    let before: HANDLE = unsafe { GetStdHandle(STD_OUTPUT_HANDLE) };
    // SAFETY: the handle is open, and stays so for good.
    succeeded(unsafe { SetStdHandle(STD_OUTPUT_HANDLE, nowhere.into_raw_handle()) })?;
    // SAFETY: it was the standard output's, which is another one by now, and nobody else's.
    unsafe { CloseHandle(before) };
    Ok(())
}
