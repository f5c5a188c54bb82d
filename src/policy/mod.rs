//! Who may have which token: the rules that a user wrote, and what they come to. Pure: who asks, and
//! what time it is, come in from outside.

mod asking;
mod glob;
mod hours;
mod rule;

use std::path::PathBuf;

use serde::Deserialize;

use crate::error::Denied;
use crate::time::Length;

pub(crate) use self::asking::Asking;
pub(crate) use self::hours::LocalTime;
pub(crate) use self::rule::{Request, Rule, Subject, named_tenant, names_of};

/// `[policy]`: rules in order, of which the first that fits decides, and what holds if none does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) default: Action,
    pub(crate) rule: Vec<Rule>,
    ask_program: Option<asking::Program>,
    ask_timeout: Option<asking::Timeout>,
    remember: Option<Length>,
    /// The file that it was read from.
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// Why that file cannot be used, if so.
    #[serde(skip)]
    problem: Option<String>,
}

/// What becomes of a request, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    #[default]
    Allow,
    /// A person is asked, unless what they said before still holds.
    Ask,
    Deny,
}

/// What the policy says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict<'a> {
    pub(crate) action: Action,
    /// The rule that fits; `None` for the default.
    pub(crate) rule: Option<&'a Rule>,
    policy: &'a Policy,
}

impl Policy {
    /// Denies everything, and says why.
    pub(crate) fn that_allows_nothing(problem: String) -> Self {
        Self { default: Action::Deny, problem: Some(problem), ..Self::default() }
    }

    /// Whether it stands in for a file that cannot be used.
    pub(crate) const fn allows_nothing(&self) -> bool {
        self.problem.is_some()
    }

    /// Whether it is what holds without a file.
    pub(crate) fn says_nothing(&self) -> bool {
        Self { file: PathBuf::new(), ..self.clone() } == Self::default()
    }

    /// Whether every request is allowed, so that nobody needs to be looked at.
    pub(crate) fn allows_all(&self) -> bool {
        self.default == Action::Allow && self.rule.is_empty()
    }

    /// Whether each member of a rule is somewhere in it, as in the manual's example.
    #[cfg(test)]
    pub(crate) fn has_every_word(&self) -> bool {
        let asking = self.ask_program.is_some() && self.ask_timeout.is_some() && self.remember.is_some();
        asking && rule::have_every_word(&self.rule)
    }

    /// What the first rule that fits says, else the default. Of several scopes each is looked at by
    /// itself, and the strictest answer holds.
    pub(crate) fn verdict(&self, request: &Request<'_>, now: impl Fn() -> LocalTime) -> Verdict<'_> {
        let of_scope = |scope: &str| {
            let rule = self.rule.iter().find(|rule| rule.fits(request, scope, &now));
            Verdict { action: rule.map_or(self.default, Rule::action), rule, policy: self }
        };
        let verdicts = request.scopes.iter().map(|scope| of_scope(scope));
        verdicts.max_by_key(|verdict| verdict.action).unwrap_or_else(|| of_scope(""))
    }

    /// How a person is asked.
    pub(crate) fn asking(&self) -> Asking {
        Asking::new(self.ask_program.as_ref(), self.ask_timeout, self.remember)
    }
}

impl Verdict<'_> {
    /// What decided, in the words of an error.
    pub(crate) fn source(&self) -> String {
        let file = self.policy.file.display();
        if let Some(problem) = &self.policy.problem {
            return problem.clone();
        }
        match self.rule {
            Some(rule) => format!("{rule} of {file}"),
            None => format!("the default of {file}"),
        }
    }

    /// The denial of this verdict.
    pub(crate) fn denied(&self, program: &str, scopes: &str) -> Denied {
        let file = self.policy.file.display();
        let source = self.source();
        if let Some(problem) = &self.policy.problem {
            return Denied::new(
                format!("{problem}; until it is corrected {program} gets no token for {scopes}"),
                Some("correct it; the agent notices, and then serves again".to_owned()),
            );
        }
        if self.action == Action::Ask {
            return Denied::new(
                format!("{source} wants you to be asked about {program} and a token for {scopes}"),
                Some("only an agent asks; start it: tokenkeep agent start".to_owned()),
            );
        }
        Denied::new(
            format!("{source} denies {program} a token for {scopes}"),
            Some(format!("change {file}; what it says then holds at once")),
        )
    }

