//! Media types of manifests, indexes, configurations and layers.

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What is asked for. Without schema 1 a registry says that it has nothing else instead of sending it.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a layer is, by its type. Its compression is told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerKind {
    Tar,
    Foreign,
    Encrypted,
    Other,
}

/// Returns the type without parameters such as `; charset=utf-8`.
pub(super) fn bare(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

pub(crate) fn is_index(kind: &str) -> bool {
    matches!(kind, OCI_INDEX | DOCKER_LIST)
}

pub(crate) fn is_manifest(kind: &str) -> bool {
    matches!(kind, OCI_MANIFEST | DOCKER_MANIFEST)
}

pub(super) fn is_schema_one(kind: &str) -> bool {
    kind.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

pub(super) fn is_config(kind: &str) -> bool {
    // An archive's descriptor has none.
    matches!(kind, OCI_CONFIG | DOCKER_CONFIG | "")
}

pub(super) fn layer_kind(kind: &str) -> LayerKind {
    match kind {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LayerKind::Tar,
        _ if kind.contains(".nondistributable.") || kind.contains(".foreign.") => LayerKind::Foreign,
        _ if kind.ends_with("+encrypted") => LayerKind::Encrypted,
        _ => LayerKind::Other,
    }
}
