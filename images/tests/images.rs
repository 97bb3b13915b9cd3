//! Images with layers against a registry that misbehaves, and the life of what comes of them.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/pull.rs"]
mod pull;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fixtures::http::{Fault, Resource, Server};
use fixtures::image::{Image, blob_path, manifest};
use fixtures::require;
use fixtures::tarballs::{Header, Tarball};
use images::{
    Credential, Credentials, Digest, ExportForm, ImageErrorKind, ImportSource, InProcess, LifeError,
    LocalName, PruneLimits, PullEvent, Reference, Refresh, export, import, obtain,
};
use pull::{Puller, archive, entries};

fn noise(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ seed << 9 ^ n << 7).to_le_bytes()).collect()
}

/// Three layers, the upper ones with whiteouts.
fn three() -> Image {
    Image::with_config(
        &[
            Tarball::new()
                .directory("d")
                .file("d/one", "1")
                .file("d/two", "2")
                .file("noise", noise(1, 200_000))
                .finish(),
            Tarball::new().directory("d").file("d/.wh.one", "").file("noise2", noise(2, 100_000)).finish(),
            Tarball::new().directory("d").file("d/.wh..wh..opq", "").file("d/three", "3").finish(),
        ],
        "{\"Env\":[\"A=b\"],\"User\":\"7\",\"Cmd\":[\"/run\"]}",
    )
}

/// A server with an image, and what to call it.
fn served(image: &Image) -> (Server, String) {
    let server = Server::start();
    image.serve(&server, "a/b", "t");
    let name = format!("{}/a/b:t", server.address());
    (server, name)
}

