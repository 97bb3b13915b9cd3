//! The one table of diagnostic codes. E1xx: the text, keys, steps; E2xx: image, paths, artifacts, mounts,
//! limits; W: warnings. A code keeps its meaning for ever; a retired one is not used again.

/// Declares the codes: variant, written form, one line of meaning.
macro_rules! codes {
    ($($variant:ident $id:literal $meaning:literal)*) => {
        /// What a diagnostic is about, as a stable code such as `E103`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Returns the code as users see it: `E103`.
            pub const fn id(self) -> &'static str {
                match self { $(Code::$variant => $id),* }
            }

            /// Returns the one-line meaning, the same that `docs/job-file.md` shows.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning),* }
            }
        }
    };
}

codes! {
    Yaml "E100" "the file is not valid YAML"
    Version "E101" "the file's `version` is not one this program reads"
    DuplicateKey "E102" "a key is given twice in one map"
    UnknownKey "E103" "a key that does not exist here"
    MissingUnit "E104" "a size or a duration is a bare number"
    WrongType "E105" "a value has the wrong type"
    BadQuantity "E106" "a size or a duration cannot be read"
    ExpressionInRun "E107" "`${{ }}` inside `run`; scripts are not interpolated"
    NotText "E108" "the file is not UTF-8 text"
    FileTooBig "E109" "the file is larger, deeper or expands to more than is read"
    Documents "E110" "the file holds no document, or more than one"
    Tag "E111" "a YAML tag that has no meaning here"
    Merge "E112" "`<<` is given something other than maps"
    Alias "E113" "an alias names no anchor, or itself"
    NulCharacter "E114" "a value contains a NUL character"
    MissingKey "E115" "a required key is missing from a map"
    BadName "E116" "a name is empty, too long or has control characters"
    NotAChoice "E117" "a value is not one of those that the key accepts"
    TooLong "E118" "a value is longer than can be passed to a program"
    TooMany "E119" "a list has more entries than are accepted"
    Param "E130" "a param is declared in a way that makes no sense"
    UnknownParam "E131" "a param is given that the file does not declare"
    MissingParam "E132" "a param has no value"
    ParamValue "E133" "a param's value is not of its type or not one of its options"
    ParamName "E134" "a param's name is malformed, or two have one variable"
    StepsAndJobs "E140" "`steps` and `jobs` stand at the same level"
    BadId "E141" "an id is not lower-case letters, digits, `-` and `_`"
    UnknownNeed "E142" "`needs` names a job that does not exist"
    NeedCycle "E143" "jobs need each other in a circle"
    MatrixTooBig "E144" "a matrix, or all of them together, have more cells than are accepted"
    Matrix "E145" "a matrix has an axis without values, an unknown axis, or no cells"
    NoJobs "E146" "`jobs` is empty"
    NoSteps "E150" "the job has no steps"
    NoRun "E151" "a step has no `run`"
    DuplicateId "E152" "two steps have the same id"
    Shell "E153" "`shell` is not one of the known shells, nor a list with one `{0}`"
    EmptyRun "E154" "`run` has nothing to run"
    ExpectExit "E155" "`expect-exit` is empty or outside 0 to 255"
    Retry "E156" "`retry` is out of its range, or names an end that does not exist"
    EnvName "E165" "the name of an environment variable is malformed"
    Workdir "E166" "`workdir` is empty or leaves the workspace by `..`"
    User "E167" "`user` is not `root`, `me`, a name or numbers"
    Hostname "E168" "`hostname` is not a valid host name"
    Expression "E171" "an expression cannot be read, or names what does not exist there"
    Evaluation "E172" "an expression cannot be evaluated"
    NoImage "E201" "the job has no `image`"
    ImageForm "E203" "`image` has none of the accepted forms"
    Checksum "E204" "`sha256` is not 64 hexadecimal digits"
    ChecksumUnused "E208" "`sha256` is given for an image that has none"
    ImageUrl "E209" "the image's URL is malformed or contains a password"
    GlobLeaves "E210" "a pattern is absolute or leaves the workspace by `..`"
    GlobSyntax "E211" "a pattern cannot be read"
    ImageName "E212" "the name of an image is malformed"
    Mount "E222" "a mount is not `host:path`, `host:path:ro` or `host:path:rw`"
    MountPath "E224" "a mount's path inside is not one that can be mounted on"
    DuplicateMount "E225" "two mounts have the same path inside"
    LimitTooSmall "E232" "a limit or a time is zero, negative or too small"
    LimitTooBig "E233" "a limit or a time is larger than anything can be"
    AllowedHost "E245" "an entry of `network.allow` is not a host, nor `host:port`"
    NoPaths "E262" "an artifact has no paths"
    ArtifactName "E263" "an artifact's name cannot be a directory's name"
    DuplicateArtifact "E264" "two artifacts have the same name"
    SecretContext "E303" "an expression names `secrets`"
    HostImage "W411" "`image: host` is whatever this machine has: not reproducible"
    NoChecksum "W412" "an image is downloaded without a `sha256` to hold it to"
}

impl Code {
    /// Returns whether this is an error or a warning; the code's first letter says it.
    pub fn severity(self) -> Severity {
        if self.id().starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing runs.
    Error,
    /// The job runs; the user should know.
    Warning,
}

impl Severity {
    /// Returns the word that stands before the code: `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let ids: HashSet<_> = Code::ALL.iter().map(|code| code.id()).collect();
        assert_eq!(ids.len(), Code::ALL.len());
        for id in ids {
            let (letter, digits) = id.split_at(1);
            assert!(matches!(letter, "E" | "W") && digits.len() == 3, "{id}");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        }
    }
}
