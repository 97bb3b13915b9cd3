//! `runner image`: what was unpacked, and what is in the store.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use images::manifest::{Descriptor, Manifest};
use images::{LocalName, Pruned, Rootfs, StoredImage, UnpackSummary, Verified};
use serde_json::{Value, json};

use super::format::{count, size};
use super::plain::show_name;
use super::sink::Sink;

/// Digits of a digest in a list: enough to name it by.
const DIGITS: usize = 12;

/// Prints what is there now, and what was left out.
pub fn unpacked(sink: &mut Sink, directory: &Path, summary: &UnpackSummary) {
    let bytes = size(summary.bytes);
    sink.line(&format!("unpacked {} entries, {bytes}, to {}", summary.entries, directory.display()));
    sink.line(&format!("diff id {}", summary.tar_sha256));
    for note in &summary.notes {
        sink.line(&format!("note: {note}"));
    }
    if summary.notes_dropped > 0 {
        sink.line(&format!("note: {} more", summary.notes_dropped));
    }
    sink.flush();
}

/// Prints `DIGEST NAME` of an image that is in the store now, and what was left out of it.
pub fn pulled(sink: &mut Sink, rootfs: &Rootfs) {
    let digest = rootfs.digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
    sink.line(&format!("{digest} {}", show_name(&rootfs.reference)));
    for note in &rootfs.notes {
        sink.line(&format!("note: {}", show_name(note)));
    }
    sink.flush();
}

/// Prints what was imported.
pub fn imported(sink: &mut Sink, name: &LocalName, rootfs: &Rootfs) {
    let digest = rootfs.digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
    sink.line(&format!("{digest} local:{}", name.as_str()));
    sink.flush();
}

/// Prints a table of images, or an array.
pub fn list(sink: &mut Sink, images: &[StoredImage], as_json: bool) {
    if as_json {
        let list: Vec<Value> = images.iter().map(value).collect();
        return print(sink, &json!(list));
    }
    if !images.is_empty() {
        sink.line(&format!(
            "{:DIGITS$}  {:>10}  {:>10}  {:>8}  NAME",
            "DIGEST", "PULLED", "UNPACKED", "USED"
        ));
    }
    for image in images {
        let digest = short(image);
        let used = age(image.used);
        let names = if image.names.is_empty() { "-".to_owned() } else { show_name(&image.names.join(" ")) };
        let (pulled, unpacked) = (size(image.bytes), size(image.unpacked_bytes));
        sink.line(&format!("{digest}  {pulled:>10}  {unpacked:>10}  {used:>8}  {names}"));
    }
    sink.flush();
}

/// Prints everything about one image.
pub fn inspect(sink: &mut Sink, image: &StoredImage, manifest: Option<&Manifest>, as_json: bool) {
    let blobs = manifest.map(|manifest| &manifest.layers[..]).unwrap_or_default();
    if as_json {
        let blob =
            |blob: &Descriptor| json!({"digest": blob.digest, "bytes": blob.size, "type": blob.media_type});
        let mut value = value(image);
        value["blobs"] = blobs.iter().map(blob).collect();
        return print(sink, &value);
    }
    let mut field = |name: &str, text: &str| sink.line(&format!("{name:<10} {}", show_name(text)));
    field("digest", &image.digest.to_string());
    for name in &image.names {
        field("name", name);
    }
    if let Some(platform) = &image.platform {
        field("platform", &platform.to_string());
    }
    if let Some(created) = &image.created {
        field("created", created);
    }
    field("size", &format!("{} pulled, {} unpacked", size(image.bytes), size(image.unpacked_bytes)));
    field("used", &format!("{} ago", age(image.used)));
    let config = &image.config;
    for (name, text) in [("user", &config.user), ("workdir", &config.workdir), ("stop", &config.stop_signal)]
    {
        if let Some(text) = text {
            field(name, text);
        }
    }
    for (name, words) in
        [("entrypoint", &config.entrypoint), ("cmd", &config.cmd), ("ports", &config.exposed_ports)]
    {
        if !words.is_empty() {
            field(name, &words.join(" "));
        }
    }
    if let Some(check) = &config.healthcheck {
        field("health", &check.test.join(" "));
    }
    for (name, value) in &config.env {
        field("env", &format!("{name}={value}"));
    }
    for (name, value) in &config.labels {
        field("label", &format!("{name}={value}"));
    }
    for (index, layer) in image.layers.iter().enumerate() {
        let blob = blobs.get(index);
        let pulled = blob.map(|blob| format!("  {}  {}", size(blob.size), blob.media_type));
        field("layer", &format!("{layer}{}", pulled.unwrap_or_default()));
    }
    sink.flush();
}