fn assert_three(puller: &Puller, name: &str) {
    let rootfs = puller.pull(name, None).unwrap();
    assert_eq!(rootfs.layers.len(), 3);
    assert!(rootfs.layers[1].join("d/one").symlink_metadata().unwrap().file_type().is_char_device());
    assert_eq!(rootfs.layers[1].join("d/one").symlink_metadata().unwrap().rdev(), 0);
    let mut mark = [0; 4];
    let length =
        rustix::fs::getxattr(rootfs.layers[2].join("d"), "user.overlay.opaque", &mut mark[..]).unwrap();
    assert_eq!(&mark[..length], b"y");
    assert_eq!(rootfs.config.env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(rootfs.digest.unwrap().to_string(), three().digest());
    assert_eq!(entries(&puller.store.path().join("tmp")), Vec::<String>::new());
}

#[test]
fn faults_that_pass_are_survived() {
    let image = three();
    let layer = image.layers[0].len();
    let manifest_path = "/v2/a/b/manifests/t";
    let blob = blob_path("a/b", &image.layers[0]);
    let config = blob_path("a/b", &image.config);
    let retry = |code| Fault::Status(code, vec![("Retry-After".to_owned(), "0".to_owned())]);
    let mut table = vec![
        (manifest_path, image.manifest.clone(), retry(429)),
        (manifest_path, image.manifest.clone(), retry(503)),
        (manifest_path, image.manifest.clone(), Fault::CloseAfter(20)),
        (manifest_path, image.manifest.clone(), Fault::HangAfterHeaders),
        (&config, image.config.clone(), Fault::Status(500, Vec::new())),
        (&config, image.config.clone(), Fault::ResetAfter(10)),
        (&blob, image.layers[0].clone(), retry(429)),
        (&blob, image.layers[0].clone(), Fault::HangBeforeHeaders),
        (&blob, image.layers[0].clone(), Fault::HangAfterHeaders),
        (&blob, image.layers[0].clone(), Fault::Chunks),
        (&blob, image.layers[0].clone(), Fault::UnfinishedChunks),
    ];
    table.extend(
        (0..10).map(|tenth| (blob.as_str(), image.layers[0].clone(), Fault::ResetAfter(layer * tenth / 10))),
    );
    for (path, body, fault) in table {
        let (server, name) = served(&image);
        let told = format!("{path} {fault:?}");
        server.serve(path, Resource::new(body).fault(fault));
        let puller = Puller::new();
        assert_three(&puller, &name);
        assert!(server.requests().iter().filter(|request| request.path == path).count() >= 1, "{told}");
    }
}

#[test]
fn a_layer_that_broke_off_goes_on_without_a_validator() {
    let image = three();
    let (server, name) = served(&image);
    let path = blob_path("a/b", &image.layers[0]);
    let half = image.layers[0].len() / 2;
    server.serve(
        &path,
        Resource::new(image.layers[0].clone()).without_validators().fault(Fault::CloseAfter(half)),
    );
    let puller = Puller::new();
    assert_three(&puller, &name);
    let requests = server.requests();
    let ranges: Vec<_> =
        requests.iter().filter_map(|request| request.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [format!("bytes={half}-")]);
}

#[test]
fn faults_that_stay_are_told_and_leave_nothing() {
    let image = three();
    let other = Image::new(&[Tarball::new().file("other", "x").finish()]);
    let blob = blob_path("a/b", &image.layers[0]);
    let config = blob_path("a/b", &image.config);
    let manifest_path = "/v2/a/b/manifests/t";
    let serve = |body: &[u8]| Resource::new(body.to_vec());
    let always = |fault: Fault| Resource::new(image.manifest.clone()).always(fault);
    let longer = [&image.layers[0][..], b"more"].concat();
    let text = |manifest: &[u8]| String::from_utf8(manifest.to_vec()).unwrap();
    let wrong_diff = {
        let archives = [Tarball::new().file("a", "1").finish()];
        let mut wrong = Image::new(&archives);
        wrong.layers = vec![fixtures::tarballs::gzip(&Tarball::new().file("a", "2").finish())];
        wrong.manifest = manifest(&wrong.config, &wrong.layers);
        wrong
    };
    let table: Vec<(&str, Resource, &str)> = vec![
        (manifest_path, always(Fault::Status(404, Vec::new())), "has no image"),
        (manifest_path, always(Fault::Status(401, Vec::new())), "does not give"),
        (manifest_path, always(Fault::Status(403, Vec::new())), "does not give"),
        (manifest_path, always(Fault::Status(503, Vec::new())), "after 5 tries"),
        (manifest_path, always(Fault::HangBeforeHeaders), "after 5 tries"),
        (manifest_path, always(Fault::Redirect("ftp://x/".to_owned())), "redirect"),
        (manifest_path, serve(b"<html>"), "cannot be read"),
        (manifest_path, serve(&vec![b' '; (4 << 20) + 1]), "larger than the limit"),
        (manifest_path, serve(text(&image.manifest).replace(":2,", ":1,").as_bytes()), "schema 1"),
        (&config, serve(&other.config), "wrong digest"),
        (&config, serve(b""), "wrong digest"),
        (&blob, serve(&other.layers[0]), "wrong digest"),
        (&blob, serve(&longer), "larger than the limit"),
        (&blob, serve(&image.layers[0][..1000]), "wrong digest"),
        (&blob, Resource::default().always(Fault::Status(404, Vec::new())), "404"),
        (
            &blob,
            Resource::new(image.layers[0].clone()).always(Fault::Slow(1, Duration::from_millis(100))),
            "bytes came within",
        ),
    ];
    for (path, resource, words) in table {
        let (server, name) = served(&image);
        server.serve(path, resource);
        let puller = Puller::new();
        let error = puller.pull(&name, None).unwrap_err();
        assert!(error.to_string().contains(words), "{path} {words}: {error}");
        assert_ne!(error.kind(), ImageErrorKind::Internal, "{error}");
        for folder in ["images", "refs", "tmp"] {
            assert_eq!(entries(&puller.store.path().join(folder)), Vec::<String>::new(), "{words}: {folder}");
        }
        // What is right meanwhile may stay, and the next pull goes through.
        image.serve(&server, "a/b", "t");
        assert_three(&puller, &name);
    }
    let (_server, name) = served(&wrong_diff);
    let puller = Puller::new();
    assert!(puller.refusal(&name, None).contains("wrong diff id"));
}

#[test]
fn endless_redirects_end() {
    let image = three();
    let (server, name) = served(&image);
    let path = "/v2/a/b/manifests/t";
    server.serve(path, Resource::default().always(Fault::Redirect(server.url(path))));
    assert!(Puller::new().refusal(&name, None).contains("more than 10 redirects"));
}

/// Knows one login.
#[derive(Debug)]
struct One(Credential);

impl Credentials for One {
    fn find(&self, _: &str) -> Result<Option<Credential>, String> {
        Ok(Some(self.0.clone()))
    }
}

#[test]
fn tokens_are_got_once_and_shown_to_nobody_else() {
    let image = three();
    let (server, name) = served(&image);
    let elsewhere = Server::start();
    let challenge =
        format!("Bearer realm=\"{}\",service=\"s\",scope=\"repository:a/b:pull\"", server.url("/token"));
    let wants = || Fault::Status(401, vec![("WWW-Authenticate".to_owned(), challenge.clone())]);
    server.serve("/v2/a/b/manifests/t", Resource::new(image.manifest.clone()).fault(wants()));
    server.serve("/token", Resource::new(b"{\"token\":\"tok-1\",\"expires_in\":300}".to_vec()));
    let layer = &image.layers[1];
    let path = blob_path("a/b", layer);
    server.serve(&path, Resource::new(layer.clone()).fault(Fault::Redirect(elsewhere.url("/cdn"))));
    elsewhere.serve("/cdn", Resource::new(layer.clone()));
    let mut puller = Puller::new();
    let user = Credential::Password { user: "u".to_owned(), password: "p".to_owned() };
    puller.settings.credentials = Arc::new(One(user));
    assert_three(&puller, &name);
    let requests = server.requests();
    let of =
        |path: &str| requests.iter().filter(|request| request.path.starts_with(path)).collect::<Vec<_>>();
    let tokens = of("/token");
    assert_eq!(tokens.len(), 1);
    assert!(
        tokens[0].path.contains("scope=repository%3Aa%2Fb%3Apull") && tokens[0].path.contains("service=s")
    );
    assert_eq!(tokens[0].headers["authorization"], "Basic dTpw");
    assert!(!of("/v2/a/b/manifests/t")[0].headers.contains_key("authorization"), "nothing is shown unasked");
    for request in of("/v2/a/b/blobs/") {
        assert_eq!(request.headers["authorization"], "Bearer tok-1");
    }
    assert!(elsewhere.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    assert_eq!(elsewhere.requests().len(), 1);
}

#[test]
fn bad_tokens_are_errors_without_secrets() {
    let image = three();
    for (answer, words) in [
        (Resource::new(b"{}".to_vec()), "holds no token"),
        (Resource::new(b"no json".to_vec()), "is no token"),
        (Resource::new(b"{\"token\":\"a\\nb\"}".to_vec()), "characters"),
        (Resource::default().always(Fault::Status(403, Vec::new())), "does not give"),
        (Resource::new(vec![b'x'; 300 << 10]), "larger than the limit"),
    ] {
        let (server, name) = served(&image);
        let value = format!("Bearer realm=\"{}\"", server.url("/token"));
        let wants = Fault::Status(401, vec![("WWW-Authenticate".to_owned(), value)]);
        server.serve("/v2/a/b/manifests/t", Resource::new(image.manifest.clone()).always(wants));
        server.serve("/token", answer);
        let mut puller = Puller::new();
        puller.settings.credentials = Arc::new(One(Credential::IdentityToken("hidden".to_owned())));
        let error = puller.refusal(&name, None);
        assert!(error.contains(words) && !error.contains("hidden"), "{words}: {error}");
    }
}

#[test]
fn layers_that_cannot_be_stacked_are_merged() {
    let link =
        |name: &str, target: &str| Header { link: target.as_bytes().to_vec(), ..Header::new(b'1', name) };
    let symlink = Header { link: b"usr/lib".to_vec(), ..Header::new(b'2', "lib") };
    let base = Tarball::new()
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/a", "1")
        .entry(symlink, b"")
        .finish();
    // A hard link to a file below, and a way through a link below.
    let linked = Tarball::new().entry(link("usr/lib/b", "usr/lib/a"), b"").finish();
    let through = Tarball::new().file("lib/c", "3").file("usr/lib/.wh.a", "").finish();
    for (layers, name) in [
        (vec![base.clone(), linked.clone()], "b"),
        (vec![base.clone(), through.clone()], "c"),
        (vec![base, linked, through], "c"),
    ] {
        let (_server, image) = served(&Image::new(&layers));
        let puller = Puller::new();
        let rootfs = puller.pull(&image, None).unwrap();
        assert_eq!(rootfs.layers.len(), 1);
        assert!(rootfs.layers[0].join("usr/lib").join(name).exists());
        assert!(rootfs.layers[0].join("lib").is_symlink());
        assert_eq!(rootfs.layers[0].join("usr/lib/a").exists(), layers.len() == 2 && name == "b");
        assert!(rootfs.layers[0].to_string_lossy().contains("-merged"), "{:?}", rootfs.layers);
        puller.pull(&image, None).unwrap();
        assert!(puller.was_cached());
        assert!(
            puller.store.verify(None, &InProcess::CALLER).unwrap().iter().all(|one| one.faults.is_empty())
        );
    }
}

#[test]
fn a_directory_without_an_entry_keeps_the_attributes_from_below() {
    let private = Header { mode: 0o700, mtime: 1_111_111_111, ..Header::new(b'5', "etc") };
    let base = Tarball::new().entry(private, b"").file("etc/a", "1").finish();
    let upper = Tarball::new().file("etc/b", "2").finish();
    let (_server, name) = served(&Image::new(&[base, upper]));
    let puller = Puller::new();
    let rootfs = puller.pull(&name, None).unwrap();
    assert_eq!(rootfs.layers.len(), 3, "{:?}", rootfs.layers);
    let top = rootfs.layers[2].join("etc").metadata().unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o700, 1_111_111_111));
}

