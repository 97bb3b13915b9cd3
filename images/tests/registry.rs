//! Images of a real registry, made by other tools: they pull whole, and are what those tools make of them.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/pull.rs"]
mod pull;
#[path = "support/registry.rs"]
mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fixtures::require;
use images::{
    Credential, Credentials, Digest, ImageErrorKind, InProcess, PullEvent, Reference, Refresh,
    RegistrySettings, Rootfs, obtain,
};
use pull::{Puller, archive, entries};
use registry::{Mounted, Registry, assert_same, listing, tool, umoci_image, umoci_unpack};

/// Six layers with everything that layers can do to one another.
const LAYERS: [&str; 6] = [
    "mkdir -p a/b c d opq tmp; chmod 1777 tmp; chmod 700 c; echo one > a/one; echo two > a/b/two; ln a/one a/hard
     ln -s one a/sym; echo x > opq/x; echo y > opq/y; mkdir type1; echo f > type2; mkfifo fifo; chmod 4755 a/b/two
     touch -d '2001-02-03 04:05:06.789' a/one c",
    "rm a/b/two; echo new > c/new; rm -r opq; mkdir opq; echo z > opq/z; touch -d 2002-01-01 c opq a a/b",
    "rm -r type1; echo file > type1; rm type2; mkdir type2; echo in > type2/in; rm -r d",
    "mkdir d; echo back > d/back; echo changed >> c/new; touch -d 2003-01-01 d",
    "echo more >> a/one; chmod 711 a/b; ln -s ../c a/b/link; rm fifo; mkdir fifo",
    "rm a/hard; rm -r c; mkfifo c; mkdir -p new/deep/tree; echo leaf > new/deep/tree/leaf",
];

/// Settings that find the registry and nothing else.
fn puller() -> Puller {
    let mut puller = Puller::new();
    puller.settings.tries_max = 2;
    puller
}

fn pull_as_root(puller: &Puller, name: &str) -> Rootfs {
    let reference = Reference::parse(name, puller.home.path()).unwrap();
    let unpacker = Arc::new(InProcess::KEEP);
    pull::run(obtain(&reference, None, &puller.store, unpacker, &puller.settings, puller.heard.clone()))
        .unwrap()
}

#[test]
fn layers_stack_to_what_umoci_unpacks() {
    require!(Root, Program("docker-registry"), Program("umoci"), Program("skopeo"), Program("mount"));
    let (work, registry, puller) = (tempfile::tempdir().unwrap(), Registry::start(), puller());
    // Owners as root would have them: umoci repacks what the shell made.
    let layers: Vec<String> = LAYERS.iter().map(|script| (*script).to_owned()).collect();
    let mut scripts: Vec<&str> = layers.iter().map(String::as_str).collect();
    let first = format!("{}\nchown 33:44 c a/one\nchown -h 5:6 a/sym", LAYERS[0]);
    scripts[0] = &first;
    let layout = umoci_image(work.path(), &scripts);
    registry.push(&layout, "t", "test/six:1", &[]);
    let name = format!("{}/test/six:1", registry.address);
    let rootfs = pull_as_root(&puller, &name);
    assert_eq!(rootfs.digest.unwrap().to_string(), registry.digest("test/six:1"));
    assert!(rootfs.layers.len() >= 6, "{:?}", rootfs.layers);
    umoci_unpack(&format!("{}:t", layout.display()), &work.path().join("again"));
    let theirs = listing(&work.path().join("again/rootfs"));
    assert!(theirs.len() > 15, "{theirs:?}");
    assert_same(&Mounted::new(&rootfs.layers).listing(), &theirs);
    // The same image out of its layout, out of a tar of it, and as docker saves it.
    let tar = work.path().join("layout.tar").display().to_string();
    tool("tar", &["-C", &layout.display().to_string(), "-cf", &tar, "."]);
    let saved = work.path().join("saved.tar").display().to_string();
    tool(
        "skopeo",
        &[
            "copy",
            "--quiet",
            &format!("oci:{}:t", layout.display()),
            &format!("docker-archive:{saved}:x/y:1"),
        ],
    );
    for form in [format!("oci:{}:t", layout.display()), format!("oci:{tar}"), format!("archive:{saved}")] {
        let again = self::puller();
        let rootfs = pull_as_root(&again, &form);
        assert_same(&Mounted::new(&rootfs.layers).listing(), &theirs);
        let same = pull_as_root(&puller, &form);
        assert_eq!(same.layers.len(), rootfs.layers.len());
        assert!(same.layers.iter().all(|layer| layer.starts_with(puller.store.path())));
    }
}

