//! Adds fake sign-ins to a cache through the library, as `tests/clients/writer.py` does through
//! msal-extensions, and acknowledges each on a line of its own once it is stored.
//!
//! `cache-writer HOME CACHE plaintext|platform|vault WRITER COUNT [PAUSE]`: the sign-ins of user `WRITER`
//! for the scopes `https://api.example/WRITER/0` and so on, with so many milliseconds between them;
//! the acknowledgement is the number.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokenkeep::store::{self, Places};
use tokenkeep::time::Deadline;
use tokenkeep::{CacheName, Storage, TokenCachePersistenceOptions};

#[path = "../fake_sign_in.rs"]
mod fake_sign_in;

/// Longer than any test runs: here waiting is no failure.
const LOCK_WAIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [home, cache, storage, writer, count, pause @ ..] = arguments.as_slice() else {
        return Err("usage: cache-writer HOME CACHE plaintext|platform|vault WRITER COUNT [PAUSE]".into());
    };
    let pause = Duration::from_millis(pause.first().map_or(Ok(0), |pause| pause.parse())?);
    let storage = match storage.as_str() {
        "plaintext" => Storage::Plaintext,
        "vault" => Storage::Vault,
        _ => Storage::Platform,
    };
    let options =
        TokenCachePersistenceOptions::default().name(CacheName::new(cache.clone())?).storage(storage);
    let store = store::open(&options, false, &Places::below(home))?;
    for index in 0..count.parse()? {
        store.apply(&fake_sign_in::fake_sign_in(writer, index), Deadline::within(LOCK_WAIT))?;
        writeln!(io::stdout(), "{index}")?;
        std::thread::sleep(pause);
    }
    Ok(())
}
