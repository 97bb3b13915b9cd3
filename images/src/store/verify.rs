//! Whether what is in the store is still what was put there.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{BLOBS, LAYERS, ROOTFS, Store, StoreError, TREE_RECORD, open_directory};
use crate::digest::Digest;
use crate::tree::{Differences, Lines, compare};
use crate::unpack::{Ownership, Unpacker};

/// Differences that are told of one tree.
const DIFFERENCES_MAX: usize = 100;

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The tree's or document's name in the store.
    pub name: String,
    /// What is wrong, in words; nothing if all is well.
    pub faults: Vec<String>,
    /// Why it could not be looked at.
    pub skipped: Option<String>,
}

impl Store {
    /// Reads everything again and compares: each tree with its list, each document with its digest, each image with what it
    /// needs. With `trees`, only these.
    pub fn verify(
        &self,
        trees: Option<&[String]>,
        unpacker: &dyn Unpacker,
    ) -> Result<Vec<Verified>, StoreError> {
        let mut found = Vec::new();
        for name in self.names(LAYERS)? {
            if trees.is_none_or(|trees| trees.contains(&name)) {
                found.push(self.verify_tree(name, unpacker));
            }
        }
        for tree in trees.unwrap_or_default() {
            if !self.has_layer(tree) {
                let faults = vec!["it is missing: pull the image again".to_owned()];
                found.push(Verified { name: tree.clone(), faults, skipped: None });
            }
        }
        if trees.is_none() {
            for name in self.names(BLOBS)? {
                let here = name.parse::<Digest>().ok().map(|digest| self.blob(digest)).transpose()?.flatten();
                let faults = if here.is_some() {
                    Vec::new()
                } else {
                    vec!["its content has another digest".to_owned()]
                };
                found.push(Verified { name, faults, skipped: None });
            }
        }
        Ok(found)
    }

    fn verify_tree(&self, name: String, unpacker: &dyn Unpacker) -> Verified {
        let flavour = unpacker.flavour();
        let own = name.split_once('.').is_some_and(|(_, of)| {
            of.strip_prefix(flavour).is_some_and(|rest| matches!(rest, "" | "-layer" | "-seam" | "-merged"))
        });
        if !own {
            let skipped = Some("its files belong to other ids than this call may read".to_owned());
            return Verified { name, faults: Vec::new(), skipped };
        }
        match self.compare_tree(&name, unpacker) {
            Ok(faults) => Verified { name, faults, skipped: None },
            Err(what) => Verified { name, faults: vec![what], skipped: None },
        }
    }

    fn compare_tree(&self, name: &str, unpacker: &dyn Unpacker) -> Result<Vec<String>, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        // While it is read, nobody removes it.
        let Some((tree, _lease)) = self.layer(name).map_err(|error| words(&error))? else {
            return Err("it has no tree".to_owned());
        };
        let record = self.layer_record(&tree).ok_or("its record cannot be read")?;
        let was = record.summary.tree_sha256.ok_or("it was unpacked without a list to compare with")?;
        let list = memfd_create("list", MemfdFlags::CLOEXEC).map_err(|errno| words(&errno))?;
        let mut list = File::from(list);
        let out = list.try_clone().map_err(|error| words(&error))?;
        let handle =
            open_directory(&*self.layers, format!("{name}/{ROOTFS}")).map_err(|errno| words(&errno))?;
        let is = unpacker.record(handle, out).map_err(|error| words(&error))?;
        if is == was {
            return Ok(Vec::new());
        }
        list.seek(SeekFrom::Start(0)).map_err(|error| words(&error))?;
        let is = Lines::new(list).map_err(|error| words(&error))?;
        let unread = |error| format!("its list cannot be read: {error}");
        let old = File::open(self.layer_file(name, TREE_RECORD)).map_err(|error| words(&error))?;
        let was = Lines::new(old).map_err(unread)?;
        // Which directories no entry named stands in the list only, and is no difference.
        let with_owners = unpacker.ownership() != Ownership::Caller;
        let Differences { mut list, more } =
            compare(was, is, with_owners, DIFFERENCES_MAX).map_err(unread)?;
        if more > 0 {
            list.push(format!("and {more} more"));
        }
        Ok(list)
    }
}
