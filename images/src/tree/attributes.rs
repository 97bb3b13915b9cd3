//! The extended attributes that unpacking keeps, read back.

use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

use super::known::SumHasher;
use super::line::Sum;
use crate::unpack::is_kept_attribute;

/// XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel.
const NAMES_BYTES_MAX: usize = 64 << 10;
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Enough for the names that nearly all files have: none, or one.
const NAMES_BYTES: usize = 256;

/// Name and value of an extended attribute.
type Attribute = (Vec<u8>, Vec<u8>);

/// Returns names and values, sorted by name.
pub(crate) fn kept_attributes(file: impl AsFd) -> Result<Vec<Attribute>, Errno> {
    let (mut few, mut many) = ([0; NAMES_BYTES], Vec::new());
    let names = match flistxattr(&file, &mut few) {
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(NAMES_BYTES_MAX, 0);
            let length = flistxattr(&file, &mut many[..])?;
            &many[..length]
        }
        Err(Errno::OPNOTSUPP | Errno::NODATA) => &[],
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept_attribute(name)) {
        let mut value = vec![0; VALUE_BYTES_MAX];
        let length = fgetxattr(&file, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Digests them all; `None` if there are none.
pub(super) fn attributes_sum(file: impl AsFd) -> Result<Option<Sum>, Errno> {
    let attributes = kept_attributes(file)?;
    if attributes.is_empty() {
        return Ok(None);
    }
    let mut hasher = SumHasher::default();
    for (name, value) in &attributes {
        // Names hold no NUL, and the length says where a value ends.
        hasher.update(name);
        hasher.update(&[0]);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value);
    }
    Ok(Some(hasher.finish()))
}
