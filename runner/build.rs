//! Makes the system call filters when the program is built: a run then spends no time on what never changes.

#[path = "src/sandbox/policy/mod.rs"]
#[expect(dead_code, reason = "the reasons beside each entry are for readers")]
mod policy;
#[path = "src/sandbox/seccomp.rs"]
#[expect(dead_code, reason = "only the default policy is built in")]
mod seccomp;

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=src/sandbox/policy/mod.rs");
    println!("cargo::rerun-if-changed=src/sandbox/policy/groups.rs");
    println!("cargo::rerun-if-changed=src/sandbox/policy/rights.rs");
    println!("cargo::rerun-if-changed=src/sandbox/seccomp.rs");
    // Numbers of system calls are those of the machine that asks libseccomp.
    let target = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    assert_eq!(target, env::consts::ARCH, "build on the architecture that the program is for");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let filters = seccomp::compile(&seccomp::Choice::default()).expect("libseccomp makes the filters");
    for (name, filter) in ["checks.bpf", "allow-list.bpf"].iter().zip(filters) {
        fs::write(out.join(name), filter).expect("the build directory takes a file");
    }
}
