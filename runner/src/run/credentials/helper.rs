//! Credential helpers: programs named `docker-credential-NAME` that know logins (docker-credential-helpers' protocol).
//!
//! Started without a shell, told the registry on standard input, given a time, and read up to a limit.

use std::process::Command;
use std::time::Duration;

use images::Credential;
use serde::Deserialize;

use crate::run::program::{Bounds, run};

/// How long a helper may take; some ask a key ring that has to be unlocked.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of a helper's answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a helper's name.
const NAME_BYTES_MAX: usize = 64;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper for a registry's login.
pub(super) fn get(name: &str, registry: &str) -> Result<Option<Credential>, String> {
    get_within(name, registry, TIME_MAX)
}

fn get_within(name: &str, registry: &str, time: Duration) -> Result<Option<Credential>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!("{name:?} cannot be the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |what: &dyn std::fmt::Display| format!("the credential helper {program}: {what}");
    let bounds = Bounds { time, bytes: ANSWER_BYTES_MAX };
    let said = run(Command::new(&program).arg("get"), registry.as_bytes(), bounds)
        .map_err(|error| failed(&error))?;
    let answer = said.out;
    if !said.status.success() {
        let words = String::from_utf8_lossy(&answer);
        // What docker's own helpers say, and docker looks for.
        if words.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(&format_args!("it ended with {}", said.status)));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| failed(&"its answer is not understood"))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credential::IdentityToken(answer.secret),
        _ => Credential::Password { user: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_paths() {
        for name in ["", "../x", "a/b", "a b", "a;b", &"a".repeat(65)] {
            assert!(get(name, "r.example").unwrap_err().contains("cannot be the name"), "{name}");
        }
        assert!(
            get("no-such-helper-here", "r.example")
                .unwrap_err()
                .contains("docker-credential-no-such-helper-here")
        );
    }
}
