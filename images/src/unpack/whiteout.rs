//! Whiteouts: names that begin with `.wh.` delete what earlier layers put into the directory.
//!
//! They never touch what the same layer brings, in whatever order the archive has them
//! (OCI image specification, "Image Layer Filesystem Changeset").

use rustix::io::Errno;

use super::archive::Entry;
use super::create::Tree;
use super::error::{UnpackError, refused, shown, system};
use super::header::Kind;
use super::name::CleanName;

const PREFIX: &[u8] = b".wh.";
/// Names of AUFS's own bookkeeping; only the opaque mark means something elsewhere.
const BOOKKEEPING: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the name of an entry asks for.
enum Whiteout<'a> {
    /// An ordinary entry.
    No,
    /// AUFS's files, which mean nothing here.
    Ignored,
    /// Delete everything in the directory.
    Opaque,
    /// Delete this name in the directory.
    Delete(&'a [u8]),
}

/// Carries out a whiteout; returns false for an ordinary entry, which is then created.
pub(super) fn apply(tree: &mut Tree<'_>, entry: &Entry, name: &CleanName) -> Result<bool, UnpackError> {
    if tree.layer.is_none() && tree.marks.is_none() {
        return Ok(false);
    }
    let wanted = read(name)?;
    let ordinary = matches!(wanted, Whiteout::No);
    if !ordinary && !matches!(wanted, Whiteout::Ignored) && entry.kind != Kind::File {
        return Err(refused("a whiteout that is not a regular file"));
    }
    if tree.marks.is_some() && !matches!(wanted, Whiteout::Ignored) {
        return remember(tree, name, &wanted);
    }
    let Some(layer) = &mut tree.layer else {
        tree.notes.add(|| format!("{}: left out", shown(&entry.name)));
        return Ok(true);
    };
    let parent = match (&wanted, tree.places.directory(name.parent())) {
        (Whiteout::No, _) => return Ok(false),
        (Whiteout::Ignored, _) => {
            tree.notes.add(|| format!("{}: left out", shown(&entry.name)));
            return Ok(true);
        }
        // There is nothing to delete.
        (_, Err(Errno::NOENT | Errno::NOTDIR)) => return Ok(true),
        (_, result) => result.map_err(system("open its directory"))?,
    };
    match wanted {
        Whiteout::Delete(leaf) => layer.delete(parent, leaf)?,
        Whiteout::Opaque => layer.delete_all(parent)?,
        Whiteout::No | Whiteout::Ignored => {}
    }
    // The kept handle may be of a directory that is gone now.
    tree.places.forget();
    Ok(true)
}

/// Keeps a whiteout of a stacked layer for the end.
fn remember(tree: &mut Tree<'_>, name: &CleanName, wanted: &Whiteout<'_>) -> Result<bool, UnpackError> {
    let max = tree.marks_bytes_max();
    let Some(marks) = &mut tree.marks else { return Ok(false) };
    match wanted {
        Whiteout::No | Whiteout::Ignored => return Ok(false),
        Whiteout::Opaque => marks.opaque(name.parent(), max)?,
        Whiteout::Delete(leaf) => marks.delete(name.parent(), leaf, max)?,
    }
    Ok(true)
}

fn read(name: &CleanName) -> Result<Whiteout<'_>, UnpackError> {
    let mut above = name.parent().split(|byte| *byte == b'/');
    if let Some(part) = above.find(|part| part.starts_with(PREFIX)) {
        return match part.starts_with(BOOKKEEPING) {
            true => Ok(Whiteout::Ignored),
            false => Err(refused("a whiteout as a directory")),
        };
    }
    let leaf = name.leaf();
    Ok(match leaf.strip_prefix(PREFIX) {
        None => Whiteout::No,
        Some(_) if leaf == OPAQUE => Whiteout::Opaque,
        Some(b"" | b"." | b"..") => return Err(refused("a whiteout that names nothing")),
        Some(_) if leaf.starts_with(BOOKKEEPING) => Whiteout::Ignored,
        Some(target) => Whiteout::Delete(target),
    })
}
