//! Names of entries, taken apart once: where an entry goes, as a parent path and a leaf.

use super::error::{UnpackError, limit, refused};
use super::options::UnpackLimits;

/// NAME_MAX of every Linux filesystem.
const COMPONENT_BYTES_MAX: usize = 255;

/// A clean relative path: components joined by single slashes, no `.`, no `..`.
#[derive(Debug, Default)]
pub(super) struct CleanName {
    path: Vec<u8>,
    /// Where the leaf begins in `path`.
    leaf: usize,
}

impl CleanName {
    /// Takes `name` apart into this value's buffer. Leading slashes are dropped, `..` is refused.
    pub(super) fn set(&mut self, name: &[u8], limits: &UnpackLimits) -> Result<(), UnpackError> {
        self.path.clear();
        self.leaf = 0;
        if name.len() as u64 > limits.name_bytes_max {
            return Err(limit(format!("{} bytes in its name", name.len()), limits.name_bytes_max));
        }
        let mut depth = 0;
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refused("its name holds \"..\"")),
                _ if component.len() > COMPONENT_BYTES_MAX => {
                    let max = COMPONENT_BYTES_MAX as u64;
                    return Err(limit(format!("{} bytes in one part of its name", component.len()), max));
                }
                _ => {}
            }
            depth += 1;
            if depth > limits.depth_max {
                return Err(limit("directories in one path", u64::from(limits.depth_max)));
            }
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.leaf = self.path.len();
            self.path.extend_from_slice(component);
        }
        Ok(())
    }

    /// Whether this is the root itself.
    pub(super) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// Returns the whole path.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the path of the directory above; empty for the root.
    pub(super) fn parent(&self) -> &[u8] {
        &self.path[..self.leaf.saturating_sub(1)]
    }

    /// Returns the last component; empty for the root itself.
    pub(super) fn leaf(&self) -> &[u8] {
        &self.path[self.leaf..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parent_and_leaf() {
        let mut name = CleanName::default();
        let cases: [(&[u8], &[u8], &[u8]); 6] = [
            (b"a", b"", b"a"),
            (b"./a//b/./c/", b"a/b", b"c"),
            (b"/etc/passwd", b"etc", b"passwd"),
            (b"./", b"", b""),
            (b"/", b"", b""),
            (b"...", b"", b"..."),
        ];
        for (text, parent, leaf) in cases {
            name.set(text, &UnpackLimits::default()).unwrap();
            assert_eq!((name.parent(), name.leaf()), (parent, leaf), "{}", text.escape_ascii());
        }
        for text in [&b".."[..], b"a/..", b"../a", b"a/../b", b"/..", &[b'a'; 256], &b"a/".repeat(1025)] {
            assert!(name.set(text, &UnpackLimits::default()).is_err(), "{}", text.escape_ascii());
        }
        name.set(&b"a/".repeat(1024), &UnpackLimits::default()).unwrap();
    }
}
