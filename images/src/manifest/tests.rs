//! Documents good and bad, each with what must come of it.

use super::*;

const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn descriptor(kind: &str) -> String {
    format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{D}\",\"size\":7}}")
}

fn image(layers: &[&str], more: &str) -> String {
    let config = descriptor("application/vnd.oci.image.config.v1+json");
    let layers: Vec<String> = layers.iter().map(|kind| descriptor(kind)).collect();
    format!("{{\"schemaVersion\":2{more},\"config\":{config},\"layers\":[{}]}}", layers.join(","))
}

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn refusal(text: &str, said: Option<&str>) -> String {
    read(text.as_bytes(), said).unwrap_err().to_string()
}

#[test]
fn manifests_of_both_kinds_are_read() {
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    for text in
        [image(&[GZIP, docker], ""), image(&[GZIP, docker], &format!(",\"mediaType\":\"{MANIFEST}\""))]
    {
        for said in [None, Some(MANIFEST), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")]
        {
            let Document::Manifest(manifest) = read(text.as_bytes(), said).unwrap() else {
                unreachable!("{text}")
            };
            assert_eq!((manifest.layers.len(), manifest.config.size), (2, 7));
        }
    }
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", descriptor(MANIFEST));
    assert!(matches!(read(index.as_bytes(), Some(INDEX)), Ok(Document::Index(list)) if list.len() == 1));
}

#[test]
fn a_document_is_one_thing_only() {
    let both = image(&[GZIP], ",\"manifests\":[]");
    assert!(refusal(&both, None).contains("an index as well"));
    assert!(refusal(&image(&[GZIP], ""), Some(INDEX)).contains("said to be"));
    assert!(refusal(&image(&[GZIP], &format!(",\"mediaType\":\"{INDEX}\"")), None).contains("said to be"));
    let index = format!("{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"manifests\":[]}}");
    assert!(refusal(&index, None).contains("and is an index"));
    let twice = image(&[GZIP], ",\"mediaType\":\"a\",\"mediaType\":\"b\"");
    assert!(refusal(&twice, None).contains("duplicate field"));
}

#[test]
fn refusals_name_what_is_wrong() {
    for (text, words) in [
        ("".to_owned(), "cannot be read"),
        ("[]".to_owned(), "cannot be read"),
        ("{\"schemaVersion\":2}".to_owned(), "neither `config`"),
        ("{\"schemaVersion\":3,\"manifests\":[]}".to_owned(), "is 3, expected 2"),
        ("{\"manifests\":[]}".to_owned(), "is missing, expected 2"),
        ("{\"schemaVersion\":1,\"fsLayers\":[],\"history\":[]}".to_owned(), "schema 1"),
        (
            image(&["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"], ""),
            "layer 1 has the type",
        ),
        (
            image(&[GZIP, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"], ""),
            "layer 2 has the type",
        ),
        (image(&["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"], ""), "encrypted"),
        (image(&["text/plain"], ""), "expected a tar"),
        (image(&[GZIP; LAYERS_MAX + 1], ""), "more than the limit of 500"),
        (image(&[GZIP], "").replace("image.config", "thing.config"), "an artifact of type"),
        (image(&[GZIP], "").replace("\"size\":7", "\"size\":-7"), "cannot be read"),
        (image(&[GZIP], "").replace(D, "sha256:aa"), "cannot be read"),
        (image(&[GZIP], "").replace(D, "sha512:aa"), "cannot be read"),
        (image(&[GZIP], "").replace(D, "sha256:../../../../../../etc/passwd"), "cannot be read"),
    ] {
        let found = refusal(&text, None);
        assert!(found.contains(words), "{text}: {found}");
    }
    assert!(
        refusal("{\"schemaVersion\":2}", Some("application/vnd.docker.distribution.manifest.v1+prettyjws"))
            .contains("schema 1")
    );
    let deep = "[".repeat(100_000);
    assert!(refusal(&deep, None).contains("cannot be read"));
}

fn entry(platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
    let platform = platform.map(|(os, architecture, variant)| Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    });
    let media_type = MANIFEST.to_owned();
    Descriptor { media_type, digest: D.parse().unwrap(), size: 1, platform, annotations: Default::default() }
}

#[test]
fn the_best_platform_is_chosen() {
    let amd64 = |variant| Some(("linux", "amd64", variant));
    let index = [
        entry(Some(("windows", "amd64", None))),
        entry(amd64(None)),
        entry(amd64(Some("v2"))),
        entry(amd64(Some("v4"))),
        entry(Some(("linux", "arm64", None))),
        entry(Some(("linux", "arm", Some("v6")))),
        entry(Some(("linux", "arm", Some("v7")))),
        entry(Some(("unknown", "unknown", None))),
    ];
    let chosen = |architecture: &str, variant: Option<&str>| {
        let wanted = entry(Some(("linux", architecture, variant))).platform.unwrap();
        choose(&index, &wanted)
            .map(|found| index.iter().position(|entry| std::ptr::eq(entry, found)).unwrap())
    };
    assert_eq!(chosen("amd64", None), Ok(1));
    assert_eq!(chosen("amd64", Some("v3")), Ok(2));
    assert_eq!(chosen("amd64", Some("v4")), Ok(3));
    assert_eq!(chosen("arm64", Some("v8")), Ok(4));
    assert_eq!(chosen("arm", Some("v7")), Ok(6));
    assert_eq!(chosen("arm", Some("v6")), Ok(5));
    let words = chosen("riscv64", None).unwrap_err().to_string();
    assert!(words.contains("linux/riscv64") && words.contains("linux/arm/v6, linux/arm/v7"), "{words}");
    assert!(!words.contains("unknown"), "{words}");
    let alone = [entry(None)];
    assert!(choose(&alone, &Platform::host()).is_ok());
    assert!(choose(&[], &Platform::host()).unwrap_err().to_string().contains("no platform at all"));
}

#[test]
fn configurations_are_read_as_docker_and_oci_write_them() {
    let Ok(Document::Manifest(manifest)) = read(image(&[GZIP], "").as_bytes(), None) else { unreachable!() };
    let text = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2026-01-01T00:00:00Z\",\"config\":{{\
         \"Env\":[\"PATH=/bin\",\"A=b=c\",\"NAME\",\"=x\"],\"WorkingDir\":\"/srv\",\"User\":\"\",\"Cmd\":null,\
         \"Entrypoint\":[\"/init\"],\"ExposedPorts\":{{\"80/tcp\":{{}}}},\"StopSignal\":\"SIGQUIT\",\
         \"Healthcheck\":{{\"Test\":[\"CMD\",\"true\"],\"Interval\":5000000000}}}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{D}\"]}}}}"
    );
    let file = read_config(text.as_bytes(), &manifest).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(file.config.env, [pair("PATH", "/bin"), pair("A", "b=c")]);
    assert_eq!((file.config.workdir.as_deref(), file.config.user.as_deref()), (Some("/srv"), None));
    assert_eq!((file.config.entrypoint.len(), file.config.cmd.len()), (1, 0));
    assert_eq!(file.config.exposed_ports, ["80/tcp"]);
    assert_eq!(file.config.healthcheck.unwrap().interval_ns, Some(5_000_000_000));
    assert_eq!(file.platform.to_string(), "linux/amd64");
    let none = text.replace(&format!("[\"{D}\"]"), "[]");
    assert!(read_config(none.as_bytes(), &manifest).unwrap_err().to_string().contains("0 diff ids"));
    let nul = text.replace("/srv", "/s\\u0000");
    assert!(read_config(nul.as_bytes(), &manifest).unwrap_err().to_string().contains("NUL"));
    let null = format!(
        "{{\"architecture\":\"a\",\"os\":\"b\",\"config\":null,\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{D}\"]}}}}"
    );
    assert_eq!(read_config(null.as_bytes(), &manifest).unwrap().config, Default::default());
}
