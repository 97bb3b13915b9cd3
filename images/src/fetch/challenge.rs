//! `WWW-Authenticate`: how a registry wants to be logged in to (RFC 9110, section 11; the distribution project's token
//! specification).

use std::collections::BTreeMap;

/// Parameters of one challenge.
const PARAMETERS_MAX: usize = 32;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads the values of all `WWW-Authenticate` headers; of several challenges a token comes before a password.
pub(super) fn read<'v>(values: impl Iterator<Item = &'v str>) -> Option<Challenge> {
    let all: Vec<Challenge> = values.flat_map(challenges).collect();
    all.iter().find(|found| matches!(found, Challenge::Bearer { .. })).or(all.first()).cloned()
}

fn challenges(value: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = rest[..end].to_ascii_lowercase();
        let (parameters, behind) = parameters(rest[end..].trim_start());
        rest = behind;
        let given = |name: &str| parameters.get(name).cloned();
        match scheme.as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                if let Some(realm) = given("realm") {
                    found.push(Challenge::Bearer { realm, service: given("service"), scope: given("scope") });
                }
            }
            _ => {}
        }
    }
    found
}

/// Reads `name="value", name=value`; stops before the next scheme, which is a word without `=`.
fn parameters(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.trim();
        if name.is_empty() || name.contains([' ', ',', '"']) || found.len() >= PARAMETERS_MAX {
            break;
        }
        let (value, behind) = match behind.trim_start().strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let behind = behind.trim_start();
                let end = behind.find([',', ' ']).unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        found.insert(name.to_ascii_lowercase(), value);
        rest = behind.trim_start_matches([' ', ',', '\t']);
    }
    // Whatever comes next begins with a scheme; without progress there would be no end.
    (found, if rest.len() < text.len() || text.is_empty() { rest } else { "" })
}

/// Reads to the closing quote; `\x` stands for `x`.
fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
        };
        for (value, expected) in [
            ("Basic realm=\"Registry Realm\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull\"",
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull"),
                ),
            ),
            ("Bearer realm=https://h/t , service=s", bearer("https://h/t", Some("s"), None)),
            ("Bearer realm=\"a\\\"b\"", bearer("a\"b", None, None)),
            ("Negotiate, Basic realm=\"x\"", Some(Challenge::Basic)),
            ("Basic realm=\"x\", Bearer realm=\"https://h\"", bearer("https://h", None, None)),
            ("Bearer service=\"x\"", None),
            ("Digest realm=\"x\", qop=\"auth\"", None),
            ("", None),
            ("=,=,=\"", None),
            ("Bearer realm=\"unfinished", bearer("unfinished", None, None)),
        ] {
            assert_eq!(read([value].into_iter()), expected, "{value}");
        }
    }
}
