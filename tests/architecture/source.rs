//! Rust source as the checks see it: comments and texts blanked out, tests cut off. No parser: what the checks look for
//! are words and braces.

use std::path::Path;

/// One source file.
pub struct Source {
    /// Relative to the workspace, with slashes.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// The same length in lines, with comments and the content of texts replaced by blanks, without test modules.
    pub code: String,
}

impl Source {
    /// From a path and its content.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: before_tests(&blank(text)).to_owned() }
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Lines of code before the tests.
    pub fn length(&self) -> usize {
        self.code.lines().count()
    }

    /// A line of code, counted from 1.
    pub fn line(&self, number: usize) -> &str {
        self.code.lines().nth(number - 1).unwrap_or_default()
    }

    /// The name of the crate, by its directory.
    pub fn crate_name(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The module path below `src`, without `mod`, `lib` and `main`: `["sandbox", "child"]`.
    pub fn module(&self) -> Vec<&str> {
        let Some((_, below)) = self.path.split_once("/src/") else { return Vec::new() };
        let stem = below.trim_end_matches(".rs");
        stem.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).collect()
    }

    /// Lines (from 1) that contain a word of `words` standing by itself.
    pub fn lines_with<'w>(&self, words: &[&'w str]) -> Vec<(usize, &'w str)> {
        let mut found = Vec::new();
        for (index, line) in self.code.lines().enumerate() {
            found
                .extend(words.iter().filter(|word| contains_word(line, word)).map(|word| (index + 1, *word)));
        }
        found
    }

    /// Functions: line of the name, name, lines from there to the closing brace.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = find_word(&self.code, "fn", from) {
            from = at + 2;
            let rest = self.code[from..].trim_start();
            let name: String = rest.chars().take_while(|letter| is_word(*letter)).collect();
            if let Some(end) = body_end(&self.code, from).filter(|_| !name.is_empty()) {
                let line = self.code[..at].matches('\n').count() + 1;
                found.push((line, name, self.code[at..end].matches('\n').count() + 1));
            }
        }
        found
    }

    /// What this file names of its own crate, as paths from the crate's root: behind `crate::`, or behind enough `super::`.
    pub fn paths_used(&self) -> Vec<(usize, String)> {
        let to_the_root = "super::".repeat(self.module().len());
        let mut found = Vec::new();
        for prefix in ["crate::", to_the_root.as_str()].into_iter().filter(|prefix| !prefix.is_empty()) {
            let mut from = 0;
            while let Some(at) = self.code[from..].find(prefix).map(|at| at + from) {
                from = at + prefix.len();
                let continues = self.code[..at].ends_with(|letter| is_word(letter) || letter == ':');
                if !continues {
                    let line = self.code[..at].matches('\n').count() + 1;
                    found.extend(use_tree(&self.code[from..]).into_iter().map(|path| (line, path)));
                }
            }
        }
        found
    }
}

/// The paths at the start of a text: `a::b` gives `a::b`; `a::{b::{c}, d}` gives `a::b::c` and `a::d`.
fn use_tree(text: &str) -> Vec<String> {
    let head: String = text.chars().take_while(|letter| is_word(*letter) || *letter == ':').collect();
    let Some(group) = text[head.len()..].strip_prefix('{') else {
        return Some(head.trim_end_matches(':').to_owned())
            .filter(|path| !path.is_empty())
            .into_iter()
            .collect();
    };
    branches(group).into_iter().flat_map(use_tree).map(|path| format!("{head}{path}")).collect()
}

/// The parts of a group, which ends at its closing brace.
fn branches(group: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                found.push(group[start..at].trim());
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether `word` stands in the line with no word's letter before it or, if it ends in a letter, after it.
pub fn contains_word(line: &str, word: &str) -> bool {
    find_word(line, word, 0).is_some()
}

fn find_word(text: &str, word: &str, mut from: usize) -> Option<usize> {
    let starts_with_letter = word.chars().next().is_some_and(is_word);
    let ends_with_letter = word.chars().next_back().is_some_and(is_word);
    while let Some(at) = text[from..].find(word).map(|at| at + from) {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + word.len()..].chars().next().is_some_and(is_word);
        if !(before && starts_with_letter || after && ends_with_letter) {
            return Some(at);
        }
        from = at + word.len();
    }
    None
}

/// The end of the braces that open behind `from`; `None` for a function without a body.
fn body_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (at, letter) in code[from..].char_indices() {
        match letter {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            // The `;` of an array type stands in brackets.
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' if depth == 1 => return Some(from + at + 1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Everything before the first `#[cfg(test)]` that stands at the start of a line and opens a module here.
fn before_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]\n").map(|at| at + from) {
        let starts_line = at == 0 || code[..at].ends_with('\n');
        let item = code[at..].lines().nth(1).unwrap_or_default();
        if starts_line && item.starts_with("mod ") && item.trim_end().ends_with('{') {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// Blanks out comments and what stands in quotation marks; line ends stay.
fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let length = comment(&letters[at..])
            .or_else(|| raw_text(&letters, at))
            .or_else(|| quoted(&letters[at..], '"'))
            .or_else(|| letter_literal(&letters[at..]));
        match length {
            Some(length) => {
                out.extend(
                    letters[at..at + length].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }),
                );
                at += length;
            }
            None => {
                out.push(letters[at]);
                at += 1;
            }
        }
    }
    out
}

