//! The words that may stand for something: ids, variables, host names, artifacts, labels.

use std::collections::HashSet;

use crate::bounds::{ARTIFACT_NAME_BYTES_MAX, HOSTNAME_BYTES_MAX, ID_BYTES_MAX, NAME_CHARS_MAX};

/// Returns whether this can be a step's id: `[a-z][a-z0-9_-]{0,62}`.
pub fn is_id(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    text.len() <= ID_BYTES_MAX && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(rest)
}

/// Returns whether this can be a variable's name: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_env_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// Returns whether this can name a param: `[A-Za-z_][A-Za-z0-9_-]{0,62}`; expressions write it after a dot.
pub fn is_param_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
    text.len() <= ID_BYTES_MAX && text.starts_with(first) && text.chars().all(rest)
}

/// Returns the variable of a param or axis: `PARAM_DRY_RUN` of `dry-run`.
pub(crate) fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Returns whether this can be a host name: labels of letters, digits and inner hyphens, with dots between
/// (RFC 1123), 63 bytes in all.
pub fn is_hostname(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    text.len() <= HOSTNAME_BYTES_MAX && text.split('.').all(label)
}

/// Returns whether this can name an artifact and its directory: letters, digits, `.`, `_` and `-`, not a dot
/// first. `manifest.json` is the name of the list beside the directories.
pub fn is_artifact_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= ARTIFACT_NAME_BYTES_MAX
        && !text.starts_with(['.', '-'])
        && text.bytes().all(good)
        && text != "manifest.json"
}

/// Returns what is wrong with a label of a run or step, if anything is.
pub(crate) fn label_fault(text: &str) -> Option<String> {
    let chars = text.chars().count();
    if text.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if chars > NAME_CHARS_MAX {
        return Some(format!("has {chars} characters; at most {NAME_CHARS_MAX} are accepted"));
    }
    text.chars().any(char::is_control).then(|| "has control characters or line breaks in it".to_owned())
}

/// Makes an id of a label: its letters and digits in lower case with single hyphens between. `None` when
/// nothing of an id remains.
pub(crate) fn slug(label: &str) -> Option<String> {
    let words = label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    if slug.starts_with(|c: char| c.is_ascii_digit()) {
        slug.insert_str(0, "step-");
    }
    slug.truncate(ID_BYTES_MAX);
    let slug = slug.trim_end_matches('-');
    is_id(slug).then(|| slug.to_owned())
}

/// Returns each step's id: its own, else its name's slug, else `step-N`; a number is added to what is taken.
pub(crate) fn step_ids(steps: &[(Option<&str>, Option<&str>)]) -> Vec<String> {
    let mut taken: HashSet<String> = steps.iter().filter_map(|(id, _)| id.map(str::to_owned)).collect();
    let id = |(at, (id, name)): (usize, &(Option<&str>, Option<&str>))| {
        if let Some(id) = id {
            return (*id).to_owned();
        }
        let base = name.and_then(slug).unwrap_or_else(|| format!("step-{}", at + 1));
        let id = free(&base, ID_BYTES_MAX, |id| taken.contains(id));
        taken.insert(id.clone());
        id
    };
    steps.iter().enumerate().map(id).collect()
}

/// Returns the base, or the base with the first number that makes it free: `test`, `test-2`, `test-3`.
pub(crate) fn free(base: &str, max: usize, taken: impl Fn(&str) -> bool) -> String {
    if !taken(base) {
        return base.to_owned();
    }
    let numbered = (2..).map(|number: u32| {
        let suffix = format!("-{number}");
        // Both kinds of names are ASCII, so any cut is between characters.
        format!("{}{suffix}", &base[..base.len().min(max - suffix.len())])
    });
    numbered.into_iter().find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test of words, words that pass, words that do not.
    type Case<'a> = (fn(&str) -> bool, &'a [&'a str], &'a [&'a str]);

    #[test]
    fn words() {
        let long = "a".repeat(64);
        let table: &[Case<'_>] = &[
            (is_id, &["a", "build-1", "x_y"], &["", "A", "1a", "-a", "a b", "ä", &long]),
            (is_env_name, &["A", "_", "a1_B"], &["", "1A", "A-B", "A=B", "É"]),
            (is_hostname, &["runner", "a.b-c.d", "1"], &["", "-a", "a-", "a..b", "a_b", "a.", &long]),
            (is_artifact_name, &["app", "a.b_c-1"], &["", ".a", "-a", "a/b", "a b", "..", "manifest.json"]),
        ];
        for (is, good, bad) in table {
            assert!(good.iter().all(|text| is(text)), "{good:?}");
            assert!(bad.iter().all(|text| !is(text)), "{bad:?}");
        }
    }

    #[test]
    fn slugs() {
        let table = [
            ("Run the tests!", Some("run-the-tests")),
            ("  --x--  ", Some("x")),
            ("2nd try", Some("step-2nd-try")),
            ("Größe", Some("gr-e")),
            ("日本", None),
        ];
        for (label, id) in table {
            assert_eq!(slug(label).as_deref(), id, "{label}");
        }
        assert_eq!(slug(&"ab ".repeat(50)).map(|slug| slug.len()), Some(62));
    }

    #[test]
    fn free_names() {
        let taken = ["a", "a-2"];
        assert_eq!(free("a", 63, |name| taken.contains(&name)), "a-3");
        assert_eq!(free("b", 63, |name| taken.contains(&name)), "b");
        assert_eq!(free("abc", 3, |name| name == "abc"), "a-2");
    }
}
