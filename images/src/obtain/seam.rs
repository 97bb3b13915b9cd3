//! What a stack of single layers gets wrong, and the layer on top that sets it right.
//!
//! A layer may bring `etc/app.conf` without an entry for `etc`. Unpacked alone, `etc` gets made-up attributes, which in a
//! stack would hide those of the layer below. The seam is one more layer with the true attributes of such directories.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use tokio::task::spawn_blocking;

use super::error::ImageError;
use super::image::Plan;
use super::pull::Pull;
use crate::manifest::chain_id;
use crate::store::{LAYER_RECORD, LayerRecord, ROOTFS, Store, StoreError, TREE_RECORD, Work, layer_name};
use crate::tree::{Kind, Lines, Node, Tree};
use crate::unpack::UnpackOptions;

/// Names of all layers together that are looked at for a seam, and so directories of it: 20 MiB of memory. Images of build
/// tools that write no directories have a few hundred.
const NODES_MAX: usize = 30_000;

/// What is to be done about a stack.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seam {
    /// It is right as it is.
    Needless,
    /// An archive of directories has to go on top.
    Tar(Vec<u8>),
    /// A directory of one layer would hide a link of another through which that layer meant to go, or it is too much to
    /// find out.
    Impossible,
}

/// Reads the lists of these layers, the lowest first, and finds out.
pub(super) fn find(store: &Store, names: &[String]) -> Result<Seam, StoreError> {
    let implies = |name: &String| {
        let record = store.layer_record(&store.layer_file(name, ROOTFS));
        record.is_none_or(|record| record.summary.implied > 0)
    };
    if !names.iter().skip(1).any(implies) {
        return Ok(Seam::Needless);
    }
    let Some(trees) = relevant(store, names)? else { return Ok(Seam::Impossible) };
    match settle(&trees) {
        None => Ok(Seam::Impossible),
        Some(directories) if directories.is_empty() => Ok(Seam::Needless),
        Some(directories) => {
            let failed = |error| StoreError::new("make the seam of", store.path(), error);
            archive(&directories).map(Seam::Tar).map_err(failed)
        }
    }
}

/// Reads of each layer what lies at the paths of directories that an upper layer has without an entry, and on the way to
/// them; `None` if that is too much.
fn relevant(store: &Store, names: &[String]) -> Result<Option<Vec<Tree>>, StoreError> {
    let mut paths = BTreeSet::new();
    for name in names.iter().skip(1) {
        for line in list(store, name)? {
            let (path, node) = line.map_err(|error| unread(store, name, error))?;
            if node.implied && !path.is_empty() {
                let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
                paths.extend(ends.map(|end| path[..end].to_vec()));
                paths.insert(path);
            }
            if paths.len() > NODES_MAX {
                return Ok(None);
            }
        }
    }
    let (mut trees, mut nodes) = (Vec::new(), 0);
    for name in names {
        let mut tree = Tree::new();
        for line in list(store, name)? {
            let (path, node) = line.map_err(|error| unread(store, name, error))?;
            if paths.contains(&path) {
                tree.insert(path, node);
            }
        }
        nodes += tree.len();
        if nodes > NODES_MAX {
            return Ok(None);
        }
        trees.push(tree);
    }
    Ok(Some(trees))
}

fn list(store: &Store, name: &str) -> Result<Lines<File>, StoreError> {
    let file = File::open(store.layer_file(name, TREE_RECORD));
    file.and_then(Lines::new).map_err(|error| unread(store, name, error))
}

fn unread(store: &Store, name: &str, error: io::Error) -> StoreError {
    StoreError::new("read", store.layer_file(name, TREE_RECORD), error)
}

/// Returns the directories of the seam with their attributes, parents first; `None` if it cannot be made.
fn settle(trees: &[Tree]) -> Option<Vec<(Vec<u8>, Node)>> {
    let mut wanted = BTreeSet::new();
    for (at, tree) in trees.iter().enumerate().skip(1) {
        for (path, _) in tree.iter().filter(|(path, node)| node.implied && !path.is_empty()) {
            match below(&trees[..at], path) {
                Below::Directory(_) => {
                    // What lies on the way must be there as well, or the seam would make it up.
                    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
                    wanted.extend(ends.map(|end| path[..end].to_vec()).chain([path.clone()]));
                }
                // A link that has been hidden, perhaps by a directory of a layer in between.
                Below::Link => return None,
                Below::Nothing => {}
            }
        }
    }
    let mut seam = Vec::new();
    for path in wanted {
        // Whatever is visible in the whole stack; what a higher layer has deleted or replaced is not sewn.
        if let Below::Directory(node) = below(trees, &path) {
            seam.push((path, node));
        }
    }
    Some(seam)
}

/// What a path is in a stack of layers.
enum Below {
    /// A directory, with the attributes of the highest entry that names it; made-up ones if none does.
    Directory(Node),
    Link,
    Nothing,
}

fn below(trees: &[Tree], path: &[u8]) -> Below {
    let mut made_up = None;
    for tree in trees.iter().rev() {
        match tree.get(path) {
            Some(node) if node.kind == Kind::Directory && !node.implied => {
                return Below::Directory(node.clone());
            }
            Some(node) if node.kind == Kind::Directory => made_up = made_up.or_else(|| Some(node.clone())),
            Some(node) if node.kind == Kind::Symlink && made_up.is_none() => return Below::Link,
            // A file or a whiteout ends what is below.
            Some(_) => break,
            None => {}
        }
        match hidden(tree, path) {
            Hidden::No => {}
            Hidden::Yes => break,
            Hidden::ByLink => return if made_up.is_some() { break } else { Below::Link },
        }
    }
    made_up.map_or(Below::Nothing, Below::Directory)
}

