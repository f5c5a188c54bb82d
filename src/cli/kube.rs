//! Which `ExecCredential` kubectl wants.

use serde_json::Value;

use super::settings::variable;
use crate::error::{InvalidArgument, Result};

const VARIABLE: &str = "KUBERNETES_EXEC_INFO";
/// Those that kubectl still takes; the first one if it does not say.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The version that kubectl asks for: it refuses an answer of any other.
///
/// # Errors
/// When it asks for one that is not known here.
pub(super) fn api_version() -> Result<&'static str> {
    asked(variable(VARIABLE).as_deref())
}

fn asked(info: Option<&str>) -> Result<&'static str> {
    let Some(info) = info else { return Ok(VERSIONS[0]) };
    let refuse = |problem: String| {
        InvalidArgument::new(
            VARIABLE,
            problem,
            format!("write into the kubeconfig: apiVersion: {}", VERSIONS[0]),
        )
        .into()
    };
    let info: Value = serde_json::from_str(info).map_err(|_| refuse("it is not JSON".to_owned()))?;
    let wanted = info["apiVersion"].as_str().unwrap_or_default();
    let known = VERSIONS.into_iter().find(|version| *version == wanted);
    known.ok_or_else(|| refuse(format!("it asks for the version {wanted:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_the_version_that_it_asks_for() {
        assert_eq!(asked(None).unwrap(), VERSIONS[0]);
        for version in VERSIONS {
            let info = serde_json::json!({
                "kind": "ExecCredential", "apiVersion": version, "spec": { "interactive": false },
            });
            assert_eq!(asked(Some(&info.to_string())).unwrap(), version);
        }
        for bad in ["{", "[]", "{}", r#"{"apiVersion": "client.authentication.k8s.io/v1alpha1"}"#] {
            let error = asked(Some(bad)).unwrap_err();
            assert!(error.hint().unwrap().contains("kubeconfig"), "{error}");
        }
    }
}
