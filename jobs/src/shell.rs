//! The programs that run scripts.

/// A shell: the arguments with `{0}` where the script's path goes, and the ending of the script's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shell {
    pub argv: Vec<String>,
    pub suffix: &'static str,
}

/// Stands for the script's path.
pub const SCRIPT_PLACEHOLDER: &str = "{0}";
/// Names of the known shells.
pub(crate) const SHELL_NAMES: &[&str] = &["sh", "bash", "python3"];

impl Shell {
    /// Returns a known shell.
    pub fn named(name: &str) -> Option<Shell> {
        let (argv, suffix): (&[&str], _) = match name {
            "sh" => (&["sh", "-e", SCRIPT_PLACEHOLDER], ".sh"),
            "bash" => (&["bash", "--noprofile", "--norc", "-eo", "pipefail", SCRIPT_PLACEHOLDER], ".sh"),
            "python3" => (&["python3", SCRIPT_PLACEHOLDER], ".py"),
            _ => return None,
        };
        Some(Shell { argv: argv.iter().map(|&word| word.to_owned()).collect(), suffix })
    }

    /// Returns a shell given as a list: a program first, and `{0}` exactly once after it.
    pub fn custom(argv: Vec<String>) -> Option<Shell> {
        let (program, arguments) = argv.split_first()?;
        let count: usize =
            arguments.iter().map(|argument| argument.matches(SCRIPT_PLACEHOLDER).count()).sum();
        let good = !program.is_empty() && !program.contains(SCRIPT_PLACEHOLDER) && count == 1;
        good.then_some(Shell { argv, suffix: "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_shells_have_one_script() {
        let shell = |words: &[&str]| Shell::custom(words.iter().map(|&word| word.to_owned()).collect());
        assert!(shell(&["perl", "{0}"]).is_some());
        assert!(shell(&["awk", "--file={0}"]).is_some());
        for bad in [&[][..], &["perl"], &["{0}"], &["", "{0}"], &["x", "{0}", "{0}"], &["x", "{0}{0}"]] {
            assert!(shell(bad).is_none(), "{bad:?}");
        }
    }
}
