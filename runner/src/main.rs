//! The `runner` command: the zygote first, before any thread exists; then the command line.

use std::process::ExitCode;

use runner::run::errands;
use runner::sandbox::zygote::Zygote;

fn main() -> ExitCode {
    let zygote = Zygote::start(errands::work);
    ExitCode::from(runner::commands::dispatch(runner::cli::parse(), zygote))
}
