//! `runner init`: a first job file, by what the project is.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use super::{Class, CommandError};
use crate::cli::{InitSettings, Project};
use crate::report::Sink;

/// The file that is written: the one that `runner exec` reads when none is named.
const NAME: &str = "job.yml";

/// Files that tell what a project is, the surest first: many projects have a Makefile besides.
const SIGNS: [(&str, Project); 10] = [
    ("Cargo.toml", Project::Rust),
    ("go.mod", Project::Go),
    ("package.json", Project::Node),
    ("pyproject.toml", Project::Python),
    ("setup.py", Project::Python),
    ("requirements.txt", Project::Python),
    ("CMakeLists.txt", Project::Cmake),
    ("Makefile", Project::Make),
    ("makefile", Project::Make),
    ("GNUmakefile", Project::Make),
];

/// Writes the file, or prints it.
///
/// # Errors
/// A file that is there already; a directory that cannot be written to.
pub fn init(settings: &InitSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let kind = settings.kind.unwrap_or_else(|| kind_of(&settings.directory));
    let text = starter(kind);
    if settings.print {
        out.write(text.as_bytes());
        return Ok(0);
    }
    let path = settings.directory.join(NAME);
    let written = OpenOptions::new().write(true).create_new(true).open(&path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| unwritten(&path, error))?;
    out.line(&format!("wrote {}: `runner exec {}` runs it", path.display(), path.display()));
    Ok(0)
}

fn kind_of(directory: &Path) -> Project {
    let sign = SIGNS.iter().find(|(name, _)| directory.join(name).is_file());
    sign.map_or(Project::Plain, |(_, kind)| *kind)
}

fn starter(kind: Project) -> &'static str {
    match kind {
        Project::Rust => include_str!("init/rust.yml"),
        Project::Node => include_str!("init/node.yml"),
        Project::Python => include_str!("init/python.yml"),
        Project::Go => include_str!("init/go.yml"),
        Project::Cmake => include_str!("init/cmake.yml"),
        Project::Make => include_str!("init/make.yml"),
        Project::Plain => include_str!("init/plain.yml"),
    }
}

fn unwritten(path: &Path, error: io::Error) -> CommandError {
    let exists = error.kind() == io::ErrorKind::AlreadyExists;
    let class = if exists || error.kind() == io::ErrorKind::NotFound { Class::Usage } else { Class::Host };
    let error = anyhow::Error::new(error).context(format!("cannot write {}", path.display()));
    let failed = CommandError::new(class, error);
    if exists { failed.with_hint("it is yours: `--print` shows what would be written") } else { failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_file_is_right() {
        use clap::ValueEnum as _;
        for kind in Project::value_variants() {
            let problems = jobs::check("job.yml", starter(*kind).as_bytes(), &mut jobs::NoFiles);
            assert_eq!(problems.errors(), 0, "{kind:?}: {}", problems.render(false));
        }
    }

    #[test]
    fn a_projects_files_say_what_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(kind_of(directory.path()), Project::Plain);
        // Written from the least sure sign to the surest, each wins over those before.
        for (name, kind) in SIGNS.iter().rev() {
            std::fs::write(directory.path().join(name), "").expect("a file");
            assert_eq!(kind_of(directory.path()), *kind, "{name}");
        }
    }
}
