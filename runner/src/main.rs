//! The `runner` command: the zygote first, before any thread exists; then the command line.

use std::process::ExitCode;

use runner::cli::{self, Environment};
use runner::run::errands;
use runner::sandbox::zygote::Zygote;
use runner::{commands, report};

fn main() -> ExitCode {
    let zygote = Zygote::start(errands::work);
    ExitCode::from(match cli::parse(std::env::args_os().collect(), &Environment::of_process()) {
        Ok(command) => commands::dispatch(command, zygote),
        Err(stop) => report::stop(&stop.text, stop.asked_for, stop.exit_code),
    })
}
