//! `tokenkeep clear`: removing from the cache what nobody needs, after asking.

use serde_json::{Value, json};

use super::arguments::Clear;
use super::caches::{self, OpenCache, Removal, deadline};
use super::failure::Failure;
use super::logout;
use super::output::{Output, printable, table};
use super::probe::{self, Answers};
use super::settings::Settings;
use super::tools::{self, Problem};
use crate::error::CacheError;
use crate::revocation::{Known, Memory};
use crate::time::{Clock as _, SystemClock};

pub(super) fn run(arguments: &Clear, settings: &Settings, output: Output) -> Result<(), Failure> {
    if arguments.all {
        return everything(arguments, settings, output);
    }
    let Some(hint) = &arguments.account else {
        return stale(arguments, settings, output);
    };
    let caches = OpenCache::both(settings)?;
    let accounts = [logout::choose(Some(hint), (&caches, settings.cache.name.as_str()), settings)?];
    let changes = logout::removal_of(&accounts, None);
    let plans = caches.each_ref().map(|cache| cache.plan(&changes));
    if !agreed(arguments, &Report::of(plans.concat()), output)? {
        return Ok(());
    }
    let mut removed = Vec::new();
    for (cache, planned) in caches.iter().zip(plans) {
        removed.extend(cache.carry_out(&changes, planned)?);
    }
    logout::forget_default_accounts(settings, &accounts)?;
    Report::of(removed).print(false, output)
}

/// What can do nothing any more goes from our caches, and what is dead from everybody's.
fn stale(arguments: &Clear, settings: &Settings, output: Output) -> Result<(), Failure> {
    let (mut caches, problems) = tools::all(settings)?;
    let mut report = Report { problems, ..Report::default() };
    let memory = Memory::of(&settings.places);
    let mut known = recall(&memory, &mut report)?;
    if arguments.probe {
        let answers = probe::ask(&caches, &known, settings, output)?;
        if !arguments.dry_run && !answers.dead.is_empty() {
            memory.remember(&answers.dead, SystemClock.now())?;
        }
        answers.dead.iter().for_each(|grant| known.note(grant));
        report.take_in(answers);
        for cache in &mut caches {
            cache.reload()?;
        }
    }
    let now = SystemClock.now();
    let mut plans = Vec::new();
    for tool in &caches {
        let (mut changes, mut planned) = tool.cache.plan_dead(&known, arguments.access_tokens);
        if let (Some(why), false) = (&tool.read_only, planned.is_empty()) {
            let problem = format!("{} dead entries stay: {why}", planned.len());
            report.problems.push(Problem::new(tool.cache.name.clone(), problem));
            continue;
        }
        // only our own: other tools have rules of their own for what is merely old
        if tool.is_own {
            let (also, stale) = tool.cache.plan_stale(now);
            changes.extend(also);
            let also_stale: Vec<Removal> =
                stale.into_iter().filter(|removal| !planned.iter().any(|known| known.is(removal))).collect();
            planned.extend(also_stale);
        }
        plans.push((tool, changes, planned));
    }
    report.removals = plans.iter().flat_map(|(.., planned)| planned.clone()).collect();
    if !agreed(arguments, &report, output)? {
        return Ok(());
    }
    report.removals = Vec::new();
    for (tool, changes, planned) in plans {
        match tool.cache.carry_out(&changes, planned) {
            Ok(removed) => report.removals.extend(removed),
            Err(error) => report.problems.push(tool.problem(error)),
        }
    }
    report.print(false, output)
}

