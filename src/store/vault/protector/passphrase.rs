//! A passphrase, stretched by Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::ProtectorError;

use super::super::keys::SecretKey;
use super::{Protector, ProtectorKind, SlotContext, Wrapped};
use super::{damaged, from_hex, parameters, random_hex, unwrap_with, wrap_with};

/// Below 8 MiB guessing is cheap; above 1 GiB a damaged or hostile file takes all memory.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 8 * 1024..=1024 * 1024;
/// Sixteen passes over a gibibyte take about ten seconds.
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// What a guess costs: time and memory, written beside each wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassphraseCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl PassphraseCost {
    /// The cheapest that is taken, for tests.
    pub const LOWEST: Self = Self { memory_kib: *MEMORY_KIB.start(), passes: 1, lanes: 1 };

    fn check(self) -> Result<Params, ProtectorError> {
        let Self { memory_kib, passes, lanes } = self;
        if !MEMORY_KIB.contains(&memory_kib)
            || !(1..=MOST_PASSES).contains(&passes)
            || !(1..=MOST_LANES).contains(&lanes)
        {
            return Err(damaged(&format!(
                "a passphrase cost of {memory_kib} KiB, {passes} passes, {lanes} lanes is out of bounds"
            )));
        }
        Params::new(memory_kib, passes, lanes, Some(32)).map_err(|error| damaged(&error.to_string()))
    }
}

/// RFC 9106, section 4, the second recommendation: 64 MiB, three passes, four lanes.
impl Default for PassphraseCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// A passphrase that somebody gave.
#[derive(Clone, Debug)]
pub struct Passphrase {
    text: SecretString,
    cost: PassphraseCost,
}

impl Passphrase {
    /// Takes the text as it is: neither trimmed nor normalised.
    #[must_use]
    pub fn new(text: SecretString) -> Self {
        Self { text, cost: PassphraseCost::default() }
    }

    /// Uses another cost for what it wraps from now on.
    #[must_use]
    pub const fn cost(mut self, cost: PassphraseCost) -> Self {
        self.cost = cost;
        self
    }

    fn stretch(&self, parameters: &Parameters) -> Result<SecretKey, ProtectorError> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters.cost.check()?);
        let salt = from_hex(&parameters.salt)?;
        let mut stretched = Ok(());
        let key = SecretKey::filled_by(|key| {
            stretched = argon2.hash_password_into(self.text.expose_secret().as_bytes(), &salt, key);
        });
        stretched.map(|()| key).map_err(|error| damaged(&error.to_string()))
    }
}

impl Protector for Passphrase {
    fn kind(&self) -> ProtectorKind {
        ProtectorKind::Passphrase
    }

    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError> {
        let parameters = Parameters { kdf: Kdf::Argon2id, salt: random_hex(), cost: self.cost };
        let wrapping = self.stretch(&parameters)?;
        Ok(wrap_with(&wrapping, key, self.kind(), &parameters, slot))
    }

    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError> {
        let wrapping = self.stretch(&parameters(wrapped)?)?;
        unwrap_with(&wrapping, self.kind(), wrapped, slot)
            .ok_or(ProtectorError::WrongSecret { what: "passphrase" })
    }
}

#[derive(Serialize, Deserialize)]
struct Parameters {
    kdf: Kdf,
    salt: String,
    cost: PassphraseCost,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kdf {
    Argon2id,
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    fn cheap(text: &str) -> Passphrase {
        Passphrase::new(SecretString::from(text)).cost(PassphraseCost::LOWEST)
    }

    #[test]
    fn only_the_same_passphrase_unwraps() {
        let wrapped = round_trip(&cheap("correct horse"));
        let slot = SlotContext { vault_id: &[1; 16] };
        let wrong = cheap("Correct horse").unwrap(&wrapped, &slot).unwrap_err();
        assert_eq!(wrong.to_string(), "wrong passphrase");
    }

    #[test]
    fn the_default_cost_is_rfc_9106s_second_recommendation() {
        let PassphraseCost { memory_kib, passes, lanes } = PassphraseCost::default();
        assert_eq!((memory_kib, passes, lanes), (64 * 1024, 3, 4));
    }

    #[test]
    fn absurd_costs_are_refused_before_any_memory_is_taken() {
        let slot = SlotContext { vault_id: &[1; 16] };
        for (memory, passes, lanes) in
            [(8191, 3, 4), (u32::MAX, 3, 4), (65536, 0, 4), (65536, 17, 4), (65536, 3, 0), (65536, 3, 17)]
        {
            let parameters = format!(
                r#"{{"kdf":"argon2id","salt":"{}","cost":{{"memory_kib":{memory},"passes":{passes},"lanes":{lanes}}}}}"#,
                "00".repeat(16)
            );
            let wrapped = Wrapped { parameters, sealed: vec![0; 60] };
            let error = cheap("x").unwrap(&wrapped, &slot).unwrap_err();
            assert!(matches!(error, ProtectorError::Damaged { .. }), "{memory} {passes} {lanes}");
        }
    }
}
