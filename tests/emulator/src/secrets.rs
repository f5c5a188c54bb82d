//! The list of every secret that was made here or sent here, so that a test can look for them in
//! places where none may be.

use serde::Serialize;

use crate::http::Call;

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// `access_token`, `refresh_token`, `id_token`, `code`, `device_code`, `client_info`, `state`,
    /// `code_verifier`, `client_secret` or `password`.
    pub kind: &'static str,
    /// The secret itself.
    pub value: String,
}

/// All secrets, each once, in the order of first sight.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<Secret>);

impl Secrets {
    pub(crate) fn add(&mut self, kind: &'static str, value: &str) {
        if !value.is_empty() && !self.0.iter().any(|secret| secret.value == value) {
            self.0.push(Secret { kind, value: value.to_owned() });
        }
    }

    /// What a client made up or sent. Foreign refresh tokens and codes count, too.
    pub(crate) fn note(&mut self, call: &Call) {
        for kind in [
            "access_token",
            "client_secret",
            "code",
            "code_verifier",
            "device_code",
            "refresh_token",
            "state",
        ] {
            if let Some(value) = call.param(kind) {
                self.add(kind, value);
            }
        }
        if let Some(value) = call.form.get("passwd") {
            self.add("password", value);
        }
    }

    pub(crate) fn list(&self) -> &[Secret] {
        &self.0
    }
}
