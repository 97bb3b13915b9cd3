//! Pulls from a server that misbehaves: each ends as specified, and nothing half-made is ever visible.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/pull.rs"]
mod pull;

use std::sync::Arc;
use std::time::Duration;

use fixtures::http::{Fault, Resource, Server};
use fixtures::tarballs::{Tarball, gzip};
use images::{Digest, ImageErrorKind, InProcess, Progress, PullEvent, Reference, obtain};
use pull::{Puller, archive, assert_is_archive};

const PATH: &str = "/rootfs.tar.gz";

fn serve(resource: Resource) -> (Server, String) {
    let server = Server::start();
    server.serve(PATH, resource);
    let url = server.url(PATH);
    (server, url)
}

/// A pull that must succeed; returns the server with its record of requests, and the number of retries.
fn good(resource: Resource) -> (Server, usize) {
    let (server, url) = serve(resource);
    let puller = Puller::new();
    let rootfs = puller.pull(&url, None).unwrap();
    assert_is_archive(&rootfs);
    (server, puller.retries())
}

/// A pull that must fail; returns the error's text.
fn bad(resource: Resource) -> String {
    let (_server, url) = serve(resource);
    Puller::new().refusal(&url, None)
}

fn file() -> Resource {
    Resource::new(archive())
}

#[test]
fn a_good_server() {
    let (server, retries) = good(file());
    assert_eq!((server.requests().len(), retries), (1, 0));
    let (_, retries) = good(file().always(Fault::Chunks));
    assert_eq!(retries, 0, "a length is not needed");
}

#[test]
fn a_reset_is_resumed_with_a_strong_validator() {
    let length = archive().len();
    for tenth in 0..10 {
        let (server, retries) = good(file().fault(Fault::ResetAfter(length * tenth / 10)));
        assert_eq!(retries, 1, "at {tenth}0 %");
        let second = &server.requests()[1].headers;
        // What was sent before a reset may be lost on the way, so the offset is not exact.
        if let Some(range) = second.get("range") {
            assert!(range.starts_with("bytes="), "{range}");
            assert_eq!(second.get("if-range"), file().etag.as_ref());
        }
        assert!(server.body_bytes() <= (length * 2) as u64);
    }
}

#[test]
fn a_broken_connection_is_resumed_exactly() {
    // An orderly close in the middle: everything that was sent arrives.
    let (server, _) = good(file().fault(Fault::CloseAfter(100_000)));
    assert_eq!(server.requests()[1].headers["range"], "bytes=100000-");
    assert_eq!(server.body_bytes(), archive().len() as u64, "no byte twice");
}

#[test]
fn status_416_is_the_end_or_a_contradiction() {
    // Every byte came, only the end of the chunks did not: nothing is left, and the server says so.
    let (server, _) = good(file().fault(Fault::UnfinishedChunks));
    assert_eq!(server.requests().len(), 2);
    let nothing = vec![("Content-Range".to_owned(), "bytes */50000".to_owned())];
    let (server, _) = good(file().fault(Fault::CloseAfter(100_000)).fault(Fault::Status(416, nothing)));
    let requests = server.requests();
    assert!(requests[1].headers.contains_key("range"));
    assert!(!requests[2].headers.contains_key("range"), "the server contradicts itself: from the start");
}

#[test]
fn without_a_strong_validator_it_starts_again() {
    let weak = Resource { etag: Some("W/\"x\"".to_owned()), ..file() };
    for resource in [weak, file().without_validators()] {
        let (server, retries) = good(resource.fault(Fault::ResetAfter(100_000)));
        assert_eq!(retries, 1);
        assert!(server.requests().iter().all(|request| !request.headers.contains_key("range")));
    }
}

#[test]
fn a_server_that_ignores_or_confuses_ranges_is_asked_for_everything() {
    good(file().fault(Fault::ResetAfter(100_000)).fault(Fault::IgnoreRange));
    good(file().fault(Fault::ResetAfter(150_000)).fault(Fault::WrongRange(7)));
}