fn comment(letters: &[char]) -> Option<usize> {
    match letters {
        ['/', '/', ..] => Some(letters.iter().position(|letter| *letter == '\n').unwrap_or(letters.len())),
        ['/', '*', ..] => {
            let mut depth = 0;
            let mut at = 0;
            while at < letters.len() {
                match letters[at..] {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
            Some(at)
        }
        _ => None,
    }
}

/// `r"..."`, `r#"..."#`, also behind `b` and `c`.
fn raw_text(letters: &[char], at: usize) -> Option<usize> {
    let is_start = at == 0
        || !is_word(letters[at - 1])
        || (['b', 'c'].contains(&letters[at - 1]) && (at < 2 || !is_word(letters[at - 2])));
    if letters[at] != 'r' || !is_start {
        return None;
    }
    let hashes = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
    let open = at + 1 + hashes;
    (letters.get(open) == Some(&'"')).then_some(())?;
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = letters[open + 1..].windows(closing.len()).position(|window| window == closing)?;
    Some(open + 1 + end + closing.len() - at)
}

fn quoted(letters: &[char], mark: char) -> Option<usize> {
    (letters.first() == Some(&mark)).then_some(())?;
    let mut at = 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            letter if letter == mark => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(letters.len())
}

/// `'x'` and `'\n'`, not the lifetime `'x`.
fn letter_literal(letters: &[char]) -> Option<usize> {
    match letters {
        ['\'', '\\', ..] => quoted(letters, '\''),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

/// All Rust files of the workspace.
pub fn all(workspace: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for place in ["jobs/src", "images/src", "runner/src", "fixtures/src", "tests", "benches"] {
        for path in files_below(&workspace.join(place)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let relative =
                    path.strip_prefix(workspace).expect("it was found below").display().to_string();
                found.push(Source::new(
                    &relative,
                    &std::fs::read_to_string(&path).expect("sources are UTF-8"),
                ));
            }
        }
    }
    assert!(found.len() > 20, "the workspace's files were not found below {}", workspace.display());
    found
}

/// All regular files below a directory.
pub fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type().expect("the entry was just listed") {
                kind if kind.is_dir() => directories.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn comments_and_texts_are_no_code() {
    let text = "let a = \"unsafe { \\\" }\"; // unsafe\n/* fn /* nested */ fn */ let b = r#\"fn \"quoted\" \"#; let c: &'static str = f('{', '\\'');\n";
    let code = Source::new("runner/src/a.rs", text).code;
    assert!(!code.contains("unsafe") && !code.contains("fn") && !code.contains('{'), "{code}");
    assert!(
        code.contains("let b =") && code.contains("&'static str") && code.matches('\n').count() == 2,
        "{code}"
    );
}

#[test]
fn functions_are_measured() {
    let text = "trait T { fn without(&self) -> [u8; 2]; }\nfn one() { 1; }\nfn three(\n) where A: B {\n}\n";
    let expected = [(2, "one".to_owned(), 1), (3, "three".to_owned(), 3)];
    assert_eq!(Source::new("runner/src/a.rs", text).functions(), expected);
}

#[test]
fn rooms_are_found_in_every_spelling() {
    let used = |path: &str, text: &str| -> Vec<String> {
        Source::new(path, text).paths_used().into_iter().map(|(_, path)| path).collect()
    };
    assert_eq!(used("runner/src/sandbox/child.rs", "use crate::sys::clone;"), ["sys::clone"]);
    let group = "use crate::{sys::{a, b::{c, d}},\n    event,\n outcome::Outcome,\n};";
    let expected = ["sys::a", "sys::b::c", "sys::b::d", "event", "outcome::Outcome"];
    assert_eq!(used("runner/src/run/mod.rs", group), expected);
    assert_eq!(used("runner/src/sandbox/child.rs", "use super::spec::Spec; use super::super::sys;"), ["sys"]);
    assert_eq!(used("runner/src/overlay.rs", "fn f() { super::sys::mount() }"), ["sys::mount"]);
}

#[test]
fn test_modules_are_cut_off() {
    let text = "#[cfg(test)]\nmod tests;\nfn kept() {}\n#[cfg(test)]\nmod tests {\n    fn cut() {}\n}\n";
    let names: Vec<String> =
        Source::new("runner/src/a.rs", text).functions().into_iter().map(|found| found.1).collect();
    assert_eq!(names, ["kept"]);
}