#[test]
fn images_share_layers_and_removal_spares_what_is_shared_or_used() {
    let base = Tarball::new().file("base", noise(7, 50_000)).finish();
    let one = Image::new(&[base.clone(), Tarball::new().file("one", "1").finish()]);
    let two = Image::new(&[base, Tarball::new().file("two", "2").finish()]);
    let (server, first) = served(&one);
    two.serve(&server, "a/c", "t");
    let second = format!("{}/a/c:t", server.address());
    let puller = Puller::new();
    puller.pull(&first, None).unwrap();
    let before = server.body_bytes();
    let used = puller.pull(&second, None).unwrap();
    assert!(server.body_bytes() - before < 10_000, "the base is transferred once");
    let layers = || entries(&puller.store.path().join("layers/sha256")).len();
    assert_eq!(layers(), 3);
    let unpacker = InProcess::CALLER;
    let error = puller.store.remove_image(&second, &unpacker).unwrap_err();
    assert!(matches!(error, LifeError::InUse(_)), "{error}");
    // The first image's own layer goes; the base stays.
    assert_eq!(puller.store.remove_image(&first, &unpacker).unwrap().images.len(), 1);
    assert_eq!(layers(), 2);
    assert!(matches!(puller.store.remove_image(&first, &unpacker), Err(LifeError::Unknown(_))));
    let everything = PruneLimits { idle: Some(Duration::ZERO), ..PruneLimits::default() };
    let pruned = puller.store.prune(&everything, &unpacker).unwrap();
    assert_eq!((pruned.images.len(), pruned.in_use.len()), (0, 1));
    drop(used);
    let dry = puller.store.prune(&PruneLimits { dry_run: true, ..everything }, &unpacker).unwrap();
    assert_eq!((dry.images.len(), layers()), (1, 2));
    puller.store.prune(&everything, &unpacker).unwrap();
    for folder in ["layers/sha256", "images", "refs", "blobs/sha256", "tmp"] {
        assert_eq!(entries(&puller.store.path().join(folder)), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn pruning_by_size_takes_the_longest_idle_first_and_no_imports() {
    let puller = Puller::new();
    let servers: Vec<_> = (0..3)
        .map(|seed| served(&Image::new(&[Tarball::new().file("f", noise(seed, 100_000)).finish()])))
        .collect();
    for (at, (_, name)) in servers.iter().enumerate() {
        let digest = puller.pull(name, None).unwrap().digest.unwrap().hex();
        let record = puller.store.path().join("images").join(format!("{digest}.json"));
        let file = std::fs::File::options().write(true).open(record).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * (at as u64 + 1)))
            .unwrap();
    }
    std::fs::write(puller.home.path().join("i.tar"), Tarball::new().file("i", "1").finish()).unwrap();
    let imported = local(&puller, "./i.tar", "mine");
    assert!(imported.is_ok());
    let limits = PruneLimits { bytes_max: Some(250_000), ..PruneLimits::default() };
    let pruned = puller.store.prune(&limits, &InProcess::CALLER).unwrap();
    assert_eq!(pruned.images.iter().map(|image| &image.names[0]).collect::<Vec<_>>(), [&servers[0].1]);
    let all = PruneLimits { idle: Some(Duration::ZERO), ..PruneLimits::default() };
    assert_eq!(puller.store.prune(&all, &InProcess::CALLER).unwrap().images.len(), 2);
    let left = puller.store.images().unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].imported);
}

