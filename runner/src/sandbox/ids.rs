//! Id maps: which id inside a step is which id on the host. Arithmetic only.
//!
//! U and G are the step's user and group inside; W is the owner of the workspace; B begins the job's private range.
//! Host uid 0 is never mapped. Rules of user_namespaces(7): a map is one-to-one, has at most 340 extents, and each
//! extent lies within one extent of the parent's map.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many ids a step has, where the host grants a range.
pub const RANGE: u32 = 65_536;

/// Where a step's ids come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The keeper is root: a private range of [`RANGE`] host ids that begins at `base`.
    Root {
        /// B: the first host id of the range.
        base: u32,
    },
    /// An ordinary user with subids, or root of a container with ids of its own. The zygote's user namespace maps 0 to the
    /// caller and 1.. to the others.
    Subids {
        /// How many ids a step has, the caller's among them: [`RANGE`], in a container what there is.
        count: u32,
    },
    /// An ordinary user without: one id.
    Single,
}

impl Identity {
    /// Whether the zygote's user namespace has more ids than the caller's.
    pub fn is_subids(self) -> bool {
        matches!(self, Self::Subids { .. })
    }
}

/// One line of a uid_map or gid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A whole map, for users or for groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap(pub Vec<Extent>);

impl IdMap {
    /// Keeps the extents that are not empty.
    fn of(extents: &[(u32, u32, u32)]) -> Self {
        let extents = extents.iter().filter(|(_, _, count)| *count > 0);
        Self(extents.map(|&(inside, outside, count)| Extent { inside, outside, count }).collect())
    }
}

impl fmt::Display for IdMap {
    /// The text that uid_map and gid_map take.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|e| writeln!(f, "{} {} {}", e.inside, e.outside, e.count))
    }
}

/// The map of the step's user namespace for a step that runs as `id`.
pub fn step_map(identity: Identity, id: u32) -> IdMap {
    match identity {
        Identity::Root { base } => IdMap::of(&[(0, base, RANGE)]),
        // 0 outside is the caller: the step's user. Every other id i is i + 1, whatever the user is, so that a
        // layer unpacked once serves. Three extents, because none may cross an extent of the parent's map.
        Identity::Subids { count } => {
            IdMap::of(&[(0, 1, id), (id, 0, 1), (id + 1, id + 2, count.saturating_sub(id + 1))])
        }
        Identity::Single => IdMap::of(&[(id, 0, 1)]),
    }
}

/// The map of an idmapped mount of layers that lie on disk with plain ids. `None`: no map is needed.
pub fn layer_map(identity: Identity) -> Option<IdMap> {
    match identity {
        Identity::Root { base } => Some(IdMap::of(&[(0, base, RANGE)])),
        Identity::Subids { .. } | Identity::Single => None,
    }
}

/// The map of an idmapped mount of the workspace, owned by `owner`, for a step that runs as `id`: the owner's
/// files are the step's own, both ways. `None`: the step's user *is* the caller.
pub fn workspace_map(identity: Identity, owner: u32, id: u32) -> Option<IdMap> {
    match identity {
        Identity::Root { base } => {
            let own = base + id;
            Some(IdMap::of(&[(owner, own, 1), (base, base, id), (own + 1, own + 1, RANGE - id - 1)]))
        }
        Identity::Subids { .. } | Identity::Single => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_as_the_kernel_takes_them() {
        let text = |map: IdMap| map.to_string();
        assert_eq!(text(step_map(Identity::Root { base: 700_000 }, 0)), "0 700000 65536\n");
        let subids = Identity::Subids { count: RANGE };
        assert_eq!(text(step_map(subids, 0)), "0 0 1\n1 2 65535\n");
        assert_eq!(text(step_map(subids, 1000)), "0 1 1000\n1000 0 1\n1001 1002 64535\n");
        // A sandbox inside: the outer one has 65,536 ids, of which one is the caller's own.
        assert_eq!(text(step_map(Identity::Subids { count: RANGE - 1 }, 0)), "0 0 1\n1 2 65534\n");
        assert_eq!(text(step_map(Identity::Single, 1000)), "1000 0 1\n");
        let root = Identity::Root { base: 700_000 };
        assert_eq!(
            text(workspace_map(root, 1000, 0).expect("idmapped")),
            "1000 700000 1\n700001 700001 65535\n"
        );
        assert_eq!(
            text(workspace_map(root, 0, 33).expect("idmapped")),
            "0 700033 1\n700000 700000 33\n700034 700034 65502\n"
        );
    }
}
