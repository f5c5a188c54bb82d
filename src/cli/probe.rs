//! `tokenkeep clear --stale --probe`: asking the provider which refresh tokens still live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::Output;
use super::runtime;
use super::settings::Settings;
use super::tools::{Problem, ToolCache};
use crate::acquire::{AccountChoice, DeadGrant, Probed, ProbedToken, probe};
use crate::cloud::{self, Authority, TenantId};
use crate::document::TokenCacheDocument;
use crate::entra::{Client, ClientOptions};
use crate::error::Error;
use crate::revocation::Known;
use crate::store::Store;
use crate::time::SystemClock;
use crate::token::Scopes;

/// Between two questions: nobody is in a hurry, and the provider counts.
const PAUSE: Duration = Duration::from_millis(250);

/// A refresh token, and every cache that holds it.
struct Question {
    account: AccountChoice,
    environment: String,
    client_id: String,
    enable_cae: bool,
    scopes: Option<Scopes>,
    secret: SecretString,
    caches: Vec<String>,
    stores: Vec<Arc<dyn Store>>,
}

/// What asking came to.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) asked: usize,
    pub(super) alive: usize,
    pub(super) dead: Vec<DeadGrant>,
    /// What the provider said nothing about, and why; and what could not be saved.
    pub(super) problems: Vec<Problem>,
}

impl Answers {
    pub(super) fn to_json(&self) -> Value {
        json!({ "asked": self.asked, "alive": self.alive, "dead": self.dead.len() })
    }
}

/// Asks about each token once, however many caches hold it. Those that are known to be dead are
/// not asked about, and neither are those of caches in which a renewed one could not be kept.
pub(super) fn ask(
    caches: &[ToolCache],
    known: &Known,
    settings: &Settings,
    output: Output,
) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    let questions = questions(caches, known, &mut answers.problems);
    let bar = output.progress(questions.len(), "asking the provider about refresh tokens");
    runtime::wait_for(async {
        for (place, question) in questions.iter().enumerate() {
            if place > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            bar.inc(1);
            if !question.put(settings, &mut answers).await {
                let left = questions.len() - place - 1;
                if left > 0 {
                    let problem = format!("{left} more refresh tokens were not asked about");
                    answers.problems.push(Problem::new("the provider", problem));
                }
                break;
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(answers)
}

fn questions(caches: &[ToolCache], known: &Known, problems: &mut Vec<Problem>) -> Vec<Question> {
    let mut questions: Vec<Question> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for ToolCache { cache, cae, read_only, .. } in caches {
        let document = &cache.document;
        let held = document.held_refresh_tokens();
        let mut unknown = held.iter().filter(|held| known.cause_of(held).is_none()).peekable();
        if let (Some(why), true) = (read_only, unknown.peek().is_some()) {
            problems.push(Problem::new(cache.name.clone(), format!("it was not asked about: {why}")));
            continue;
        }
        for held in unknown {
            let token = &held.token;
            if let Some(place) = places.get(token.secret()) {
                questions[*place].stores.push(Arc::clone(&cache.store));
                questions[*place].caches.push(cache.name.clone());
                continue;
            }
            places.insert(token.secret().to_owned(), questions.len());
            let home_account_id = token.home_account_id().to_owned();
            let username = document.accounts().into_iter().find(|a| a.home_account_id == home_account_id);
            questions.push(Question {
                scopes: scopes_of(document, &home_account_id, token.client_id()),
                account: AccountChoice {
                    username: username.map_or_else(|| home_account_id.clone(), |account| account.username),
                    home_account_id,
                    any_family_client: false,
                },
                environment: token.environment().to_owned(),
                client_id: token.client_id().to_owned(),
                enable_cae: *cae,
                secret: token.secret().into(),
                caches: vec![cache.name.clone()],
                stores: vec![Arc::clone(&cache.store)],
            });
        }
    }
    questions
}

/// What the client got for this account before: no more is asked for than it may have.
fn scopes_of(document: &TokenCacheDocument, home_account_id: &str, client_id: &str) -> Option<Scopes> {
    let entries = document.entries().into_iter().filter(|entry| {
        entry.section == "AccessToken"
            && entry.home_account_id == home_account_id
            && entry.client_id.eq_ignore_ascii_case(client_id)
    });
    entries.into_iter().find_map(|entry| Scopes::new(redeemable(&entry.target)).ok())
}

/// Of what was granted, what may be asked for together: Entra ID takes `.default` only alone.
fn redeemable(target: &str) -> Vec<&str> {
    let of_resource = target.split_ascii_whitespace().filter(|scope| scope.contains('/'));
    let (default, single): (Vec<_>, Vec<_>) = of_resource.partition(|scope| scope.ends_with("/.default"));
    if single.is_empty() { default } else { single }
}

impl Question {
    /// Whether asking on makes sense.
    async fn put(&self, settings: &Settings, answers: &mut Answers) -> bool {
        let who = format!("{} in {}", self.account.username, self.caches.join(", "));
        let problem = |error: &Error| {
            let told = Failure::Library(error.clone()).message();
            Problem::new(who.clone(), told)
        };
        let (client, scopes) = match self.client(settings) {
            Ok(found) => found,
            Err(error) => {
                answers.problems.push(problem(&error));
                return true;
            }
        };
        let home = self.account.home_account_id.rsplit_once('.').map(|(_, tenant)| tenant);
        let tenant = home.and_then(|tenant| TenantId::parse(tenant).ok());
        let tenant = tenant.unwrap_or_else(TenantId::organizations);
        let token = ProbedToken {
            account: &self.account,
            tenant: &tenant,
            scopes: &scopes,
            enable_cae: self.enable_cae,
            secret: &self.secret,
        };
        answers.asked += 1;
        match probe(&client, &token, &self.stores, &SystemClock).await {
            Probed::Alive { unsaved } => {
                answers.alive += 1;
                let unsaved = unsaved.into_iter().map(|error| problem(&error.into()));
                answers.problems.extend(unsaved);
            }
            Probed::Dead(dead) => answers.dead.push(*dead),
            Probed::Kept(error) => answers.problems.push(problem(&error)),
            Probed::Unanswered(error) => {
                answers.problems.push(problem(&error));
                return false;
            }
        }
        true
    }

    fn client(&self, settings: &Settings) -> Result<(Client, Scopes), Error> {
        let authority = if cloud::same_cloud(&self.environment, settings.authority.host()) {
            settings.authority.for_network()
        } else {
            Authority::parse(&self.environment)?.for_network()
        };
        let scopes = match &self.scopes {
            Some(scopes) => scopes.clone(),
            None => Settings::scopes(&[], &authority)?,
        };
        let client = Client::new(ClientOptions {
            authority,
            client_id: self.client_id.clone(),
            disable_instance_discovery: settings.disable_instance_discovery,
            retry_budget: Duration::ZERO,
            root_certificates: None,
        })?;
        Ok((client, scopes))
    }
}