fn local(puller: &Puller, from: &str, name: &str) -> Result<images::Rootfs, images::ImageError> {
    let source = ImportSource::Reference(Reference::parse(from, puller.home.path())?);
    let name = LocalName::parse(name).unwrap();
    let unpacker = Arc::new(InProcess::CALLER);
    pull::run(import(source, &name, &puller.store, unpacker, &puller.settings, puller.heard.clone()))
}

#[test]
fn imports_have_names_and_come_from_anything() {
    let puller = Puller::new();
    let error = puller.pull("local:base", None).unwrap_err();
    assert!(error.hint().unwrap().contains("image import"), "{error}");
    std::fs::write(puller.home.path().join("a.tar.gz"), archive()).unwrap();
    let tarball = local(&puller, "./a.tar.gz", "base:1").unwrap();
    pull::assert_is_archive(&puller.pull("local:base:1", None).unwrap());
    let directory = puller.home.path().join("tree");
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/file"), "text").unwrap();
    std::fs::hard_link(directory.join("sub/file"), directory.join("sub/other")).unwrap();
    std::os::unix::fs::symlink("sub/file", directory.join("link")).unwrap();
    local(&puller, "dir:tree", "base").unwrap();
    let rootfs = puller.pull("local:base", None).unwrap();
    let file = rootfs.layers[0].join("sub/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    assert_eq!(file.metadata().unwrap().ino(), rootfs.layers[0].join("sub/other").metadata().unwrap().ino());
    assert_eq!(std::fs::read_link(rootfs.layers[0].join("link")).unwrap(), Path::new("sub/file"));
    // The same tree is the same image; a stream is taken as it comes.
    assert_eq!(local(&puller, "dir:tree", "again").unwrap().digest, rootfs.digest);
    let stream = ImportSource::Stream(Box::new(std::io::Cursor::new(archive())));
    let name = LocalName::parse("streamed").unwrap();
    let unpacker = Arc::new(InProcess::CALLER);
    let done = import(stream, &name, &puller.store, unpacker, &puller.settings, puller.heard.clone());
    assert_eq!(pull::run(done).unwrap().digest, tarball.digest);
    assert!(local(&puller, "host", "x").is_err());
    // A name that is given again means the new one.
    local(&puller, "dir:tree", "base:1").unwrap();
    assert_eq!(puller.pull("local:base:1", None).unwrap().digest, rootfs.digest);
}

#[test]
fn what_is_exported_is_the_same_image_again() {
    let (_server, name) = served(&three());
    let puller = Puller::new();
    let original = puller.pull(&name, None).unwrap();
    let image = puller.store.find_image(&name).unwrap();
    let at = |name: &str| puller.home.path().join(name);
    for (form, target) in [
        (ExportForm::LayoutDirectory, "layout"),
        (ExportForm::LayoutTar, "layout.tar"),
        (ExportForm::Rootfs, "rootfs.tar"),
    ] {
        export(&puller.store, &image, form, &at(target), &InProcess::CALLER).unwrap();
        assert!(
            export(&puller.store, &image, form, &at(target), &InProcess::CALLER).is_err(),
            "nothing is overwritten"
        );
        let again = format!("again-{target}");
        export(&puller.store, &image, form, &at(&again), &InProcess::CALLER).unwrap();
        if form != ExportForm::LayoutDirectory {
            assert_eq!(
                std::fs::read(at(target)).unwrap(),
                std::fs::read(at(&again)).unwrap(),
                "deterministic"
            );
        }
    }
    for form in ["oci:layout", "oci:layout:t", "oci:layout.tar", "archive:layout.tar"] {
        let other = Puller::new();
        let text = form.replace("layout", &at("layout").display().to_string());
        let rootfs = other.pull(&text, None).unwrap();
        assert_eq!(rootfs.layers.len(), 3, "{form}");
        assert_eq!(rootfs.config, original.config);
        assert!(rootfs.layers[1].join("d/one").symlink_metadata().unwrap().file_type().is_char_device());
        assert_eq!(std::fs::read_to_string(rootfs.layers[2].join("d/three")).unwrap(), "3");
    }
    let flat = puller.pull(&at("rootfs.tar").display().to_string(), None).unwrap();
    assert_eq!(entries(&flat.layers[0].join("d")), ["three"]);
    let hidden = entries(puller.home.path()).into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(hidden.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Whatever an archive does not say of a tree is the same each time: digests of the lists show it.
#[test]
fn two_pulls_make_equal_trees() {
    let implied = Tarball::new().file("made/up/file", "1").file("d/.wh.noise", "").finish();
    let mut image = three();
    image = Image::with_config(&[archives_of(&image), vec![implied]].concat(), "{}");
    let (_server, name) = served(&image);
    let records = || {
        let puller = Puller::new();
        let rootfs = puller.pull(&name, None).unwrap();
        let record = |tree: &std::path::PathBuf| {
            let text = std::fs::read_to_string(tree.with_file_name("layer.json")).unwrap();
            let (_, rest) = text.split_once("\"tree_sha256\":").unwrap();
            rest.split(',').next().unwrap().to_owned()
        };
        rootfs.layers.iter().map(record).collect::<Vec<_>>()
    };
    let first = records();
    assert!(first.len() > 4 && first.iter().all(|digest| digest.contains("sha256:")), "{first:?}");
    // The clock that stamps files must have gone on.
    let before = std::fs::metadata("/proc/self").unwrap().modified().unwrap();
    assert!(fixtures::wait_for(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().metadata().unwrap().modified().unwrap() > before
    }));
    assert_eq!(records(), first);
}

/// The layers of an image, decompressed.
fn archives_of(image: &Image) -> Vec<Vec<u8>> {
    let decompress = |layer: &Vec<u8>| {
        let mut archive = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&layer[..]), &mut archive).unwrap();
        archive
    };
    image.layers.iter().map(decompress).collect()
}

