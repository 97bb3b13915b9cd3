//! A test of this program run once more, as another user or inside a user namespace: the ways in which the runner
//! unpacks when it is not root.

use std::path::PathBuf;

use fixtures::{TestContext, User};
use images::Ownership;

/// Carries the ownership to the test that runs elsewhere.
const ROLE: &str = "UNPACK_AS";

/// The ownership that this process was started for, if it was started by [`Elsewhere`].
pub fn role() -> Option<Ownership> {
    let roles = [Ownership::Keep, Ownership::Mapped, Ownership::Caller];
    let role = std::env::var(ROLE).ok()?;
    roles.into_iter().find(|ownership| format!("{ownership:?}") == role)
}

/// Where the test will run.
pub struct Elsewhere {
    context: TestContext,
    arguments: Vec<String>,
}

impl Elsewhere {
    /// As an ordinary user, or as the user who runs the tests if that is not root.
    pub fn ordinary(user: User) -> Elsewhere {
        Elsewhere { context: TestContext::with_user(this_program(), user), arguments: Vec::new() }
    }

    /// As the same user, whose umask closes new files to everybody else.
    pub fn closed_umask() -> Elsewhere {
        let arguments = ["-c", "umask 077; exec \"$0\" \"$@\""].map(str::to_owned);
        let program = this_program().display().to_string();
        let arguments = arguments.into_iter().chain([program]).collect();
        Elsewhere { context: TestContext::new("/bin/sh"), arguments }
    }

    /// As root of a user namespace that an ordinary user made.
    pub fn in_namespace(user: User) -> Elsewhere {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let unshare = std::env::split_paths(&search).map(|directory| directory.join("unshare"));
        let unshare = unshare.into_iter().find(|path| path.is_file()).unwrap();
        let context = TestContext::with_user(unshare, user);
        // An ordinary user may not reach the directory of the build.
        let copy = context.path("tests");
        std::fs::copy(this_program(), &copy).unwrap();
        let mut arguments = vec!["--user", "--map-root-user"];
        if user == User::WithSubids {
            arguments.push("--map-auto");
        }
        let copy = copy.display().to_string();
        arguments.extend(["--", &copy]);
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        Elsewhere { context, arguments }
    }

    /// Runs the test of this name there; it must succeed.
    pub fn run(&self, test: &str, ownership: Ownership) {
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.extend([test, "--exact"]);
        let mut command = self.context.command(&arguments);
        let ran = self.context.finish(command.env(ROLE, format!("{ownership:?}"))).expect_code(0);
        assert!(ran.stdout_text().contains("1 passed"), "{}", ran.stdout_text());
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}
