//! The filters of the default policy, as `build.rs` made them with `seccomp`: `sock_filter` bytes, to be loaded in order.

/// The checks of arguments.
const CHECKS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/checks.bpf"));
/// The allow list.
const ALLOW_LIST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/allow-list.bpf"));

/// Returns the filters of a step.
pub fn default() -> [&'static [u8]; 2] {
    [CHECKS, ALLOW_LIST]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_built_is_what_the_policy_says() {
        let now = crate::sandbox::seccomp::compile(&Default::default()).unwrap();
        assert_eq!(super::default().map(<[u8]>::to_vec), now);
    }
}