enum Hidden {
    No,
    Yes,
    ByLink,
}

/// Whether a layer hides what lies at this path below it: a directory on the way is gone, replaced or opaque.
fn hidden(tree: &Tree, path: &[u8]) -> Hidden {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    for end in ends {
        match tree.get(&path[..end]) {
            Some(node) if node.kind == Kind::Symlink => return Hidden::ByLink,
            Some(node) if node.kind != Kind::Directory || node.opaque => return Hidden::Yes,
            _ => {}
        }
    }
    Hidden::No
}

/// Writes the archive: directories only, each with its exact time.
fn archive(directories: &[(Vec<u8>, Node)]) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, node) in directories {
        crate::pack::entry(&mut builder, path, node, None, &[], io::empty())?;
    }
    builder.into_inner()
}

impl Pull {
    /// Publishes the seam of an image, unless another run was faster.
    pub(super) async fn sew(&self, plan: &Plan, tar: Vec<u8>) -> Result<(), ImageError> {
        let chain = chain_id(&plan.config.diff_ids);
        let name = layer_name(chain, &format!("{}-seam", self.unpacker.flavour()));
        let _lock = self.lock(&name).await?;
        if self.store.has_layer(&name) {
            return Ok(());
        }
        let (store, unpacker) = (self.store.clone(), self.unpacker.clone());
        let pull_name = self.name.clone();
        let sewing = spawn_blocking(move || {
            let work = Work::new(&store)?;
            let (rootfs, record) = (work.make_rootfs()?, work.create_file(TREE_RECORD)?);
            let options = UnpackOptions { ownership: unpacker.ownership(), ..UnpackOptions::default() };
            let unpacked = unpacker.unpack(Box::new(io::Cursor::new(tar)), rootfs, Some(record), &options);
            let summary = unpacked.map_err(|source| ImageError::Unpack {
                name: pull_name,
                target: work.path(),
                source,
            })?;
            work.write_json(LAYER_RECORD, &LayerRecord::new(summary))?;
            Ok::<_, ImageError>(work.publish(&name, &*unpacker)?)
        });
        sewing.await.map_err(|error| self.internal(error))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::Moment;

    fn node(kind: Kind, mode: u32, implied: bool) -> Node {
        Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Moment::default(),
            size: 0,
            sum: None,
            target: None,
            opaque: false,
            implied,
            attributes: None,
        }
    }

    /// `d755 a/b` is a directory, `i a/b` an implied one, `o700 a` an opaque one, `l a`, `f a`, `w a`.
    fn tree(lines: &[&str]) -> Tree {
        let read = |line: &&str| {
            let (what, path) = line.split_once(' ').unwrap();
            let mode = u32::from_str_radix(&what[1..], 8).unwrap_or(0o755);
            let kind = match &what[..1] {
                "l" => Kind::Symlink,
                "f" => Kind::File,
                "w" => Kind::Whiteout,
                _ => Kind::Directory,
            };
            let node = Node { opaque: what.starts_with('o'), ..node(kind, mode, what.starts_with('i')) };
            (path.as_bytes().to_vec(), node)
        };
        lines.iter().map(read).collect()
    }

    fn seam(layers: &[&[&str]]) -> Option<Vec<String>> {
        let trees: Vec<Tree> = layers.iter().map(|lines| tree(lines)).collect();
        let settled = settle(&trees)?;
        Some(
            settled
                .iter()
                .map(|(path, node)| format!("{:o} {}", node.mode, String::from_utf8_lossy(path)))
                .collect(),
        )
    }

    #[test]
    fn attributes_come_from_the_highest_entry_that_names_the_directory() {
        let none: Vec<String> = Vec::new();
        assert_eq!(seam(&[&["i a", "f a/x"]]), Some(none.clone()));
        assert_eq!(seam(&[&["d700 a"], &["d711 a"]]), Some(none.clone()));
        assert_eq!(seam(&[&["d700 a"], &["i a", "f a/x"]]), Some(vec!["700 a".to_owned()]));
        assert_eq!(seam(&[&["d700 a"], &["d711 a"], &["i a"], &["i a"]]), Some(vec!["711 a".to_owned()]));
        assert_eq!(
            seam(&[&["d700 a", "d711 a/b"], &["i a", "i a/b"]]),
            Some(vec!["700 a".to_owned(), "711 a/b".to_owned()])
        );
        // A new directory has no other attributes than those made up for it.
        assert_eq!(seam(&[&["d700 b"], &["i a"]]), Some(none.clone()));
        // Deleted in between, or hidden by an opaque parent: the old one does not count.
        assert_eq!(seam(&[&["d700 a"], &["w a"], &["i a"]]), Some(none.clone()));
        assert_eq!(
            seam(&[&["d755 a", "d700 a/b"], &["o750 a"], &["i a", "i a/b"]]),
            Some(vec!["750 a".to_owned()])
        );
        // Deleted above: nothing to sew.
        assert_eq!(seam(&[&["d700 a"], &["i a"], &["w a"]]), Some(none.clone()));
        assert_eq!(seam(&[&["d700 a"], &["i a"], &["f a"]]), Some(none));
    }

    #[test]
    fn a_way_through_a_link_of_another_layer_is_merged() {
        assert_eq!(seam(&[&["l lib", "d755 usr"], &["i lib", "f lib/x"]]), None);
        assert_eq!(seam(&[&["l a"], &["i a", "i a/b", "f a/b/x"]]), None);
        // An entry that names the directory replaces the link on purpose.
        assert_eq!(
            seam(&[&["l lib"], &["d755 lib"], &["i lib", "f lib/x"]]),
            Some(vec!["755 lib".to_owned()])
        );
    }
}