fn recall(memory: &Memory, report: &mut Report) -> Result<Known, Failure> {
    match memory.recall() {
        Ok(known) => Ok(known),
        // What was remembered is lost or not for us; what is stale is stale all the same.
        Err(error @ (CacheError::Damaged { .. } | CacheError::NewerFormat { .. })) => {
            report.problems.push(Problem::new("known revocations", Failure::from(error).message()));
            Ok(Known::nothing()?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Both caches go, whatever is in them. What is no cache is set aside by the store, not deleted.
fn everything(arguments: &Clear, settings: &Settings, output: Output) -> Result<(), Failure> {
    let mut entries = Vec::new();
    let mut accounts = Vec::new();
    let mut damaged = Vec::new();
    let mut stores = Vec::new();
    for cae in [false, true] {
        match OpenCache::open(settings, cae) {
            Ok(cache) => {
                entries.extend(cache.entries());
                accounts.extend(cache.document.accounts());
                stores.push(cache.store);
            }
            Err(CacheError::Damaged { place, .. } | CacheError::KeyUnavailable { place, .. }) => {
                damaged.push(place);
                stores.push(settings.open_store(cae)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let planned = Report { removals: entries, set_aside: damaged, ..Report::default() };
    if !agreed(arguments, &planned, output)? {
        return Ok(());
    }
    let mut set_aside = Vec::new();
    for store in stores {
        set_aside.extend(store.discard(deadline())?);
    }
    logout::forget_default_accounts(settings, &accounts)?;
    Report { set_aside, ..planned }.print(false, output)
}

/// Shows what would go, and asks once. `false` means that there is nothing more to do.
fn agreed(arguments: &Clear, planned: &Report, output: Output) -> Result<bool, Failure> {
    if arguments.dry_run {
        planned.print(true, output)?;
        return Ok(false);
    }
    if arguments.yes {
        return Ok(true);
    }
    if planned.removals.is_empty() && planned.set_aside.is_empty() {
        planned.print(false, output)?;
        return Ok(false);
    }
    if !output.has_person() {
        return Err(Failure::usage(
            "nobody is here to ask whether this may be removed",
            "look at what would go with --dry-run, then say --yes",
        ));
    }
    let mut what = caches::in_words(&planned.removals);
    let damaged = planned.set_aside.iter();
    what.extend(damaged.map(|place| format!("{place}, which is damaged and will be kept aside")));
    let question = format!("Remove {}?", what.join(", and "));
    if output.ask(&printable(&question), false)? { Ok(true) } else { Err(Failure::Cancelled) }
}

/// What would go, or went.
#[derive(Debug, Default)]
struct Report {
    removals: Vec<Removal>,
    /// Damaged content that is kept.
    set_aside: Vec<String>,
    /// What asking the provider came to, if it was asked.
    probed: Option<Answers>,
    problems: Vec<Problem>,
}

impl Report {
    fn of(removals: Vec<Removal>) -> Self {
        Self { removals, ..Self::default() }
    }

    fn take_in(&mut self, mut answers: Answers) {
        self.problems.append(&mut answers.problems);
        self.probed = Some(answers);
    }

    fn print(&self, dry_run: bool, output: Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.json(&json!({
                "version": 1,
                "dry_run": dry_run,
                "removed": self.removals.iter().map(Removal::to_json).collect::<Vec<Value>>(),
                "set_aside": self.set_aside,
                "probed": self.probed.as_ref().map(Answers::to_json),
                "problems": self.problems.iter().map(Problem::to_json).collect::<Vec<Value>>(),
            }));
        }
        if let Some(Answers { asked, alive, dead, .. }) = &self.probed {
            let dead = dead.len();
            output.remark(&format!("Asked about {asked} refresh tokens: {alive} live, {dead} are dead"))?;
        }
        for problem in &self.problems {
            output.remark(&format!("Left as it is: {}", printable(&problem.in_words())))?;
        }
        if self.removals.is_empty() && self.set_aside.is_empty() {
            return output.remark("There is nothing to remove");
        }
        if dry_run { self.print_plan(output) } else { self.print_done(output) }
    }

    fn print_plan(&self, output: Output) -> Result<(), Failure> {
        let with_reasons = self.removals.iter().any(|removal| removal.why.is_some());
        let mut headings = vec!["WOULD GO", "ACCOUNT", "CLIENT", "FOR", "FROM"];
        headings.extend(with_reasons.then_some("BECAUSE"));
        let rows: Vec<Vec<String>> = self.removals.iter().map(row).collect();
        if !rows.is_empty() {
            output.text(&table(&headings, &rows))?;
        }
        for place in &self.set_aside {
            output.text(&format!("{} is damaged and would be set aside", printable(place)))?;
        }
        Ok(())
    }

    fn print_done(&self, output: Output) -> Result<(), Failure> {
        for line in caches::in_words(&self.removals) {
            output.remark(&format!("Removed {}", printable(&line)))?;
        }
        for place in &self.set_aside {
            output.remark(&format!("Damaged content was kept: {}", printable(place)))?;
        }
        Ok(())
    }
}

fn row(removal: &Removal) -> Vec<String> {
    let entry = &removal.entry;
    let owner = if entry.username.is_empty() { &entry.home_account_id } else { &entry.username };
    let purpose = if entry.target.is_empty() { entry.realm.clone() } else { shortened(&entry.target) };
    let cells = [removal.kind(), owner, &entry.client_id, &purpose, &removal.cache];
    let cells = cells.into_iter().chain(removal.why.as_deref());
    cells.map(|cell| printable(cell).into_owned()).collect()
}

/// The first scope that says something, and how many there are besides.
fn shortened(scopes: &str) -> String {
    const SAID_BY_ALL: [&str; 4] = ["email", "offline_access", "openid", "profile"];
    let scopes: Vec<&str> = scopes.split_ascii_whitespace().collect();
    let telling = scopes.iter().find(|scope| !SAID_BY_ALL.contains(scope));
    match (telling.or(scopes.first()), scopes.len()) {
        (None, _) => String::new(),
        (Some(only), 1) => (*only).to_owned(),
        (Some(first), all) => format!("{first} and {} more", all - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_told_by_the_one_that_says_something() {
        assert_eq!(shortened(""), "");
        assert_eq!(shortened("openid"), "openid");
        assert_eq!(
            shortened("email https://graph.microsoft.com/User.Read openid"),
            "https://graph.microsoft.com/User.Read and 2 more"
        );
    }
}
