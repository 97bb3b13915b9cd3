//! The image and its checksum.

use super::Checker;
use crate::codes::Code;
use crate::file::{ImageField, Required};
use crate::image::{FORMS, ImageError, ImageForm, ImageSpec, Pull};
use crate::render::quote;
use crate::source::Span;

impl Checker<'_> {
    pub(super) fn image(
        &mut self,
        field: &Required<ImageField>,
        file: &Span,
        job: &str,
    ) -> Option<ImageSpec> {
        let field = match field {
            Required::Given(field) => &field.value,
            Required::Unreadable => return None,
            Required::Absent => {
                // The first character of the file: a whole document would be marked otherwise.
                let at = file.start..file.start;
                self.problems.add(Code::NoImage, at, format!("{job} has no `image`")).hint(FORMS);
                return None;
            }
        };
        let image = match ImageSpec::parse(&field.reference.value) {
            Ok(image) => image,
            Err(error) => {
                self.image_fault(&field.reference.value, &field.reference.span, &error);
                return None;
            }
        };
        self.image_warnings(&image, field);
        let image = self.pull(image, field)?;
        let Some(sha256) = &field.sha256 else { return Some(image) };
        match image.with_sha256(&sha256.value) {
            Ok(image) => Some(image),
            Err(error) => {
                let unused = error == ImageError::ChecksumUnused;
                let code = if unused { Code::ChecksumUnused } else { Code::Checksum };
                self.problems.add(code, &sha256.span, error.to_string());
                None
            }
        }
    }

    fn pull(&mut self, mut image: ImageSpec, field: &ImageField) -> Option<ImageSpec> {
        let Some(word) = &field.pull else { return Some(image) };
        let choices = [("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];
        image.pull = Some(self.choice(word, "pull", " in `image`", &choices)?);
        Some(image)
    }

    fn image_fault(&mut self, reference: &str, span: &Span, error: &ImageError) {
        let code = match error {
            ImageError::Name(_) | ImageError::LocalName => Code::ImageName,
            ImageError::NoHost | ImageError::Password => Code::ImageUrl,
            ImageError::Malformed
            | ImageError::Form
            | ImageError::Scheme
            | ImageError::NoPath(_)
            | ImageError::Checksum
            | ImageError::ChecksumUnused
            | ImageError::ChecksumOther => Code::ImageForm,
        };
        let password = *error == ImageError::Password;
        // A password is not repeated: messages end up in logs.
        let value = if password { "this URL".to_owned() } else { quote(reference) };
        let text = format!("`image` cannot be {value}: {error}");
        let hint = match () {
            () if password => "use a URL that needs none, or download the tarball beforehand",
            () if *error == ImageError::Scheme => "write `alpine:3.20`, not `docker://alpine:3.20`",
            () if reference.starts_with('~') => "`~` is not expanded; write the whole path",
            () => FORMS,
        };
        self.problems.add(code, span, text).hint(hint);
    }

    fn image_warnings(&mut self, image: &ImageSpec, field: &ImageField) {
        let at = &field.reference.span;
        match image.form() {
            ImageForm::Host => {
                let text = "`image: host` is whatever this machine has installed: not reproducible";
                self.problems
                    .add(Code::HostImage, at, text)
                    .hint("a tarball with `sha256` is the same everywhere");
            }
            ImageForm::Url if field.sha256.is_none() => {
                let text = "the tarball is downloaded without a `sha256` to hold it to";
                let hint =
                    "image: {ref: URL, sha256: DIGEST}, where DIGEST is what `sha256sum` prints for it";
                self.problems.add(Code::NoChecksum, at, text).hint(hint);
            }
            ImageForm::Url
            | ImageForm::Tarball
            | ImageForm::Directory
            | ImageForm::Registry
            | ImageForm::Layout
            | ImageForm::Archive
            | ImageForm::Local => {}
        }
    }
}
