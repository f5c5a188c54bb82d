//! Memory that stays where it is.

use std::io;

use windows_sys::Win32::System::Memory::VirtualLock;

use super::succeeded;

/// Keeps the pages that hold these bytes out of the paging file.
pub(crate) fn keep(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the range is the slice's own; it is neither read nor written.
    succeeded(unsafe { VirtualLock(bytes.as_mut_ptr().cast(), bytes.len()) })
}
