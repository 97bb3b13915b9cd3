//! The identity of layers in their order (OCI image specification, "Layer ChainID").

use crate::digest::Digest;

/// Returns the chain id of these diff ids, the lowest first; the empty chain has the digest of nothing.
pub(crate) fn chain_id(diff_ids: &[Digest]) -> Digest {
    let mut ids = diff_ids.iter();
    let first = ids.next().copied().unwrap_or_else(|| Digest::of(b""));
    ids.fold(first, |chain, id| Digest::of(format!("{chain} {id}").as_bytes()))
}
