//! Refusals in Entra's shape, and the table of AADSTS numbers with their usual error and suberror.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::http::{Call, Reply};

/// A refusal of the token, device code or authorize endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) codes: Vec<u32>,
    /// Without the `AADSTSnnnnn: ` in front and the trace behind; both are added when it is sent.
    pub(crate) description: Option<String>,
    pub(crate) suberror: Option<String>,
    pub(crate) claims: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Refusal {
    /// The refusal that Entra usually sends with this number.
    pub(crate) fn aadsts(code: u32) -> Self {
        let row = TABLE.iter().find(|row| row.0 == code);
        let (_, error, suberror, description) =
            row.copied().unwrap_or((code, "invalid_grant", "", "The request was refused."));
        Self {
            status: usual_status(error),
            error: error.into(),
            codes: vec![code],
            description: Some(description.into()),
            suberror: (!suberror.is_empty()).then(|| suberror.into()),
            claims: asks_for_claims(code).then(|| DEFAULT_CLAIMS.into()),
            headers: Vec::new(),
        }
    }

    /// An OAuth error alone: no number, no suberror, no text.
    pub(crate) fn bare(error: &str) -> Self {
        Self {
            status: usual_status(error),
            error: error.into(),
            codes: Vec::new(),
            description: None,
            suberror: None,
            claims: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::aadsts(900144)
            .described(format!("The request body must contain the following parameter: '{name}'."))
    }

    pub(crate) fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    pub(crate) fn with_suberror(mut self, suberror: &str) -> Self {
        self.suberror = Some(suberror.into());
        self
    }

    pub(crate) fn with_claims(mut self, claims: &str) -> Self {
        self.claims = Some(claims.into());
        self
    }

    /// `error_description` as Entra composes it.
    pub(crate) fn full_description(&self, call: &Call, trace: &str, correlation: &str) -> String {
        let number = self.codes.first().map_or(String::new(), |code| format!("AADSTS{code}: "));
        let text = self.description.as_deref().unwrap_or("Request refused.");
        format!(
            "{number}{text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {}",
            call.now.spaced()
        )
    }

    pub(crate) fn to_reply(&self, call: &Call) -> Reply {
        let trace = Uuid::new_v4().to_string();
        let correlation = correlation_id(call);
        let mut body = Map::new();
        body.insert("error".into(), json!(self.error));
        if self.description.is_some() || !self.codes.is_empty() {
            body.insert("error_description".into(), json!(self.full_description(call, &trace, &correlation)));
            body.insert("error_codes".into(), json!(self.codes));
            body.insert("timestamp".into(), json!(call.now.spaced()));
            body.insert("trace_id".into(), json!(trace));
            body.insert("correlation_id".into(), json!(correlation));
            if let Some(code) = self.codes.first() {
                let uri = format!("https://{}/error?code={code}", call.host);
                body.insert("error_uri".into(), json!(uri));
            }
        }
        if let Some(suberror) = &self.suberror {
            body.insert("suberror".into(), json!(suberror));
        }
        if let Some(claims) = &self.claims {
            body.insert("claims".into(), json!(claims));
        }
        let code = self.codes.first().copied();
        let mut reply = Reply::json(self.status, &Value::Object(body))
            .with_header("x-ms-clitelem", &format!("1,{},0,,", code.unwrap_or_default()));
        reply.headers.extend(self.headers.iter().cloned());
        reply.code = code;
        reply.error = Some(self.error.clone());
        reply
    }
}

/// The client's own id for this request, or a new one.
pub(crate) fn correlation_id(call: &Call) -> String {
    call.header("client-request-id")
        .or_else(|| call.param("client-request-id"))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// What a Conditional Access refusal asks for when the script names no claims of its own.
pub(crate) const DEFAULT_CLAIMS: &str =
    r#"{"access_token":{"capolids":{"essential":true,"values":["5a5a5a5a-0000-4000-8000-00000000ca01"]}}}"#;

fn asks_for_claims(code: u32) -> bool {
    matches!(code, 50072 | 50074 | 50076 | 50078 | 50079 | 50097 | 50158 | 53000 | 53001 | 53003)
}

fn usual_status(error: &str) -> u16 {
    match error {
        "invalid_client" => 401,
        "temporarily_unavailable" => 503,
        "server_error" => 500,
        _ => 400,
    }
}

/// Number, error, suberror (empty: none), text. Numbers and pairing: spec S-B 7.2.
#[rustfmt::skip]
const TABLE: &[(u32, &str, &str, &str)] = &[
    (16000, "interaction_required", "", "Either multiple user identities are available for the current request or selected account is not supported for the scenario."),
    (28000, "invalid_scope", "", "Provided value for the input parameter scope is not valid because it contains more than one resource."),
    (50011, "invalid_request", "", "The redirect URI specified in the request does not match the redirect URIs configured for the application."),
    (50020, "invalid_grant", "", "User account '{EmailHidden}' from identity provider does not exist in tenant and cannot access the application in that tenant. The account needs to be added as an external user in the tenant first."),
    (50034, "invalid_grant", "bad_token", "The user account {EmailHidden} does not exist in the directory. To sign into this application, the account must be added to the directory."),
    (50049, "invalid_instance", "", "Unknown or invalid instance."),
    (50053, "invalid_grant", "", "The account is locked, you've tried to sign in too many times with an incorrect user ID or password."),
    (50055, "invalid_grant", "user_password_expired", "The password is expired."),
    (50057, "invalid_grant", "bad_token", "The user account is disabled."),
    (50058, "login_required", "", "A silent sign-in request was sent but no user is signed in."),
    (50072, "interaction_required", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access the resource."),
    (50074, "interaction_required", "basic_action", "Strong Authentication is required."),
    (50076, "invalid_grant", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource."),
    (50078, "invalid_grant", "basic_action", "Presented multi-factor authentication has expired due to policies configured by your administrator, you must refresh your multi-factor authentication to access the resource."),
    (50079, "invalid_grant", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access the resource."),
    (50085, "invalid_grant", "", "Refresh token needs social IDP login. Have user try signing-in again with username and password."),
    (50089, "invalid_grant", "", "Authentication failed due to flow token expired."),
    (50097, "interaction_required", "", "Device authentication is required."),
    (50105, "interaction_required", "", "Your administrator has configured the application to block users unless they are specifically granted access to the application."),
    (50126, "invalid_grant", "", "Error validating credentials due to invalid username or password."),
    (50132, "invalid_grant", "bad_token", "The session is not valid due to password expiration or recent password change."),
    (50133, "invalid_grant", "bad_token", "Session is invalid due to expiration or recent password change."),
    (50148, "invalid_grant", "", "The code_verifier does not match the code_challenge supplied in the authorization request for PKCE."),
    (50155, "invalid_grant", "device_authentication_failed", "Device authentication failed for this user."),
    (50158, "invalid_grant", "basic_action", "External security challenge not satisfied. User will be redirected to another page or authentication provider to satisfy additional authentication challenges."),
    (50173, "invalid_grant", "bad_token", "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password."),
    (50196, "invalid_grant", "", "The server terminated an operation because it encountered a client request loop. Please contact your app vendor."),
    (53000, "invalid_grant", "message_only", "Device is not in required device state: non-compliant. Conditional Access policy requires a compliant device, and the device is not compliant."),
    (53001, "invalid_grant", "message_only", "Device is not in required device state: not domain joined. Conditional Access policy requires a domain joined device, and the device is not domain joined."),
    (53003, "invalid_grant", "message_only", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."),
    (54005, "invalid_grant", "", "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."),
    (65001, "invalid_grant", "consent_required", "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource."),
    (65004, "access_denied", "", "User declined to consent to access the app."),
    (70000, "invalid_grant", "bad_token", "Provided grant is invalid or malformed."),
    (70002, "invalid_client", "", "Error validating credentials."),
    (70003, "unsupported_grant_type", "", "The app requested an unsupported grant type."),
    (70008, "invalid_grant", "token_expired", "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."),
    (70011, "invalid_scope", "", "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid."),
    (70016, "authorization_pending", "", "OAuth 2.0 device flow error. Authorization is pending. Continue polling."),
    (70018, "bad_verification_code", "", "The provided value for the input parameter 'device_code' is not valid."),
    (70019, "expired_token", "", "Verification code expired. Have the user retry the sign-in."),
    (70043, "invalid_grant", "token_expired", "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access."),
    (70044, "invalid_grant", "token_expired", "The session has expired or is invalid due to sign-in frequency checks by conditional access."),
    (90002, "invalid_request", "", "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."),
    (90033, "temporarily_unavailable", "", "A transient error has occurred. Please try again."),
    (90094, "invalid_grant", "consent_required", "Administrator consent is required. The app needs permissions to access resources in your organization that only an admin can grant."),
    (90120, "invalid_grant", "", "The request was already authorized or declined."),
    (500011, "invalid_resource", "", "The resource principal was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."),
    (500112, "invalid_client", "", "The reply address does not match the reply address provided when requesting Authorization code."),
    (501481, "invalid_grant", "", "The Code_Verifier does not match the code_challenge supplied in the authorization request."),
    (700016, "unauthorized_client", "", "Application was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."),
    (700025, "invalid_client", "", "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."),
    (700082, "invalid_grant", "bad_token", "The refresh token has expired due to inactivity."),
    (700084, "invalid_grant", "token_expired", "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which cannot be extended. It is now expired and a new sign in request must be sent by the SPA to the sign in page."),
    (700054, "unsupported_response_type", "", "response_type 'id_token' is not enabled for the application."),
    (900144, "invalid_request", "", "The request body must contain the required parameter."),
    (7000112, "unauthorized_client", "", "Application is disabled."),
    (7000215, "invalid_client", "", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID."),
    (7000218, "invalid_client", "", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    (9002313, "invalid_grant", "", "Invalid request. Request is malformed or invalid."),
];