/// Puts another file in place as soon as a try has failed.
struct Swap(Server);

impl Progress for Swap {
    fn event(&self, event: PullEvent) {
        if matches!(event, PullEvent::Retrying { .. }) {
            self.0.serve(PATH, file());
        }
    }
}

#[test]
fn a_file_that_changed_in_the_middle_is_taken_from_its_start() {
    let old = gzip(&Tarball::new().file("old", vec![7; 300_000]).finish());
    let (server, url) = serve(Resource::new(old).fault(Fault::CloseAfter(300)));
    let puller = Puller::new();
    let reference = Reference::parse(&url, puller.home.path()).unwrap();
    let swap = Arc::new(Swap(server));
    let unpacker = Arc::new(InProcess::CALLER);
    let rootfs =
        pull::run(obtain(&reference, None, &puller.store, unpacker, &puller.settings, swap.clone())).unwrap();
    assert_is_archive(&rootfs);
    assert_eq!(pull::entries(&rootfs.layers[0]), ["etc", "noise"], "nothing of the old file");
    assert_eq!(swap.0.requests()[1].headers["range"], "bytes=300-");
    assert_eq!(pull::entries(&puller.store.path().join("tmp")), Vec::<String>::new());
}

#[test]
fn busy_servers_are_tried_again() {
    let soon = vec![("Retry-After".to_owned(), "0".to_owned())];
    let (_, retries) = good(file().fault(Fault::Status(429, soon)).fault(Fault::Status(503, Vec::new())));
    assert_eq!(retries, 2);

    let long = vec![("Retry-After".to_owned(), "3600".to_owned())];
    let (server, url) = serve(file().fault(Fault::Status(429, long)));
    let puller = Puller::new();
    puller.pull(&url, None).unwrap();
    let heard = puller.heard.0.lock().unwrap();
    let after = heard.iter().find_map(|event| match event {
        PullEvent::Retrying { after, attempt: 2, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(after, Some(puller.settings.retry_after_max), "capped");
    drop(server);
}

#[test]
fn five_tries_are_the_end() {
    let (server, url) = serve(file().always(Fault::Status(500, Vec::new())));
    let puller = Puller::new();
    let error = puller.pull(&url, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot download {url}: the server says 500 Internal Server Error (after 5 tries)")
    );
    assert_eq!(error.kind(), ImageErrorKind::Network);
    assert_eq!(server.requests().len(), 5);
    assert!(bad(file().always(Fault::ResetAfter(1000))).contains("after 5 tries"));
}

#[test]
fn what_stays_wrong_is_not_tried_again() {
    for code in [400, 401, 403, 404, 410, 418] {
        let (server, url) = serve(file().always(Fault::Status(code, Vec::new())));
        let error = Puller::new().refusal(&url, None);
        assert!(error.contains(&format!("the server says {code}")), "{error}");
        assert_eq!(server.requests().len(), 1, "{code}");
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let length = archive().len();
    let short = bad(file().without_validators().always(Fault::ContentLength(length + 10)));
    assert!(short.contains(&format!("broke off after {length} of {} bytes", length + 10)), "{short}");
    // A client reads no further than the length that it was told.
    let long = bad(file().always(Fault::ContentLength(length - 10)));
    assert!(long.contains("truncated gzip"), "{long}");
    let unfinished = bad(file().without_validators().always(Fault::UnfinishedChunks));
    assert!(unfinished.contains("broke off"), "{unfinished}");
}

#[test]
fn a_wrong_digest_is_never_published() {
    let (_server, url) = serve(file());
    let puller = Puller::new();
    let error = puller.pull(&url, Some(Digest::of(b"other"))).unwrap_err();
    puller.assert_nothing_visible();
    let [expected, found] = [Digest::of(b"other"), Digest::of(&archive())];
    assert_eq!(error.to_string(), format!("{url} has the wrong digest: expected {expected}, found {found}"));
    assert!(error.hint().unwrap().contains(&found.hex()));
    assert_eq!(error.kind(), ImageErrorKind::Image);
    // Not even an archive: the digest is what was asked for, so the digest is what is told.
    let (_server, url) = serve(Resource::new(*b"<html>no</html>"));
    assert!(puller.refusal(&url, Some(expected)).contains("wrong digest"));
    assert!(puller.refusal(&url, None).contains("cannot unpack"));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let (server, _) = serve(file());
    for step in 0..11 {
        server.serve(
            &format!("/{step}"),
            Resource::default().always(Fault::Redirect(format!("/{}", step + 1))),
        );
    }
    server.serve("/10", file());
    assert_is_archive(&Puller::new().pull(&server.url("/0"), None).unwrap());
    server.serve("/loop", Resource::default().always(Fault::Redirect("/loop".to_owned())));
    let error = Puller::new().refusal(&server.url("/loop"), None);
    assert!(error.contains("more than 10 redirects"), "{error}");
    assert_eq!(server.requests().iter().filter(|request| request.path == "/loop").count(), 11);
}

#[test]
fn a_password_stays_with_its_host_and_out_of_errors() {
    let (other, url) = serve(file());
    let (server, _) = serve(Resource::default().always(Fault::Redirect(url)));
    let with_password = server.url(PATH).replace("http://", "http://user:secret@");
    assert_is_archive(&Puller::new().pull(&format!("{with_password}?signature=secret"), None).unwrap());
    assert!(server.requests()[0].headers.contains_key("authorization"));
    assert!(!other.requests()[0].headers.contains_key("authorization"));

    server.serve(PATH, Resource::default().always(Fault::Status(403, Vec::new())));
    let puller = Puller::new();
    let error = puller.pull(&format!("{with_password}?signature=secret"), None).unwrap_err();
    let told = format!("{error} {error:?} {:?} {:?}", error.hint(), puller.heard.0.lock().unwrap());
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("?..."), "{told}");

    drop(server);
    let error = Puller::new().pull(&format!("{with_password}?signature=secret"), None).unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(told.contains("refused") && !told.contains("secret"), "{told}");
}

#[test]
fn servers_that_hang_or_dribble_are_left() {
    let hang = bad(file().always(Fault::HangBeforeHeaders));
    assert!(hang.contains("no answer within 0.6 s (after 5 tries)"), "{hang}");
    let mut puller = Puller::new();
    puller.settings.tries_max = 2;
    let (_server, url) = serve(file().always(Fault::HangAfterHeaders));
    let error = puller.refusal(&url, None);
    assert!(
        error.contains("only 0 bytes came within 0.6 s, expected at least 614 (after 2 tries)"),
        "{error}"
    );
    let (_server, url) = serve(file().always(Fault::Slow(1, Duration::from_millis(50))));
    let error = puller.refusal(&url, None);
    assert!(error.contains("bytes came within 0.6 s"), "{error}");
    // Hanging once is forgiven.
    assert_eq!(good(file().fault(Fault::HangAfterHeaders)).1, 1);
}

#[test]
fn one_download_has_a_deadline_and_a_size() {
    let mut puller = Puller::new();
    puller.settings.total_timeout = Duration::from_millis(100);
    let (_server, url) = serve(file().always(Fault::Slow(2000, Duration::from_millis(20))));
    let error = puller.refusal(&url, None);
    assert!(error.contains("not done after 0.1 s"), "{error}");

    let mut puller = Puller::new();
    puller.settings.bytes_max = 100_000;
    for resource in [file(), file().always(Fault::Chunks)] {
        let (_server, url) = serve(resource);
        let error = puller.refusal(&url, None);
        assert!(error.contains("larger than the limit of 100000 bytes"), "{error}");
    }
}

#[test]
fn a_hostile_archive_ends_the_download() {
    let hostile = gzip(&Tarball::new().file("../x", "x").finish());
    let error = bad(Resource::new(hostile));
    assert!(error.contains("archive entry \"../x\""), "{error}");
}
