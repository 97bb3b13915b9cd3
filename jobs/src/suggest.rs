//! "Did you mean": the nearest of the words that exist, or the word that other systems have for it.

/// Longest word that is compared; anything longer is no typing error.
const WORD_CHARS_MAX: usize = 40;

/// What other CI systems call our keys.
const FOREIGN: &[(&str, &str)] = &[
    ("allow_failure", "continue-on-error"),
    ("before_script", "steps"),
    ("cmd", "run"),
    ("command", "run"),
    ("condition", "if"),
    ("container", "image"),
    ("cwd", "workdir"),
    ("depends-on", "needs"),
    ("depends_on", "needs"),
    ("dependencies", "needs"),
    ("dir", "workdir"),
    ("environment", "env"),
    ("exit-code", "expect-exit"),
    ("github", "git"),
    ("inputs", "params"),
    ("mem", "memory"),
    ("only", "if"),
    ("parameters", "params"),
    ("rules", "if"),
    ("runs-on", "image"),
    ("script", "run"),
    ("script", "steps"),
    ("stage", "needs"),
    ("strategy", "matrix"),
    ("timeout-minutes", "timeout"),
    ("variables", "env"),
    ("unless", "if"),
    ("vars", "params"),
    ("volumes", "mounts"),
    ("when", "if"),
    ("working-directory", "workdir"),
    ("working_dir", "workdir"),
];

/// Returns the candidate that was probably meant by `word`, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let normal = word.trim().to_lowercase().replace(['_', ' '], "-");
    if normal.chars().count() > WORD_CHARS_MAX {
        return None;
    }
    let foreign =
        FOREIGN.iter().filter(|(theirs, _)| *theirs == word || *theirs == normal).map(|(_, ours)| ours);
    let translated = foreign.filter_map(|ours| candidates.iter().find(|name| *name == ours)).next();
    if let Some(found) = translated {
        return Some(found);
    }
    let scored = candidates.iter().map(|name| (distance(&normal, &name.to_lowercase()), *name));
    let (edits, name) = scored.min_by_key(|(edits, _)| *edits)?;
    // A third of the letters: two words of two letters with one edit between them are two words.
    let allowed = name.chars().count().max(normal.chars().count()) / 3;
    (edits <= allowed).then_some(name)
}

/// Returns the number of insertions, deletions, substitutions and swaps of neighbours between two words
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] =
        &["run", "env", "image", "timeout", "continue-on-error", "workdir", "steps", "name"];

    #[test]
    fn words() {
        let table = [
            ("imgae", Some("image")),
            ("Image", Some("image")),
            ("time-out", Some("timeout")),
            ("continue_on_error", Some("continue-on-error")),
            ("working-directory", Some("workdir")),
            ("script", Some("run")),
            ("step", Some("steps")),
            ("envs", Some("env")),
            ("matrix", None),
            ("needs", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, KEYS), expected, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, n) in [("", "abc", 3), ("abc", "abc", 0), ("acb", "abc", 1), ("retires", "retry", 3)] {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
    }
}