#[test]
fn verification_names_every_change() {
    let (_server, name) = served(&three());
    let puller = Puller::new();
    let rootfs = puller.pull(&name, None).unwrap();
    let verify = || puller.store.verify(None, &InProcess::CALLER).unwrap();
    assert!(verify().iter().all(|one| one.faults.is_empty() && one.skipped.is_none()));
    assert_eq!(verify().len(), 5, "three trees, manifest, configuration");
    // One byte, with size and time as before.
    let noise = rootfs.layers[0].join("noise");
    let modified = noise.metadata().unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&noise).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&noise, bytes).unwrap();
    std::fs::File::options().write(true).open(&noise).unwrap().set_modified(modified).unwrap();
    std::fs::remove_file(rootfs.layers[1].join("d/one")).unwrap();
    rustix::fs::removexattr(rootfs.layers[2].join("d"), "user.overlay.opaque").unwrap();
    let config = puller.store.path().join("blobs/sha256").join(Digest::of(&three().config).hex());
    std::fs::write(config, "{}").unwrap();
    let faults: Vec<String> = verify().into_iter().flat_map(|one| one.faults).collect();
    let told = faults.join("\n");
    for words in ["noise: the content is another", "d/one: missing", "overlay mark", "another digest"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Repaired by removal and another pull.
    drop(rootfs);
    puller.store.remove_image(&name, &InProcess::CALLER).unwrap();
    assert_three(&puller, &name);
    assert!(verify().iter().all(|one| one.faults.is_empty()));
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_it_fails() {
    let image = three();
    let (server, _) = served(&image);
    let mirror = Server::start();
    image.serve(&mirror, "a/b", "t");
    let mut puller = Puller::new();
    let known = images::RegistrySettings {
        mirrors: vec![images::ImageUrl::parse(&mirror.url("")).unwrap()],
        insecure: Some(true),
        authority: None,
    };
    puller.settings.registries.insert(server.address().to_string(), known);
    let name = format!("{}/a/b:t", server.address());
    assert_three(&puller, &name);
    assert_eq!(server.requests().len(), 0);
    mirror.serve("/v2/a/b/manifests/t", Resource::default().always(Fault::Status(404, Vec::new())));
    let mut second = Puller::new();
    second.settings.registries = puller.settings.registries.clone();
    assert_three(&second, &name);
    assert!(!server.requests().is_empty());
}

#[test]
fn refreshing_a_tag_transfers_nothing_when_it_has_not_moved() {
    let (server, name) = served(&three());
    let mut puller = Puller::new();
    puller.pull(&name, None).unwrap();
    puller.settings.refresh = Refresh::Always;
    let before = server.requests().len();
    puller.pull(&name, None).unwrap();
    assert!(puller.was_cached());
    let paths: Vec<_> = server.requests()[before..].iter().map(|request| request.path.clone()).collect();
    assert!(paths.iter().all(|path| path == "/v2/a/b/manifests/t"), "{paths:?}");
    let heard = puller.heard.0.lock().unwrap();
    let layers =
        heard.iter().filter(|event| matches!(event, PullEvent::Layer { finished: true, layers: 3, .. }));
    assert_eq!(layers.count(), 3);
}

#[test]
fn within_a_run_a_tag_means_one_image() {
    let (server, name) = served(&three());
    let mut puller = Puller::new();
    puller.settings.refresh = Refresh::Always;
    let reference = Reference::parse(&name, puller.home.path()).unwrap();
    let pull = |settings: &images::FetchSettings| {
        let unpacker = Arc::new(InProcess::CALLER);
        pull::run(obtain(&reference, None, &puller.store, unpacker, settings, puller.heard.clone()))
            .unwrap()
            .digest
    };
    let first = pull(&puller.settings);
    let moved = Image::new(&[Tarball::new().file("moved", "1").finish()]);
    moved.serve(&server, "a/b", "t");
    let asked = server.requests().len();
    assert_eq!(pull(&puller.settings.clone()), first, "clones share what was found");
    assert_eq!(server.requests().len(), asked);
    let next = images::FetchSettings { resolved: images::Resolved::default(), ..puller.settings.clone() };
    assert_eq!(pull(&next).unwrap().to_string(), moved.digest(), "another run asks again");
}

#[test]
fn archives_and_layouts_that_are_wrong_are_told() {
    require!(Program("tar"));
    let puller = Puller::new();
    let at = |name: &str| puller.home.path().join(name);
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("text"), "no tar").unwrap();
    std::fs::write(at("zipped.tar"), archive()).unwrap();
    let image = three();
    image.write_layout(&at("broken"));
    let layer = at("broken/blobs/sha256").join(Digest::of(&image.layers[0]).hex());
    std::fs::write(&layer, &image.layers[1]).unwrap();
    image.write_layout(&at("escaping"));
    std::fs::remove_file(at("escaping/index.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("escaping/index.json")).unwrap();
    image.write_layout(&at("good"));
    for (reference, words) in [
        ("oci:missing", "No such file"),
        ("oci:empty", "is no OCI image layout"),
        ("oci:text", "is no tar of images"),
        ("oci:zipped.tar", "compressed as a whole"),
        ("archive:zipped.tar", "compressed as a whole"),
        ("archive:empty", "is no archive"),
        ("oci:broken", "wrong digest"),
        ("oci:escaping", "index.json"),
        ("oci:good:other", "holds t, but no other"),
    ] {
        let error = puller.pull(reference, None).unwrap_err();
        assert!(error.to_string().contains(words), "{reference}: {error}");
        assert!(error.hint().is_some(), "{reference}: {error}");
    }
    let digest: Digest = image.digest().parse().unwrap();
    assert_eq!(puller.pull("oci:good", Some(digest)).unwrap().digest, Some(digest));
    assert!(puller.pull("oci:good", Some(Digest::of(b""))).is_err());
}
