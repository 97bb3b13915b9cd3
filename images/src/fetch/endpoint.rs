//! Where the registry of a reference is: its mirrors first, then itself. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use super::settings::FetchSettings;
use crate::reference::{DEFAULT_REGISTRY, ImageUrl, RegistryName};

/// Where Docker Hub's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// One place that may have the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme, host, port; a mirror may have a path as well.
    pub(super) base: ImageUrl,
    /// By which credentials are found.
    pub(super) registry: String,
    pub(super) authority: Option<PathBuf>,
    /// Plain http is tried as well if it turns out that nobody speaks TLS there.
    pub(super) or_http: bool,
}

/// Returns where to ask, in order; never empty.
pub(super) fn endpoints(name: &RegistryName, settings: &FetchSettings) -> Vec<Endpoint> {
    let known = settings.registries.get(name.registry()).cloned().unwrap_or_default();
    let mut list: Vec<Endpoint> =
        known.mirrors.iter().map(|mirror| mirror_endpoint(mirror, settings)).collect();
    let host = if name.registry() == DEFAULT_REGISTRY { DOCKER_HUB } else { name.registry() };
    let local = is_this_machine(host) && known.authority.is_none();
    let (scheme, or_http) = match known.insecure {
        Some(true) => ("http", false),
        Some(false) => ("https", false),
        None => ("https", local),
    };
    // The grammar of references has nothing that a URL could not have in this place.
    if let Ok(base) = ImageUrl::parse(&format!("{scheme}://{host}")) {
        list.push(Endpoint {
            base,
            registry: name.registry().to_owned(),
            authority: known.authority,
            or_http,
        });
    }
    list
}

fn mirror_endpoint(mirror: &ImageUrl, settings: &FetchSettings) -> Endpoint {
    let url = mirror.url();
    let host = url.host_str().unwrap_or_default();
    let registry = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority = settings.registries.get(&registry).and_then(|known| known.authority.clone());
    Endpoint { base: mirror.clone(), registry, authority, or_http: false }
}

/// Whether the host, with or without a port, is this machine: nobody can listen in between.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Endpoint {
    /// Returns the URL of something of a repository: `manifests/latest`, `blobs/sha256:...`.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Option<ImageUrl> {
        let base = self.base.url().as_str().trim_end_matches('/');
        ImageUrl::parse(&format!("{base}/v2/{repository}/{rest}")).ok()
    }

    /// The same place without encryption.
    pub(super) fn plain(&self) -> Option<Endpoint> {
        let text = self.base.url().as_str().strip_prefix("https://").map(|rest| format!("http://{rest}"))?;
        // The port of https would be written out if it were not the default; a registry on 443 speaks TLS.
        Some(Endpoint { base: ImageUrl::parse(&text).ok()?, or_http: false, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::RegistrySettings;

    fn bases(name: &str, settings: &FetchSettings) -> Vec<String> {
        let name = RegistryName::parse(name).unwrap();
        let list = endpoints(&name, settings);
        list.iter()
            .map(|endpoint| format!("{}{}", endpoint.base, if endpoint.or_http { " or http" } else { "" }))
            .collect()
    }

    #[test]
    fn http_is_for_this_machine_or_on_request() {
        let mut settings = FetchSettings::default();
        assert_eq!(bases("alpine", &settings), ["https://registry-1.docker.io/"]);
        assert_eq!(bases("127.0.0.1:5000/a", &settings), ["https://127.0.0.1:5000/ or http"]);
        assert_eq!(bases("[::1]:5000/a", &settings), ["https://[::1]:5000/ or http"]);
        assert_eq!(bases("localhost/a", &settings), ["https://localhost/ or http"]);
        assert_eq!(bases("127.0.0.1.example/a", &settings), ["https://127.0.0.1.example/"]);
        assert_eq!(bases("localhost.example/a", &settings), ["https://localhost.example/"]);
        let known = |insecure| RegistrySettings { insecure: Some(insecure), ..RegistrySettings::default() };
        settings.registries.insert("r.example".to_owned(), known(true));
        settings.registries.insert("localhost:5000".to_owned(), known(false));
        assert_eq!(bases("r.example/a", &settings), ["http://r.example/"]);
        assert_eq!(bases("localhost:5000/a", &settings), ["https://localhost:5000/"]);
    }

    #[test]
    fn mirrors_come_first() {
        let mut settings = FetchSettings::default();
        let mirrors = vec![
            ImageUrl::parse("https://m.example/hub").unwrap(),
            ImageUrl::parse("http://127.0.0.1:5000").unwrap(),
        ];
        settings
            .registries
            .insert("docker.io".to_owned(), RegistrySettings { mirrors, ..RegistrySettings::default() });
        assert_eq!(
            bases("alpine", &settings),
            ["https://m.example/hub", "http://127.0.0.1:5000/", "https://registry-1.docker.io/"]
        );
        let first = &endpoints(&RegistryName::parse("alpine").unwrap(), &settings)[0];
        assert_eq!(
            first.url("library/alpine", "tags/x").unwrap().to_string(),
            "https://m.example/hub/v2/library/alpine/tags/x"
        );
        assert_eq!(first.registry, "m.example");
    }
}
