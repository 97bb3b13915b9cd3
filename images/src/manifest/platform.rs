//! For which machines an image is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and its variant, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `v8`, where the architecture has variants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform of this machine.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", x86_level()),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Says how well an image for `other` runs here: more is better, `None` is not at all.
    ///
    /// Variants count upwards and each runs what lower ones run. No variant means the lowest that is in use.
    pub(crate) fn rank(&self, other: &Platform) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let (ours, theirs) = (self.level(), other.level());
        (theirs <= ours).then_some(theirs)
    }

    /// Whether a person would count it as a platform: attestations are listed as `unknown/unknown`.
    pub(crate) fn is_known(&self) -> bool {
        !self.os.is_empty() && self.os != "unknown"
    }

    fn level(&self) -> u32 {
        let number = |variant: &String| variant.strip_prefix('v')?.parse().ok();
        match (&self.variant, self.architecture.as_str()) {
            // A variant that is no number runs nowhere but where it is named: above all that is known.
            (Some(variant), _) => number(variant).unwrap_or(u32::MAX),
            (None, "arm64") => 8,
            (None, "arm") => 7,
            (None, _) => 1,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// The levels of the x86-64 ABI supplement, by a feature that each has and the one below has not.
#[cfg(target_arch = "x86_64")]
fn x86_level() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let two = has!("sse4.2") && has!("popcnt") && has!("ssse3");
    let three = two && has!("avx2") && has!("bmi2") && has!("fma") && has!("movbe");
    let four = three && has!("avx512f") && has!("avx512bw") && has!("avx512vl");
    match (two, three, four) {
        (_, _, true) => Some("v4"),
        (_, true, _) => Some("v3"),
        (true, ..) => Some("v2"),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn x86_level() -> Option<&'static str> {
    None
}
