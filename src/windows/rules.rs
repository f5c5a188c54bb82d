//! Rules for who may do what.

use std::ffi::OsStr;
use std::io;
use std::ptr;

use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::PSECURITY_DESCRIPTOR;

use super::{FreedByUs, succeeded, wide};

/// Rules for who may do what with an object.
pub(super) struct Rules(FreedByUs);

impl Rules {
    /// Rules in the language that Windows has for them.
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let text = wide(OsStr::new(text));
        let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
        // SAFETY: the text ends with a zero and outlives the call, which writes one pointer.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                ptr::null_mut(),
            )
        };
        succeeded(made)?;
        Ok(Self(FreedByUs(descriptor)))
    }

    /// Valid as long as these rules are.
    pub(super) const fn descriptor(&self) -> PSECURITY_DESCRIPTOR {
        self.0.0
    }
}
