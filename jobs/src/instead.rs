//! A script in the place of a job's steps.

use crate::check::ValidOverrides;
use crate::job::{Job, Run, Step};
use crate::overrides::{Instead, Overrides};
use crate::plan::{Command, JobPlan, StepSecret, Switch, Workspace};
use crate::settle::{self, Place};
use crate::source::Source;

/// The step's id.
const STEP_ID: &str = "script";

/// Settles a job: as it is, or with the script that the overrides put in its place.
pub(crate) fn settle(
    place: &Place<'_>,
    mut job: Job,
    overrides: &Overrides,
    valid: &ValidOverrides,
    source: &Source,
) -> JobPlan {
    let Some(instead) = &overrides.instead else {
        return settle::job(place, job, overrides, valid, source);
    };
    replace_steps(&mut job, instead);
    let mut plan = settle::job(place, job, overrides, valid, source);
    let Instead { argv, script, suffix, .. } = instead;
    for step in &mut plan.steps {
        step.command = Command::Script { text: script.clone(), argv: argv.clone(), suffix: suffix.clone() };
    }
    plan
}

fn replace_steps(job: &mut Job, instead: &Instead) {
    let sees = |name: &String| instead.secrets.contains(name);
    let secrets = job.secrets.iter().filter(|secret| sees(&secret.name));
    let secrets = secrets.map(|secret| StepSecret { name: secret.name.clone(), env: secret.env.clone() });
    let step = Step {
        start: 0,
        within: None,
        run: Run::Script(instead.script.clone()),
        background: false,
        id: Some(STEP_ID.to_owned()),
        name: None,
        env: Vec::new(),
        shell: None,
        workdir: None,
        user: None,
        timeout: None,
        seccomp: None,
        privileges: None,
        condition: None,
        continue_on_error: Switch::Is(false),
        expect_exit: None,
        artifacts: Vec::new(),
        reports: Vec::new(),
        retry: None,
        quiet_timeout: None,
        secrets: secrets.collect(),
    };
    job.steps = vec![step];
    (job.condition, job.retry) = (None, None);
    job.continue_on_error = Switch::Is(false);
    job.artifacts.clear();
    job.reports.clear();
    job.outputs.clear();
    // What one script leaves is there for the next one.
    job.workspace = Some(Workspace::InPlace);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SelectError, plan, select_one};

    const FILE: &str = "\
image: host
user: '1000'
env: {A: job}
jobs:
  one:
    limits: {pids: 7}
    secrets: [X, Y]
    workspace: copy
    artifacts: [a]
    outputs: {v: '${{ steps.s.outputs.v }}'}
    steps: [{id: s, run: 'true', env: {B: step}, user: root}]
  two: {needs: [one], if: 'always()', steps: ['true']}
";

    #[test]
    fn the_script_inherits_what_steps_inherit_and_nothing_of_theirs() {
        let instead = Instead {
            argv: vec!["bash".to_owned(), "{0}".to_owned()],
            script: "echo".to_owned(),
            suffix: ".sh".to_owned(),
            secrets: vec!["Y".to_owned(), "Z".to_owned()],
        };
        let overrides = Overrides { instead: Some(instead), ..Overrides::default() };
        let planned = plan("job.yml", "job", FILE.as_bytes(), &overrides).expect("the file is right").plan;
        let error = select_one(planned.clone(), None).expect_err("it has two jobs");
        assert_eq!(error.hint(), "say which: one, two");
        assert!(matches!(select_one(planned.clone(), Some("on")), Err(SelectError::UnknownJob { .. })));
        let two = select_one(planned.clone(), Some("two")).expect("there is one");
        assert!(two.jobs[0].needs.is_empty() && two.jobs[0].condition.is_none());
        let one = select_one(planned, Some("one")).expect("there is one");
        let [job] = one.jobs.as_slice() else { panic!("one job: {one:?}") };
        assert_eq!((job.workspace, job.limits.pids), (Workspace::InPlace, 7));
        assert!(job.artifacts.is_empty() && job.outputs.is_empty());
        let [step] = job.steps.as_slice() else { panic!("one step: {job:?}") };
        assert_eq!(step.user, "1000".parse().ok());
        assert!(step.env.is_empty());
        let names: Vec<&str> = step.secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["Y"]);
        assert!(
            matches!(&step.command, Command::Script { text, suffix, .. } if text == "echo" && suffix == ".sh")
        );
    }
}
