//! What a process that holds keys asks of the kernel.

/// Asks for these bytes to stay out of the swap. A limit on locked memory may refuse; then they
/// are as safe as the rest of the process.
///
/// Never undone: the same page may hold another key, and unlocking would expose that one, too.
#[cfg(unix)]
#[expect(unsafe_code, reason = "mlock takes a raw range")]
pub(crate) fn keep_out_of_swap(bytes: &mut [u8]) {
    // SAFETY: the range is the slice's own; mlock neither reads nor writes it.
    let locked = unsafe { rustix::mm::mlock(bytes.as_mut_ptr().cast(), bytes.len()) };
    if let Err(error) = locked {
        tracing::debug!(%error, "a key could not be kept out of the swap");
    }
}

/// Windows keeps small hot pages in memory by itself, and hibernation would write them anyway.
#[cfg(not(unix))]
pub(crate) fn keep_out_of_swap(_bytes: &mut [u8]) {}