    /// The same as one word for logs and counters: the rule's name or line.
    pub(crate) fn short(&self) -> String {
        self.rule.map_or_else(|| "default".to_owned(), Rule::short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NOON: LocalTime = LocalTime { weekday: 2, minute: 12 * 60 };

    fn policy(text: &str) -> Policy {
        toml::from_str(text).unwrap()
    }

    fn at(path: &str) -> Subject<'_> {
        Subject { path: Some(Path::new(path)), is_certain: true }
    }

    fn request<'a>(program: &'a str, scopes: &'a [&'a str]) -> Request<'a> {
        Request {
            executable: at(program),
            parent: at("/usr/bin/bash"),
            scopes,
            tenant: "11111111-2222-3333-4444-555555555555",
            account: ["User.One@contoso.example", "u.t"],
            client_id: "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        }
    }

    fn action(policy: &Policy, request: &Request<'_>) -> Action {
        policy.verdict(request, || NOON).action
    }

    const ARM: &[&str] = &["https://management.azure.com/.default"];
    const GRAPH: &[&str] = &["https://graph.microsoft.com/User.Read"];

    #[test]
    fn without_a_rule_everything_is_allowed_and_the_first_that_fits_decides() {
        assert!(Policy::default().allows_all());
        assert_eq!(action(&Policy::default(), &request("/bin/a", ARM)), Action::Allow);
        let policy = policy(
            "default = 'deny'
            [[rule]]
            action = 'deny'
            executable = '/opt/a/*'
            scope = 'https://graph.microsoft.com'
            [[rule]]
            action = 'allow'
            executable = ['/opt/a/*', '/usr/bin/az']",
        );
        assert!(!policy.allows_all());
        for (program, scopes, expected) in [
            ("/opt/a/x", ARM, Action::Allow),
            ("/opt/a/x", GRAPH, Action::Deny),
            ("/opt/a/b/x", ARM, Action::Deny),
            ("/usr/bin/az", GRAPH, Action::Allow),
            ("/usr/bin/az2", GRAPH, Action::Deny),
        ] {
            assert_eq!(action(&policy, &request(program, scopes)), expected, "{program} {scopes:?}");
        }
    }

    #[test]
    fn one_bad_scope_among_several_denies_and_does_not_slip_through_an_allowed_one() {
        let both = &["https://graph.microsoft.com/User.Read", "https://vault.azure.net/.default"];
        let allow =
            policy("default = 'deny'\n[[rule]]\naction = 'allow'\nscope = 'https://graph.microsoft.com'");
        assert_eq!(action(&allow, &request("/a", GRAPH)), Action::Allow);
        assert_eq!(action(&allow, &request("/a", both)), Action::Deny);
        let deny = policy("[[rule]]\naction = 'deny'\nscope = 'https://vault.azure.net'");
        assert_eq!(action(&deny, &request("/a", GRAPH)), Action::Allow);
        assert_eq!(action(&deny, &request("/a", both)), Action::Deny);
        assert_eq!(action(&allow, &request("/a", &[])), Action::Deny, "nothing is no allowed scope");
    }

    #[test]
    fn somebody_is_asked_for_what_is_neither_allowed_nor_denied_by_another_scope() {
        let ask = policy(
            "[[rule]]
            action = 'ask'
            executable = '/a'
            scope = 'https://graph.microsoft.com'
            [[rule]]
            action = 'deny'
            scope = 'https://vault.azure.net'",
        );
        let both = &["https://graph.microsoft.com/User.Read", "https://vault.azure.net/.default"];
        assert_eq!(action(&ask, &request("/a", GRAPH)), Action::Ask);
        assert_eq!(action(&ask, &request("/a", ARM)), Action::Allow);
        assert_eq!(action(&ask, &request("/a", both)), Action::Deny, "a yes to one is none to the other");
        let uncertain = Subject { path: Some(Path::new("/a")), is_certain: false };
        let uncertain = Request { executable: uncertain, ..request("/a", GRAPH) };
        assert_eq!(action(&ask, &uncertain), Action::Ask, "it does not slip by");
    }

    #[test]
    fn a_scope_is_named_by_itself_by_its_resource_or_by_a_pattern() {
        for (pattern, scope, fits) in [
            ("https://graph.microsoft.com", "https://graph.microsoft.com/.default", true),
            ("https://graph.microsoft.com/", "https://graph.microsoft.com//.default", true),
            ("https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/user.read", true),
            ("https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/.default", false),
            ("https://graph.microsoft.com", "https://graph.microsoft.com.evil.example/.default", false),
            ("https://*.vault.azure.net", "https://mine.vault.azure.net/.default", true),
            ("https://*.vault.azure.net", "https://evil.example/x.vault.azure.net", false),
            ("https://graph.microsoft.com/*", "https://graph.microsoft.com/User.Read", true),
            ("https://graph.microsoft.com/*", "https://graph.microsoft.com/.default", true),
            ("https://graph.microsoft.com/*", "https://graph.microsoft.com.evil.example/.default", false),
            ("*", "https://anything/.default", true),
        ] {
            let rule = policy(&format!("default = 'deny'\n[[rule]]\naction = 'allow'\nscope = '{pattern}'"));
            let expected = if fits { Action::Allow } else { Action::Deny };
            assert_eq!(action(&rule, &request("/a", &[scope])), expected, "{pattern} {scope}");
        }
    }

    #[test]
    fn tenant_account_client_and_parent_are_compared_without_case() {
        let fits = |rule: &str| {
            let policy = policy(&format!("default = 'deny'\n[[rule]]\naction = 'allow'\n{rule}"));
            action(&policy, &request("/a", ARM)) == Action::Allow
        };
        assert!(fits("tenant = '11111111-2222-3333-4444-555555555555'"));
        assert!(!fits("tenant = 'contoso.example'"), "as who asks wrote it");
        assert!(fits("account = '*@CONTOSO.example'"));
        assert!(fits("account = 'u.t'"));
        assert!(!fits("account = 'user.two@contoso.example'"));
        assert!(fits("client_id = '04B07795-8ddb-461a-bbee-02f9e1bf7b46'"));
        assert!(!fits("client_id = 'other'"));
        assert!(fits("parent = '/usr/bin/*sh'"));
        assert!(!fits("parent = '/usr/bin/zsh'"));
    }

    #[test]
    fn a_program_that_is_not_certain_is_denied_by_its_name_but_not_allowed_by_it() {
        let uncertain =
            |path| Request { executable: Subject { path, is_certain: false }, ..request("/not/this", ARM) };
        let named = uncertain(Some(Path::new("/usr/bin/az")));
        let unknown = uncertain(None);
        let allow = policy("default = 'deny'\n[[rule]]\naction = 'allow'\nexecutable = '/usr/bin/*'");
        assert_eq!(action(&allow, &named), Action::Deny);
        let deny = policy("[[rule]]\naction = 'deny'\nexecutable = '/usr/bin/az'");
        assert_eq!(action(&deny, &named), Action::Deny);
        assert_eq!(action(&deny, &unknown), Action::Allow);
        let deny = policy("[[rule]]\naction = 'deny'\nexecutable = ['/usr/bin/az', 'unknown']");
        assert_eq!(action(&deny, &unknown), Action::Deny);
    }

    #[test]
    fn hours_and_days_are_asked_for_only_where_a_rule_has_some() {
        let office = policy(
            "default = 'deny'
            [[rule]]
            action = 'allow'
            executable = '/usr/bin/az'
            days = 'mon-fri'
            hours = '08:00-18:00'",
        );
        let never = || panic!("nobody needs to know");
        assert_eq!(office.verdict(&request("/other", ARM), never).action, Action::Deny);
        for (weekday, minute, expected) in [
            (0, 8 * 60, Action::Allow),
            (4, 17 * 60 + 59, Action::Allow),
            (4, 18 * 60, Action::Deny),
            (5, 9 * 60, Action::Deny),
        ] {
            let now = || LocalTime { weekday, minute };
            assert_eq!(office.verdict(&request("/usr/bin/az", ARM), now).action, expected);
        }
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        for bad in [
            "[[rule]]\nexecutable = '/a'",
            "[[rule]]\naction = 'maybe'",
            "[[rule]]\naction = 'allow'\nexecutable = 'az'",
            "[[rule]]\naction = 'allow'\nexecutable = []",
            "[[rule]]\naction = 'allow'\nscope = ''",
            "[[rule]]\naction = 'allow'\nexe = '/a'",
            "[[rule]]\naction = 'allow'\ndays = 'someday'",
            "[[rule]]\naction = 'allow'\nhours = '25:00-26:00'",
            "[[rule]]\naction = 'allow'\nhours = '08:00-08:00'",
            "default = 'perhaps'",
            "ask_program = 'ssh-askpass'",
            "ask_timeout = '1h'",
            "remember = 'forever'",
        ] {
            assert!(toml::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }
}