/// Prints what a removal by name did.
pub fn removed(sink: &mut Sink, name: &str, pruned: &Pruned) {
    let name = show_name(name);
    match pruned.images.len() {
        0 => sink.line(&format!("{name}: name removed; the image has others")),
        _ => sink.line(&format!("{name}: removed, {} freed", size(pruned.bytes))),
    }
    failures(sink, pruned);
}

/// Prints what went, or would go.
pub fn pruned(sink: &mut Sink, pruned: &Pruned, dry_run: bool, as_json: bool) {
    if as_json {
        let list = |images: &[StoredImage]| images.iter().map(value).collect::<Vec<_>>();
        let (removed, in_use) = (list(&pruned.images), list(&pruned.in_use));
        let text = json!({"v": 1, "dry_run": dry_run, "removed": removed, "in_use": in_use,
            "freed_bytes": pruned.bytes, "failed": pruned.failed});
        return print(sink, &text);
    }
    let word = if dry_run { "would go" } else { "removed" };
    for image in &pruned.images {
        sink.line(&format!("{} {word}: {}", short(image), show_name(&image.names.join(" "))));
    }
    for image in &pruned.in_use {
        sink.line(&format!("{} in use: {}", short(image), show_name(&image.names.join(" "))));
    }
    let images = count(pruned.images.len() as u64, "image");
    sink.line(&format!("{images} {word}, {} freed", size(pruned.bytes)));
    failures(sink, pruned);
}

fn failures(sink: &mut Sink, pruned: &Pruned) {
    for what in &pruned.failed {
        sink.line(&format!("not removed: {}", show_name(what)));
    }
    sink.flush();
}

/// Prints what has changed, and how much was looked at.
pub fn verified(sink: &mut Sink, found: &[Verified], as_json: bool) {
    if as_json {
        let one = |one: &Verified| json!({"name": one.name, "faults": one.faults, "skipped": one.skipped});
        let list: Vec<Value> = found.iter().map(one).collect();
        return print(sink, &json!({"v": 1, "verified": list}));
    }
    let mut faulty = 0;
    for one in found {
        for fault in &one.faults {
            sink.line(&format!("{}: {}", show_name(&one.name), show_name(fault)));
        }
        if let Some(why) = &one.skipped {
            sink.line(&format!("{}: not read: {}", show_name(&one.name), show_name(why)));
        }
        faulty += u64::from(!one.faults.is_empty());
    }
    let all = count(found.len() as u64, "tree or document");
    match faulty {
        0 => sink.line(&format!("{all}: as they were put there")),
        number => {
            sink.line(&format!("{all}: {number} changed; `runner image remove` the image and pull it again"));
        }
    }
    sink.flush();
}

/// Prints where an image was written to.
pub fn exported(sink: &mut Sink, image: &StoredImage, target: &Path) {
    sink.line(&format!("{} {}", image.digest, show_name(&target.to_string_lossy())));
    sink.flush();
}

fn short(image: &StoredImage) -> String {
    image.digest.hex().chars().take(DIGITS).collect()
}

fn print(sink: &mut Sink, value: &Value) {
    // A value of ours has no keys that JSON could not have.
    sink.line(&serde_json::to_string_pretty(value).unwrap_or_default());
    sink.flush();
}

/// The JSON of an image, version 1.
fn value(image: &StoredImage) -> Value {
    let used = image.used.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "v": 1,
        "digest": image.digest,
        "names": image.names,
        "imported": image.imported,
        "platform": image.platform.as_ref().map(ToString::to_string),
        "created": image.created,
        "layers": image.layers,
        "bytes": image.bytes,
        "unpacked_bytes": image.unpacked_bytes,
        "used": used.as_secs(),
        "config": image.config,
    })
}

/// How long ago, in one unit.
fn age(then: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
