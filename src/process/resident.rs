//! What stays in memory of a program that runs for long.

#[cfg(target_os = "linux")]
use std::ffi::c_void;
#[cfg(any(test, target_os = "linux"))]
use std::ops::Range;

/// Lets the kernel take back the pages of this program's code, most of which only its start needed.
/// What is needed again comes back from the file's copy in memory at its first use.
#[cfg(target_os = "linux")]
pub(crate) fn let_go_of_idle_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let here = let_go_of_idle_code as fn() as usize;
    if let Some(code) = code_around(here, &maps) {
        let_go(code);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn let_go_of_idle_code() {}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "madvise takes a raw range")]
fn let_go(code: Range<usize>) {
    use rustix::mm::{Advice, madvise};
    let start = std::ptr::without_provenance_mut::<c_void>(code.start);
    // SAFETY: nothing can have written to these pages of a file, so they read the same when they are back.
    if let Err(error) = unsafe { madvise(start, code.len(), Advice::LinuxDontNeed) } {
        tracing::debug!(%error, "idle code stays in memory");
    }
}

/// The mapping that this address is in, if it is of a file and cannot have been written to.
#[cfg(any(test, target_os = "linux"))]
fn code_around(address: usize, maps: &str) -> Option<Range<usize>> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        let is_code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
        (is_code && range.contains(&address)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unwritable_code_of_a_file_is_let_go_of() {
        let line = |modes: &str, file: &str| format!("1000-3000 {modes} 00001000 fe:00 77 {file}\n");
        assert_eq!(code_around(0x2fff, &line("r-xp", "/usr/bin/x y")), Some(0x1000..0x3000));
        assert_eq!(code_around(0x3000, &line("r-xp", "/usr/bin/x")), None);
        assert_eq!(code_around(0x1000, &line("rwxp", "/usr/bin/x")), None, "it may have been written to");
        assert_eq!(code_around(0x1000, &line("r-xp", "")), None, "it is of no file");
        assert_eq!(code_around(0x1000, "nonsense"), None);
    }

    #[test]
    fn the_program_goes_on_as_before() {
        let_go_of_idle_code();
        assert_eq!(code_around(1, ""), None);
    }
}
