//! `look-at-caches HOME`: looks at every cache of that home as `tokenkeep doctor` does, and prints one
//! line for each.

use std::io::Write as _;

use tokenkeep::store::{Places, silos};

fn main() -> std::io::Result<()> {
    let home = std::env::args_os().nth(1).expect("HOME");
    let mut stdout = std::io::stdout().lock();
    for silo in silos(&Places::below(home)) {
        let facts = silo.facts();
        let exists = if facts.exists { "exists" } else { "absent" };
        writeln!(stdout, "{exists} {} {:?}", silo.place(), facts.content)?;
    }
    Ok(())
}
