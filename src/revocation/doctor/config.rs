//! The user's `config.toml`: whether an agent and a front door would go by it.

use super::Finding;
use super::catalogue as sign;
use crate::config::{ConfigError, ConfigFile};

pub(super) fn finding(file: &ConfigFile) -> Option<Finding> {
    let error = file.read().err()?;
    let (sign, detail) = match &error {
        ConfigError::Foreign { .. } => (&sign::CONFIG_FOREIGN, error.to_string()),
        ConfigError::Invalid { mistake, .. } if mistake.is_unknown_word() => {
            (&sign::CONFIG_UNKNOWN_WORD, mistake.to_string())
        }
        ConfigError::Invalid { mistake, .. } => (&sign::CONFIG_MALFORMED, mistake.to_string()),
        ConfigError::Io { .. } => (&sign::CONFIG_UNREADABLE, error.to_string()),
        ConfigError::NotAFile { .. } | ConfigError::TooLarge { .. } => {
            (&sign::CONFIG_NO_FILE, error.to_string())
        }
        ConfigError::Open { .. } => (&sign::CONFIG_OPEN, error.to_string()),
    };
    Some(Finding::new(sign, file.path().display().to_string()).detail(detail).fix(error.hint()))
}