#[test]
fn a_pulled_image_needs_the_registry_no_more() {
    require!(Program("docker-registry"), Program("umoci"), Program("skopeo"));
    let (work, registry, mut puller) = (tempfile::tempdir().unwrap(), Registry::start(), puller());
    let layout = umoci_image(work.path(), &["echo 1 > one", "echo 2 > two"]);
    registry.push(&layout, "t", "app:1", &[]);
    let name = format!("{}/app:1", registry.address);
    let digest = registry.digest("app:1");
    let rootfs = puller.pull(&name, None).unwrap();
    assert_eq!((rootfs.layers.len(), rootfs.digest.unwrap().to_string()), (2, digest.clone()));
    assert!(!puller.was_cached());
    // A tag that moves is seen only by whoever asks.
    let other = tempfile::tempdir().unwrap();
    let moved = umoci_image(other.path(), &["echo 3 > three"]);
    registry.push(&moved, "t", "app:1", &[]);
    assert_eq!(puller.pull(&name, None).unwrap().digest.unwrap().to_string(), digest);
    assert!(puller.was_cached());
    puller.settings.refresh = Refresh::Always;
    assert_ne!(puller.pull(&name, None).unwrap().digest.unwrap().to_string(), digest);
    puller.settings.refresh = Refresh::Default;
    // By digest it is the old one, and nothing is asked; not even when the registry is gone.
    let pinned = format!("{}/app@{digest}", registry.address);
    assert_eq!(puller.pull(&pinned, None).unwrap().digest.unwrap().to_string(), digest);
    let wrong = format!("{}/app@{}", registry.address, Digest::of(b"x"));
    assert!(puller.pull(&wrong, None).unwrap_err().to_string().contains("has no image"));
    drop(registry);
    puller.pull(&pinned, None).unwrap();
    puller.pull(&name, Some(digest.parse().unwrap())).unwrap();
    puller.settings.offline = true;
    puller.pull(&name, None).unwrap();
    let error = puller.pull("127.0.0.1:1/other", None).unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
}

#[test]
fn several_pulls_at_once_transfer_each_layer_once() {
    require!(Program("docker-registry"), Program("umoci"), Program("skopeo"));
    let (work, registry, puller) = (tempfile::tempdir().unwrap(), Registry::start(), puller());
    let random = "head -c 300000 /dev/urandom >";
    let scripts: Vec<String> = (0..5).map(|number| format!("{random} file{number}")).collect();
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let layout = umoci_image(work.path(), &scripts);
    registry.push(&layout, "t", "app:1", &[]);
    let name = format!("{}/app:1", registry.address);
    std::thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| puller.pull(&name, None).map(|rootfs| rootfs.layers))).collect();
        let layers: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap().unwrap()).collect();
        assert!(layers.windows(2).all(|pair| pair[0] == pair[1]));
    });
    let heard = puller.heard.0.lock().unwrap();
    let transferred: u64 = heard
        .iter()
        .map(|event| if let PullEvent::Finished { bytes, .. } = event { *bytes } else { 0 })
        .sum();
    assert!((1_500_000..1_600_000).contains(&transferred), "{transferred}");
    let layers =
        heard.iter().filter(|event| matches!(event, PullEvent::Layer { finished: true, .. })).count();
    assert_eq!(layers, 5);
    assert_eq!(entries(&puller.store.path().join("tmp")), Vec::<String>::new());
}

