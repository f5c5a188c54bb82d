//! The keys of entries we add: what Python computes for them, so that it can change and delete
//! them, and what every other language accepts (spec S-C 1.4). Nothing is looked up by them.

pub(super) fn access_token(
    home_account_id: &str,
    environment: &str,
    client_id: &str,
    realm: &str,
    target: &str,
) -> String {
    format!("{home_account_id}-{environment}-accesstoken-{client_id}-{realm}-{target}").to_lowercase()
}

/// By client also for a family's token, and with an empty target: the one form all five accept.
pub(super) fn refresh_token(home_account_id: &str, environment: &str, client_id: &str) -> String {
    format!("{home_account_id}-{environment}-refreshtoken-{client_id}--").to_lowercase()
}

pub(super) fn id_token(home_account_id: &str, environment: &str, client_id: &str, realm: &str) -> String {
    format!("{home_account_id}-{environment}-idtoken-{client_id}-{realm}-").to_lowercase()
}

pub(super) fn account(home_account_id: &str, environment: &str, realm: &str) -> String {
    format!("{home_account_id}-{environment}-{realm}").to_lowercase()
}

/// Not lowercased, as Python's is not.
pub(super) fn app_metadata(environment: &str, client_id: &str) -> String {
    format!("appmetadata-{environment}-{client_id}")
}
