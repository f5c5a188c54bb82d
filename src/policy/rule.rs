//! One rule: what has to hold for it, and what it says then.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::cloud::TenantId;
use crate::process::Program as Process;

use super::Action;
use super::glob::Glob;
use super::hours::{Days, Hours, LocalTime};

/// What stands for a program that the system does not name.
const UNKNOWN: &str = "unknown";
/// A scope that means all of a resource's.
const DEFAULT: &str = "/.default";

/// `[[policy.rule]]`. It fits if every member that it has does; a list fits if one of it does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    action: Spanned<Action>,
    name: Option<String>,
    executable: Option<OneOrMore<Program>>,
    parent: Option<OneOrMore<Program>>,
    scope: Option<OneOrMore<Glob>>,
    tenant: Option<OneOrMore<Glob>>,
    account: Option<OneOrMore<Glob>>,
    client_id: Option<OneOrMore<Glob>>,
    days: Option<OneOrMore<Days>>,
    hours: Option<OneOrMore<Hours>>,
    /// Where it stands in its file, counted from 1.
    #[serde(skip)]
    line: usize,
}

/// A request as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The program that asks, and the one that started it.
    pub(crate) executable: Subject<'a>,
    pub(crate) parent: Subject<'a>,
    pub(crate) scopes: &'a [&'a str],
    /// As who asks wrote it; the account's own if it named none.
    pub(crate) tenant: &'a str,
    /// Its username and its home account id.
    pub(crate) account: [&'a str; 2],
    pub(crate) client_id: &'a str,
}

/// A program, as far as the system tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) path: Option<&'a Path>,
    /// Whether the path leads to the very file that runs.
    pub(crate) is_certain: bool,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(process: Option<&'a Process>) -> Self {
        Self {
            path: process.and_then(|process| process.path.as_deref()),
            is_certain: process.is_some_and(Process::is_certain),
        }
    }
}

impl Rule {
    pub(super) fn action(&self) -> Action {
        *self.action.get_ref()
    }

    /// Where the rule begins, in bytes.
    pub(crate) fn offset(&self) -> usize {
        self.action.span().start
    }

    pub(crate) fn is_at_line(&mut self, line: usize) {
        self.line = line;
    }

    pub(super) fn short(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("line {}", self.line))
    }

    /// Whether the rule is about this scope of the request.
    pub(super) fn fits(&self, request: &Request<'_>, scope: &str, now: &impl Fn() -> LocalTime) -> bool {
        let Request { executable, parent, scopes: _, tenant, account, client_id } = *request;
        let lets_in = self.action() == Action::Allow;
        let is_program = |patterns: &Option<OneOrMore<Program>>, subject: Subject<'_>| {
            patterns
                .as_ref()
                .is_none_or(|patterns| patterns.0.iter().any(|pattern| pattern.is(subject, lets_in)))
        };
        let is_named = |patterns: &Option<OneOrMore<Glob>>, names: &[&str]| {
            patterns.as_ref().is_none_or(|patterns| {
                patterns.0.iter().any(|glob| names.iter().any(|name| glob.is_in_any_case(name)))
            })
        };
        let is_scope = self
            .scope
            .as_ref()
            .is_none_or(|patterns| patterns.0.iter().any(|pattern| covers(pattern, scope)));
        let is_time = || {
            let (days, hours) = (self.days.as_ref(), self.hours.as_ref());
            (days.is_none() && hours.is_none())
                || now().is_within(days.map(|days| &days.0[..]), hours.map(|hours| &hours.0[..]))
        };
        is_program(&self.executable, executable)
            && is_program(&self.parent, parent)
            && is_scope
            && is_named(&self.tenant, &[tenant])
            && is_named(&self.account, &account)
            && is_named(&self.client_id, &[client_id])
            && is_time()
    }
}

#[cfg(test)]
pub(super) fn have_every_word(rules: &[Rule]) -> bool {
    let some = |has: fn(&Rule) -> bool| rules.iter().any(has);
    [
        some(|rule| rule.name.is_some()),
        some(|rule| rule.executable.is_some()),
        some(|rule| rule.parent.is_some()),
        some(|rule| rule.scope.is_some()),
        some(|rule| rule.tenant.is_some()),
        some(|rule| rule.account.is_some()),
        some(|rule| rule.client_id.is_some()),
        some(|rule| rule.days.is_some()),
        some(|rule| rule.hours.is_some()),
    ]
    .iter()
    .all(|has| *has)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the rule {name:?} (line {})", self.line),
            None => write!(f, "the rule in line {}", self.line),
        }
    }
}

/// The names by which a scope may be meant: itself without `/.default` and the slashes before it, and
/// the resource before its last part: `https://graph.microsoft.com/User.Read` is of
/// `https://graph.microsoft.com`.
pub(crate) fn names_of(scope: &str) -> impl Iterator<Item = &str> {
    let itself = scope.strip_suffix(DEFAULT).unwrap_or(scope).trim_end_matches('/');
    let resource = itself.rsplit_once('/').map(|(before, _)| before.trim_end_matches('/'));
    [itself].into_iter().chain(resource)
}

/// What the tenant of a request is called in rules: `organizations` and the like mean the account's
/// own, which is the end of its id.
pub(crate) fn named_tenant<'a>(tenant: &'a TenantId, home_account_id: &'a str) -> &'a str {
    match home_account_id.rsplit_once('.') {
        Some((_, home)) if tenant.is_placeholder() => home,
        _ => tenant.as_str(),
    }
}

fn covers(pattern: &Glob, scope: &str) -> bool {
    if pattern.as_str() == "*" {
        return true;
    }
    let wanted = names_of(pattern.as_str()).next().unwrap_or_default();
    // All of a resource's scopes are the resource, whose name has no last part.
    let wanted = wanted.strip_suffix("/*").unwrap_or(wanted);
    let wanted = Glob::try_from(wanted.to_owned());
    wanted.is_ok_and(|wanted| names_of(scope).any(|name| wanted.is_in_any_case(name)))
}

/// An absolute path, a pattern of some, or `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Glob")]
struct Program(Glob);

impl TryFrom<Glob> for Program {
    type Error = String;

    fn try_from(glob: Glob) -> Result<Self, String> {
        let text = glob.as_str();
        if text.starts_with('/') || text.starts_with("**") || text == UNKNOWN || is_windows_path(text) {
            return Ok(Self(glob));
        }
        Err(format!("{text:?} is no absolute path, no pattern of some (**/NAME), and not {UNKNOWN:?}"))
    }
}

fn is_windows_path(text: &str) -> bool {
    cfg!(windows) && text.as_bytes().get(1) == Some(&b':')
}

impl Program {
    /// What lets in wants to be sure.
    fn is(&self, subject: Subject<'_>, has_to_be_certain: bool) -> bool {
        match subject.path {
            None => self.0.as_str() == UNKNOWN,
            Some(_) if has_to_be_certain && !subject.is_certain => false,
            Some(path) => self.0.is(path.as_os_str().as_encoded_bytes()),
        }
    }
}

/// A value or a list of some.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor(std::marker::PhantomData))
    }
}

struct OneOrMoreVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| OneOrMore(vec![one]))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
        }
        if all.is_empty() {
            return Err(serde::de::Error::custom(
                "an empty list fits nothing; leave it out to fit everything",
            ));
        }
        Ok(OneOrMore(all))
    }
}