/// Knows one login.
#[derive(Debug)]
struct One(&'static str);

impl Credentials for One {
    fn find(&self, _: &str) -> Result<Option<Credential>, String> {
        Ok(Some(Credential::Password { user: "user".to_owned(), password: self.0.to_owned() }))
    }
}

#[test]
fn a_login_is_shown_when_the_registry_wants_one() {
    require!(Program("docker-registry"), Program("umoci"), Program("skopeo"), Program("htpasswd"));
    let (work, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let users = tool("htpasswd", &["-Bbn", "user", "secret"]);
    std::fs::write(directory.path().join("users"), users).unwrap();
    let registry = Registry::in_directory(directory, "auth: {htpasswd: {realm: test, path: DIR/users}}", "");
    let layout = umoci_image(work.path(), &["echo 1 > one"]);
    registry.push(&layout, "t", "private/app:1", &["--dest-creds", "user:secret"]);
    let name = format!("{}/private/app:1", registry.address);
    let mut puller = puller();
    let error = puller.pull(&name, None).unwrap_err();
    assert!(error.to_string().contains("does not give"), "{error}");
    assert!(error.hint().unwrap().contains("log in"), "{error}");
    puller.settings.credentials = Arc::new(One("wrong"));
    let error = puller.pull(&name, None).unwrap_err();
    assert!(error.to_string().contains("does not give") && !error.to_string().contains("wrong"), "{error}");
    puller.assert_nothing_visible();
    puller.settings.credentials = Arc::new(One("secret"));
    assert_eq!(puller.pull(&name, None).unwrap().layers.len(), 1);
}

/// A certificate of an authority of our own, for 127.0.0.1.
fn certificate(directory: &Path) {
    let at = |name: &str| directory.join(name).display().to_string();
    std::fs::write(at("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let req = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"];
    let with = |more: &[&str]| tool("openssl", &[&req[..], more].concat());
    with(&["-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", &at("ca.key"), "-out", &at("ca.pem")]);
    with(&["-subj", "/CN=registry", "-keyout", &at("key.pem"), "-out", &at("csr.pem")]);
    tool(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &at("csr.pem"),
            "-CA",
            &at("ca.pem"),
            "-CAkey",
            &at("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &at("ext"),
            "-out",
            &at("cert.pem"),
        ],
    );
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    require!(Program("docker-registry"), Program("umoci"), Program("skopeo"), Program("openssl"));
    let (work, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificate(directory.path());
    let tls = ", tls: {certificate: DIR/cert.pem, key: DIR/key.pem}";
    let registry = Registry::in_directory(directory, "", tls);
    let authority = registry.directory.path().join("ca.pem");
    let layout = umoci_image(work.path(), &["echo 1 > one"]);
    registry.push(&layout, "t", "app:1", &[]);
    let name = format!("{}/app:1", registry.address);
    let mut puller = puller();
    // Not trusted, and not made up for by plain http.
    let error = puller.pull(&name, None).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(error.hint().unwrap().contains("--ca-file"), "{error}");
    assert_eq!(error.kind(), ImageErrorKind::Network);
    puller.settings.authorities = vec![authority.clone()];
    assert_eq!(puller.pull(&name, None).unwrap().layers.len(), 1);
    let mut one = self::puller();
    let known = RegistrySettings { authority: Some(authority), ..RegistrySettings::default() };
    one.settings.registries = BTreeMap::from([(registry.address.clone(), known)]);
    assert_eq!(one.pull(&name, None).unwrap().layers.len(), 1);
    one.settings.authorities = vec![registry.directory.path().join("config.yml")];
    let error = one.pull(&format!("{}/app:2", registry.address), None).unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}

/// A server that speaks TLS and answers every request for one of its files with what the file holds, status and headers too.
struct Tls {
    process: std::process::Child,
    address: String,
}

impl Tls {
    fn start(directory: &Path) -> Tls {
        use std::net::{TcpListener, TcpStream};
        use std::process::{Command, Stdio};
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let process = Command::new("openssl")
            .args([
                "s_server", "-quiet", "-HTTP", "-cert", "cert.pem", "-key", "key.pem", "-accept", &address,
            ])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Tls { process, address };
        assert!(fixtures::wait_for(|| TcpStream::connect(&server.address).is_ok()));
        server
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_redirect_never_gives_up_the_encryption() {
    require!(Program("openssl"));
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    certificate(directory.path());
    // What lies behind the redirects is all right, but for the way to it.
    let plain = fixtures::http::Server::start();
    let image = fixtures::image::Image::new(&[fixtures::tarballs::Tarball::new().file("a", "1").finish()]);
    image.serve(&plain, "a/b", "t");
    plain.serve("/x.tar", fixtures::http::Resource::new(archive()));
    let redirect = |path: &str| {
        let to = plain.url(path);
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    std::fs::create_dir_all(at("v2/a/b/manifests")).unwrap();
    std::fs::write(at("v2/a/b/manifests/t"), redirect("/v2/a/b/manifests/t")).unwrap();
    std::fs::write(at("x.tar"), redirect("/x.tar")).unwrap();
    let tls = Tls::start(directory.path());
    let mut puller = puller();
    puller.settings.authorities = vec![at("ca.pem")];
    for name in [format!("https://{}/x.tar", tls.address), format!("{}/a/b:t", tls.address)] {
        let error = puller.refusal(&name, None);
        assert!(
            error.contains("a redirect from https to http, which would give up the encryption"),
            "{error}"
        );
        assert_eq!(plain.requests().len(), 0, "{name}");
    }
    // The redirects do lead there.
    puller.pull(&plain.url("/x.tar"), None).unwrap();
}

#[test]
fn an_index_gives_what_runs_here_or_says_what_there_is() {
    require!(Program("docker-registry"), Program("umoci"), Program("skopeo"));
    let (work, registry, puller) = (tempfile::tempdir().unwrap(), Registry::start(), puller());
    let layout = umoci_image(work.path(), &["echo 1 > one"]);
    registry.push(&layout, "t", "app:one", &[]);
    let manifest = registry.digest("app:one");
    let raw = tool(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}/app:one", registry.address)],
    );
    let put = |tag: &str, architectures: &[&str]| {
        let entries: Vec<String> = architectures
            .iter()
            .map(|architecture| {
                format!(
                    "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{manifest}\",\"size\":{},\
                     \"platform\":{{\"os\":\"linux\",\"architecture\":\"{architecture}\"}}}}",
                    raw.len()
                )
            })
            .collect();
        let index = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{}]}}",
            entries.join(",")
        );
        let file = work.path().join(tag);
        std::fs::write(&file, &index).unwrap();
        let url = format!("http://{}/v2/app/manifests/{tag}", registry.address);
        let body = format!("@{}", file.display());
        tool(
            "curl",
            &[
                "-sSf",
                "-X",
                "PUT",
                "-H",
                "Content-Type: application/vnd.oci.image.index.v1+json",
                "--data-binary",
                &body,
                &url,
            ],
        );
        Digest::of(index.as_bytes())
    };
    let ours = images::Platform::host().architecture;
    let index = put("many", &["s390x", &ours, "mips64le"]);
    put("other", &["s390x", "mips64le"]);
    let rootfs = puller.pull(&format!("{}/app:many", registry.address), None).unwrap();
    assert_eq!(rootfs.digest.unwrap().to_string(), manifest);
    // The index's digest names the same image, and needs no network the second time.
    let pinned = format!("{}/app@{index}", registry.address);
    assert_eq!(puller.pull(&pinned, None).unwrap().digest.unwrap().to_string(), manifest);
    let error = puller.pull(&format!("{}/app:other", registry.address), None).unwrap_err();
    assert!(error.to_string().contains("linux/mips64le, linux/s390x"), "{error}");
    drop(registry);
    puller.pull(&pinned, None).unwrap();
}
