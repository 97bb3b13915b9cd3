//! Set-up in two commands: on a bare Debian with git, curl and a Rust toolchain, `make run` installs what is missing, builds
//! and runs the first job. Proves the package lists of the Makefile.
//!
//! The bare machine is a fresh Debian root filesystem in mount and pid namespaces of its own; crates come from this
//! machine's registry cache, packages from its mirror. The build is not optimized, and kept for the next time.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use fixtures::{Compression, cache, debian, require};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a new user has besides Rust.
const BARE: &[&str] = &["ca-certificates", "curl", "git"];

#[test]
fn a_bare_machine_needs_two_commands() {
    require!(Root, Debian, DebianPackages, Program("cargo"), Program("git"));
    let machine = Machine::bare();
    for tool in ["gcc", "make", "busybox", "mmdebstrap", "newuidmap", "zstd"] {
        assert!(!machine.has(tool), "{tool} is there: the machine is not bare");
    }

    // The README says so for machines without make, which cannot run a Makefile to install it.
    succeeded(machine.run("apt-get -qq update && apt-get -qq install -y --no-install-recommends make"));

    let refused = machine.run("setpriv --reuid=65534 --regid=65534 --clear-groups make build-packages");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("sudo apt-get install -y gcc "),
        "an ordinary user reads: {said}"
    );

    let ran = succeeded(machine.run("make run"));
    assert!(ran.contains("hello from inside"), "{ran}");
    let again = succeeded(machine.run("make run"));
    assert!(!again.contains("installing"), "the second time nothing is missing: {again}");

    succeeded(machine.run("make test-packages"));
    for tool in ["busybox", "mmdebstrap", "newuidmap", "xz", "zstd"] {
        assert!(machine.has(tool), "{tool} is missing after `make test-packages`");
    }
}

/// A root filesystem with the checkout in `/src`.
struct Machine {
    root: tempfile::TempDir,
    target: PathBuf,
}

impl Machine {
    fn bare() -> Self {
        let root = tempfile::Builder::new().prefix("bare-").tempdir_in(cache::target_directory()).unwrap();
        let tarball = debian::tarball(BARE, Compression::None);
        succeeded(Command::new("tar").arg("-xf").arg(tarball).arg("-C").arg(root.path()).output().unwrap());
        for name in ["src", "opt/rust", "opt/cargo/registry", "opt/target", "old"] {
            cache::create(&root.path().join(name));
        }
        for name in ["etc/resolv.conf", "etc/hosts"] {
            let _absent = std::fs::remove_file(root.path().join(name));
            let _absent = std::fs::copy(Path::new("/").join(name), root.path().join(name));
        }
        copy_checkout(&root.path().join("src"));
        copy_registry(&root.path().join("opt/cargo"));
        let target = cache::target_directory().join("fixtures/setup-target");
        cache::create(&target);
        Self { root, target }
    }

    fn has(&self, tool: &str) -> bool {
        ["usr/bin", "usr/sbin"].iter().any(|place| self.root.path().join(place).join(tool).exists())
    }

    /// Runs a line of shell there, as root, in the checkout.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
            "sh",
            "-c",
            ENTER,
            "sh",
        ]);
        command.arg(self.root.path()).arg(sysroot()).arg(&self.target).arg(line);
        command.env_clear().env("PATH", "/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LANG", "C.UTF-8");
        for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
            command.envs(std::env::var_os(proxy).map(|value| (proxy, value)));
        }
        command
            .env("CARGO_HOME", "/opt/cargo")
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", "/opt/target");
        for (name, value) in
            [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("STRIP", "symbols")]
        {
            command.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
        }
        command.output().unwrap()
    }
}

/// A mount point becomes the root by `pivot_root`: in a mere chroot nobody may make user namespaces.
const ENTER: &str = r#"
    set -e
    mount --bind "$1" "$1"
    cd "$1"
    mount --bind "$2" opt/rust
    mount -o remount,bind,ro opt/rust
    mount --bind "$3" opt/target
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mkdir -p old
    line=$4
    pivot_root . old
    exec chroot . sh -c 'umount -l /old && cd /src && exec sh -c "$1"' sh "$line"
"#;

fn sysroot() -> PathBuf {
    let told = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    PathBuf::from(String::from_utf8(told.stdout).unwrap().trim())
}

/// What a clone would hold, with changes that are not committed yet.
fn copy_checkout(to: &Path) {
    let script = r#"git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        tar --null --no-recursion --ignore-failed-read --warning=no-failed-read -T - -cf - | tar -xf - -C "$0""#;
    let copied = Command::new("bash")
        .args(["-o", "pipefail", "-c", script])
        .arg(to)
        .current_dir(cache::workspace())
        .output();
    succeeded(copied.unwrap());
    assert!(to.join("Makefile").is_file());
}

/// The index and the packed crates; cargo unpacks them again.
fn copy_registry(to: &Path) {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).unwrap();
    let script = r#"cp -a "$0"/registry/index "$0"/registry/cache "$1"/registry/; for name in config config.toml; do
        [ ! -e "$0/$name" ] || cp "$0/$name" "$1"/; done"#;
    succeeded(Command::new("sh").args(["-e", "-c", script]).arg(home).arg(to).output().unwrap());
}

/// Everything that was printed, when the command succeeded; fails the test otherwise.
#[track_caller]
fn succeeded(output: Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}
