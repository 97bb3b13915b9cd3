//! How a run is shown: what is asked for, else what the environment says.

use super::environment::Environment;
use super::flags;
use super::settings::Command;
use crate::report::{Outer, Output, ReportSettings};

/// Of a job file.
pub(super) fn output(asked: flags::Output, json: bool, environment: &Environment) -> Output {
    match asked {
        flags::Output::Auto => environment.output(json),
        flags::Output::Tty => Output::Terminal,
        flags::Output::Plain => Output::Plain,
        flags::Output::Github => Output::Blocks(Outer::GitHub),
        flags::Output::Gitlab => Output::Blocks(Outer::GitLab),
        flags::Output::Buildkite => Output::Blocks(Outer::Buildkite),
        flags::Output::Teamcity => Output::Blocks(Outer::TeamCity),
    }
}

/// Of a single command.
pub(super) fn output_of_one(asked: flags::OutputOfOne, environment: &Environment) -> Output {
    let asked = match asked {
        flags::OutputOfOne::Auto => return environment.output_of_one(),
        flags::OutputOfOne::Raw => return Output::Passthrough,
        flags::OutputOfOne::Tty => flags::Output::Tty,
        flags::OutputOfOne::Plain => flags::Output::Plain,
        flags::OutputOfOne::Github => flags::Output::Github,
        flags::OutputOfOne::Gitlab => flags::Output::Gitlab,
        flags::OutputOfOne::Buildkite => flags::Output::Buildkite,
        flags::OutputOfOne::Teamcity => flags::Output::Teamcity,
    };
    output(asked, false, environment)
}

/// Everything about it. `color`: whether where it goes has colours; the pages of services have, though no terminal is there.
pub(super) fn report(output: Output, color: bool, json: bool, environment: &Environment) -> ReportSettings {
    let stderr_is_terminal = environment.terminals.stderr && environment.live;
    let color = color || !environment.colorless && output.outer().is_some_and(Outer::has_colors);
    ReportSettings { output, color, json, stderr_is_terminal }
}

impl Command {
    /// The CI service that reads what the command says.
    pub fn outer(&self) -> Option<Outer> {
        match self {
            Self::Exec(settings) => settings.report.output.outer(),
            Self::Run(settings) => settings.report.output.outer(),
            Self::Step(settings) => settings.report.output.outer(),
            Self::Shell(settings) => settings.report.output.outer(),
            Self::Check(_)
            | Self::Logs(_)
            | Self::Show(_)
            | Self::Artifacts(_)
            | Self::ImageUnpack(_)
            | Self::Image(_)
            | Self::Cache(_)
            | Self::Doctor(_)
            | Self::Runs(_)
            | Self::Init(_)
            | Self::Explain(_)
            | Self::Print(_) => None,
        }
    }
}
