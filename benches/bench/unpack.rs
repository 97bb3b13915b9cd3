//! Unpacking a real Debian root filesystem, with the tarball in the page cache and the target empty.

use crate::compare::{Contender, Measured, compare};
use crate::lab::{Lab, finish};
use crate::table::Table;
use crate::targets::{Place, Targets};
use fixtures::Compression;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// How the tarball is compressed.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Gzip,
    Zstd,
}

impl Format {
    fn compression(self) -> Compression {
        match self {
            Format::Gzip => Compression::Gzip,
            Format::Zstd => Compression::Zstd,
        }
    }
}

/// Who unpacks how fast.
pub fn table(lab: &Lab, format: Format, place: Place) -> Table {
    if !fixtures::debian::available(&[]) {
        return Table::left_out("ms", fixtures::debian::WHAT_IT_TAKES);
    }
    let tarball = fixtures::debian::tarball(&[], format.compression());
    let tarball = tarball.as_path();
    let (external, tar_flag) = match format {
        Format::Gzip => ("gzip", "--gzip"),
        Format::Zstd => ("zstd", "--zstd"),
    };
    let targets = Targets::new(lab, place);
    let targets = &targets;
    let runner = &lab.runner;
    let contenders = vec![
        Contender::new("decompress only", "the same decoder, to nowhere", move || {
            decompress(tarball, format)
        }),
        Contender::new("gzip -dc / zstd -dc", "the system's decoder, to nowhere", move || {
            let script = format!("exec {external} -dc \"$0\" >/dev/null");
            timed(Command::new("sh").arg("-c").arg(script).arg(tarball))
        }),
        Contender::new("runner image unpack", "checked paths, owners, times, digest", move || {
            let target = targets.fresh()?;
            // The command wants to make it itself.
            fs::remove_dir(&target).map_err(|error| error.to_string())?;
            let mut command = Command::new(runner);
            unpacked(
                command.env("RUNNER_HOME", lab.home()).args(["image", "unpack"]).arg(tarball).arg(&target),
                &target,
            )
        }),
        Contender::new("GNU tar", "with the system's decoder in a pipe", move || {
            let target = targets.fresh()?;
            unpacked(Command::new("tar").args([tar_flag, "-xf"]).arg(tarball).arg("-C").arg(&target), &target)
        }),
        Contender::new("bsdtar", "with libarchive's decoder", move || {
            let target = targets.fresh()?;
            unpacked(Command::new("bsdtar").arg("-xpf").arg(tarball).arg("-C").arg(&target), &target)
        }),
    ];
    let rows = compare(contenders, lab.rounds(if place == Place::Memory { 7 } else { 3 }));
    targets.remove();
    Table::new("ms", Some("decompress only"), rows)
}

fn decompress(tarball: &Path, format: Format) -> Measured {
    let started = Instant::now();
    fixtures::archive::decompress(tarball, format.compression()).map_err(|error| error.to_string())?;
    Ok(vec![started.elapsed().as_secs_f64() * 1000.0])
}

/// Times a command that must leave a Debian in `target`.
fn unpacked(command: &mut Command, target: &Path) -> Measured {
    let measured = timed(command)?;
    let is_there =
        ["usr/lib/os-release", "etc/passwd", "usr/bin/perl"].iter().all(|name| target.join(name).is_file());
    is_there.then_some(measured).ok_or_else(|| "it ended well and unpacked nothing".to_owned())
}

fn timed(command: &mut Command) -> Measured {
    let started = Instant::now();
    finish(command)?;
    Ok(vec![started.elapsed().as_secs_f64() * 1000.0])
}
