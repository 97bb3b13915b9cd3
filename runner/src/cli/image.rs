//! The settings of `runner image`.

use std::path::{Path, PathBuf};

use images::{ExportForm, LocalName, PruneLimits};
use jobs::ImageSpec;
use jobs::units::{parse_duration, parse_size};

use super::environment::Environment;
use super::flags::{self, ExportFormat, ImageVerb, Sources};
use super::settings::{Command, ImageSources, invalid, sources as sources_of};
use super::shown::report;
use crate::report::{Output, ReportSettings};

/// `runner image unpack`
#[derive(Debug)]
pub struct UnpackSettings {
    /// Where downloads are kept meanwhile.
    pub home: PathBuf,
    /// A path or an URL, as written.
    pub source: String,
    /// Where to.
    pub directory: PathBuf,
    /// Most bytes of all files.
    pub bytes_max: Option<u64>,
    /// Most files, directories and links.
    pub entries_max: Option<u64>,
    /// Whether whiteouts are read.
    pub layer: bool,
    /// The digest that the tarball must have: 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// How progress is shown.
    pub report: ReportSettings,
}

/// What to do with the store.
#[derive(Debug)]
pub enum StoreVerb {
    /// Bring these in.
    Pull(Vec<ImageSpec>),
    /// Give a source a name of the user's own.
    Import {
        /// A reference, or `-`.
        source: String,
        /// The name.
        name: LocalName,
    },
    /// List what is there.
    List,
    /// Show one image.
    Inspect(String),
    /// Remove these.
    Remove(Vec<String>),
    /// Remove what lies idle.
    Prune(PruneLimits),
    /// Read these, or everything, again.
    Verify(Vec<String>),
    /// Write one image.
    Export {
        /// Which.
        image: String,
        /// Where to.
        target: PathBuf,
        /// As what.
        form: ExportForm,
    },
}

/// `runner image` with what concerns the store.
#[derive(Debug)]
pub struct ImageSettings {
    /// Where the store is.
    pub home: PathBuf,
    /// What to do.
    pub verb: StoreVerb,
    /// Whether results are printed as JSON.
    pub json: bool,
    /// How images are come by.
    pub sources: ImageSources,
    /// How progress is shown.
    pub report: ReportSettings,
}

/// Settles the flags of `runner image`.
pub(super) fn command(
    verb: flags::ImageVerb,
    home: PathBuf,
    environment: &Environment,
) -> Result<Command, String> {
    let (verb, json, sources) = match verb {
        ImageVerb::Unpack { source, directory, max_bytes, max_entries, layer, sha256 } => {
            let unpack = Unpack { source, directory, max_bytes, max_entries, layer, sha256 };
            return Ok(Command::ImageUnpack(unpack.settle(home, environment)?));
        }
        ImageVerb::Pull { images, sources } => {
            let specs = images
                .iter()
                .map(|image| ImageSpec::parse(image).map_err(|error| invalid("IMAGE", image, error)));
            (StoreVerb::Pull(specs.collect::<Result<_, _>>()?), false, sources)
        }
        ImageVerb::Import { source, name, sources } => {
            let name = name.strip_prefix("local:").unwrap_or(&name).to_owned();
            let wrong = "expected lower-case letters, digits and separators, with or without a tag";
            let name = LocalName::parse(&name).ok_or_else(|| invalid("NAME", &name, wrong))?;
            (StoreVerb::Import { source, name }, false, sources)
        }
        ImageVerb::List { json } => (StoreVerb::List, json, Sources::default()),
        ImageVerb::Inspect { image, json } => (StoreVerb::Inspect(image), json, Sources::default()),
        ImageVerb::Remove { images } => (StoreVerb::Remove(images), false, Sources::default()),
        ImageVerb::Prune { older, max_size, dry_run, json } => {
            (StoreVerb::Prune(limits(older, max_size, dry_run)?), json, Sources::default())
        }
        ImageVerb::Verify { images, json } => (StoreVerb::Verify(images), json, Sources::default()),
        ImageVerb::Export { image, target, format } => {
            let form = export_form(format, &target);
            (StoreVerb::Export { image, target, form }, false, Sources::default())
        }
    };
    Ok(Command::Image(ImageSettings {
        home,
        verb,
        json,
        sources: sources_of(sources, environment)?,
        report: report(Output::Passthrough, environment.stderr_color, false, environment),
    }))
}

fn limits(older: Option<String>, max_size: Option<String>, dry_run: bool) -> Result<PruneLimits, String> {
    if older.is_none() && max_size.is_none() {
        return Err("nothing says what may go: give --older, --max-size or both".to_owned());
    }
    let idle = older.map(|text| parse_duration(&text).map_err(|error| invalid("--older", &text, error)));
    let bytes = max_size.map(|text| parse_size(&text).map_err(|error| invalid("--max-size", &text, error)));
    Ok(PruneLimits { idle: idle.transpose()?, bytes_max: bytes.transpose()?, dry_run })
}

fn export_form(format: Option<ExportFormat>, target: &Path) -> ExportForm {
    match format {
        Some(ExportFormat::Oci) => ExportForm::LayoutDirectory,
        Some(ExportFormat::OciTar) => ExportForm::LayoutTar,
        Some(ExportFormat::Rootfs) => ExportForm::Rootfs,
        None if target.extension().is_some_and(|end| end == "tar") => ExportForm::LayoutTar,
        None => ExportForm::LayoutDirectory,
    }
}

/// The flags of `runner image unpack`.
struct Unpack {
    source: String,
    directory: PathBuf,
    max_bytes: Option<String>,
    max_entries: Option<u64>,
    layer: bool,
    sha256: Option<String>,
}

impl Unpack {
    fn settle(self, home: PathBuf, environment: &Environment) -> Result<UnpackSettings, String> {
        let Unpack { source, directory, max_bytes, max_entries, layer, sha256 } = self;
        let bytes_max =
            max_bytes.map(|size| parse_size(&size).map_err(|error| invalid("--max-bytes", &size, error)));
        if let Some(digest) = &sha256 {
            ImageSpec { reference: source.clone(), sha256: None, pull: None }
                .with_sha256(digest)
                .map_err(|error| invalid("--sha256", digest, error))?;
        }
        Ok(UnpackSettings {
            home,
            source,
            directory,
            bytes_max: bytes_max.transpose()?,
            entries_max: max_entries,
            layer,
            sha256,
            report: report(Output::Passthrough, environment.stderr_color, false, environment),
        })
    }
}
