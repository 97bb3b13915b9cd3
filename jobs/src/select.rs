//! A part of a plan: some of its jobs, some steps of one. What is left out is as if its condition did not hold.

use std::collections::HashSet;

use crate::expression::Expression;
use crate::plan::{JobPlan, Plan};
use crate::suggest::nearest;

/// Which part of a plan is run; the default is all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Jobs by their id in the file, or single cells by theirs; with what they need. All if empty.
    pub jobs: Vec<String>,
    /// Some steps of one job.
    pub steps: Option<StepChoice>,
}

/// Some steps of one job, named `STEP` or `JOB/STEP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChoice {
    /// This one alone, whatever its condition. Jobs that its job needs do not run.
    Only(String),
    /// This one and those before it.
    Until(String),
    /// This one and those behind it. Jobs that its job needs do not run.
    From(String),
}

/// A name that a plan does not have, or that is not enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No job or cell of this name.
    #[error("the file has no job `{name}`{}", meant(similar.as_deref()))]
    UnknownJob {
        /// As given.
        name: String,
        /// The one that was probably meant.
        similar: Option<String>,
        /// Those that exist.
        known: Vec<String>,
    },
    /// No step of this name.
    #[error("{} `{name}`{}", where_of(job.as_deref()), meant(similar.as_deref()))]
    UnknownStep {
        /// As given.
        name: String,
        /// The job, if one was named.
        job: Option<String>,
        /// The one that was probably meant.
        similar: Option<String>,
        /// Those that exist.
        known: Vec<String>,
    },
    /// Several jobs have a step of this name.
    #[error("the jobs {} have a step `{name}` each", jobs.join(", "))]
    Ambiguous {
        /// As given.
        name: String,
        /// The jobs' ids.
        jobs: Vec<String>,
    },
    /// One job is wanted, and this names several.
    #[error("{} stands for {} jobs, and one is wanted", named(name.as_deref()), jobs.len())]
    SeveralJobs {
        /// As given; none: the whole file.
        name: Option<String>,
        /// The jobs' ids.
        jobs: Vec<String>,
    },
}

fn named(job: Option<&str>) -> String {
    job.map_or_else(|| "the file".to_owned(), |job| format!("`{job}`"))
}

fn meant(similar: Option<&str>) -> String {
    similar.map(|similar| format!("; did you mean `{similar}`?")).unwrap_or_default()
}

fn where_of(job: Option<&str>) -> String {
    job.map_or_else(|| "the file has no step".to_owned(), |job| format!("the job `{job}` has no step"))
}

impl SelectError {
    /// Returns what the user can do about it, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownJob { known, .. } => format!("it has {}", known.join(", ")),
            Self::UnknownStep { known, .. } => format!("there are {}", known.join(", ")),
            Self::Ambiguous { name, jobs } => format!("say which: {}/{name}", jobs[0]),
            Self::SeveralJobs { jobs, .. } => format!("say which: {}", jobs.join(", ")),
        }
    }
}

/// Leaves of a plan what is selected.
///
/// # Errors
/// A name that is not there, or that several jobs have.
pub fn select(mut plan: Plan, selection: &Selection) -> Result<Plan, SelectError> {
    for name in &selection.jobs {
        if !plan.jobs.iter().any(|job| is_named(job, name)) {
            return Err(unknown_job(&plan, name));
        }
    }
    if !selection.jobs.is_empty() {
        let wanted = |job: &JobPlan| selection.jobs.iter().any(|name| is_named(job, name));
        keep_with_needs(&mut plan, &wanted);
    }
    if let Some(choice) = &selection.steps {
        choose_steps(&mut plan, choice)?;
    }
    Ok(plan)
}

/// Leaves of a plan one job, the file's only one if none is named; what it needs is left out.
///
/// # Errors
/// A name that is not there, or that stands for several; none where there are several.
pub fn select_one(mut plan: Plan, name: Option<&str>) -> Result<Plan, SelectError> {
    if let Some(name) = name.filter(|name| !plan.jobs.iter().any(|job| is_named(job, name))) {
        return Err(unknown_job(&plan, name));
    }
    plan.jobs.retain(|job| name.is_none_or(|name| is_named(job, name)));
    if plan.jobs.len() > 1 {
        let jobs = plan.jobs.iter().map(|job| job.id.clone()).collect();
        return Err(SelectError::SeveralJobs { name: name.map(str::to_owned), jobs });
    }
    plan.jobs.iter_mut().for_each(|job| job.needs.clear());
    Ok(plan)
}

fn is_named(job: &JobPlan, name: &str) -> bool {
    job.job == name || job.id == name
}

fn unknown_job(plan: &Plan, name: &str) -> SelectError {
    let mut known: Vec<String> = Vec::new();
    for job in &plan.jobs {
        if !known.contains(&job.job) {
            known.push(job.job.clone());
        }
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let similar = nearest(name, &names).map(str::to_owned);
    SelectError::UnknownJob { name: name.to_owned(), similar, known }
}

/// Leaves these jobs and all that they need, directly or not.
fn keep_with_needs(plan: &mut Plan, wanted: &dyn Fn(&JobPlan) -> bool) {
    let mut kept: HashSet<String> =
        plan.jobs.iter().filter(|job| wanted(job)).map(|job| job.id.clone()).collect();
    loop {
        let needed: HashSet<&str> = plan
            .jobs
            .iter()
            .filter(|job| kept.contains(&job.id))
            .flat_map(|job| job.needs.iter().map(|need| need.job.as_str()))
            .collect();
        let more: Vec<String> = plan
            .jobs
            .iter()
            .filter(|job| needed.contains(job.job.as_str()) && !kept.contains(&job.id))
            .map(|job| job.id.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        kept.extend(more);
    }
    plan.jobs.retain(|job| kept.contains(&job.id));
}

fn choose_steps(plan: &mut Plan, choice: &StepChoice) -> Result<(), SelectError> {
    let (StepChoice::Only(name) | StepChoice::Until(name) | StepChoice::From(name)) = choice;
    let job = job_of(plan, name)?;
    let step = name.rsplit_once('/').map_or(name.as_str(), |(_, step)| step).to_owned();
    keep_with_needs(plan, &|other| is_named(other, &job));
    if !matches!(choice, StepChoice::Until(_)) {
        plan.jobs.retain(|other| is_named(other, &job));
        plan.jobs.iter_mut().for_each(|job| job.needs.clear());
    }
    let never = Expression::parse("false").expect("it is a literal");
    for job in plan.jobs.iter_mut().filter(|other| is_named(other, &job)) {
        let Some(at) = job.steps.iter().position(|other| other.id == step) else { continue };
        let related = related(job, at);
        for (index, other) in job.steps.iter_mut().enumerate() {
            let near = related[index] != Related::No;
            let runs = match choice {
                StepChoice::Only(_) => near,
                StepChoice::Until(_) => index <= at || near,
                StepChoice::From(_) => index >= at || near,
            };
            if !runs {
                other.condition = Some(never.clone());
            } else if matches!(choice, StepChoice::Only(_)) && related[index] != Related::Within {
                other.condition = None;
            }
        }
        // What a step that is left out would have made is missed by nobody.
        job.artifacts.iter_mut().for_each(|artifact| artifact.optional = true);
    }
    Ok(())
}

/// How a step stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Related {
    No,
    /// It is the same, or the other one is within it.
    Leads,
    /// It is within the other one.
    Within,
}

/// Returns for each step how it stands to this one.
fn related(job: &JobPlan, at: usize) -> Vec<Related> {
    let place = |id: &String| job.steps.iter().position(|step| step.id == *id);
    let above = |index: usize| job.steps[index].within.as_ref().and_then(place);
    let leads =
        |from: usize, to: usize| std::iter::successors(Some(from), |at| above(*at)).any(|at| at == to);
    let relation = |index: usize| match (leads(at, index), leads(index, at)) {
        (true, _) => Related::Leads,
        (false, true) => Related::Within,
        (false, false) => Related::No,
    };
    (0..job.steps.len()).map(relation).collect()
}

/// Finds the job whose step is meant: its id in the file, or that of the one cell that is named.
fn job_of(plan: &Plan, name: &str) -> Result<String, SelectError> {
    let (job, step) = match name.rsplit_once('/') {
        Some((job, step)) => (Some(job), step),
        None => (None, name),
    };
    if let Some(job) = job
        && !plan.jobs.iter().any(|other| is_named(other, job))
    {
        return Err(unknown_job(plan, job));
    }
    let candidates = plan.jobs.iter().filter(|other| job.is_none_or(|job| is_named(other, job)));
    let mut found: Vec<String> = Vec::new();
    let mut known: Vec<String> = Vec::new();
    for other in candidates {
        for other in &other.steps {
            if !known.contains(&other.id) {
                known.push(other.id.clone());
            }
        }
        if other.steps.iter().any(|other| other.id == step) && !found.contains(&other.job) {
            found.push(other.job.clone());
        }
    }
    match found.as_slice() {
        [one] => Ok(job.map_or_else(|| one.clone(), str::to_owned)),
        [] => {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let similar = nearest(step, &names).map(str::to_owned);
            Err(SelectError::UnknownStep {
                name: step.to_owned(),
                job: job.map(str::to_owned),
                similar,
                known,
            })
        }
        _ => Err(SelectError::Ambiguous { name: step.to_owned(), jobs: found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "image: host\njobs:\n\
        \x20 build: {steps: [{id: one, run: a}, {id: two, run: b, if: failure()}, {id: three, run: c}], artifacts: [x]}\n\
        \x20 test: {needs: [build], matrix: {n: [1, 2]}, steps: [{id: unit, run: d}, {id: one, run: e}]}\n\
        \x20 lint: {steps: [{id: check, run: f}]}\n\
        \x20 last: {needs: [{job: test, if: always}], steps: [{id: end, run: g}]}\n";

    fn select(jobs: &[&str], steps: Option<StepChoice>) -> Result<Plan, SelectError> {
        let planned = crate::plan("job.yml", "job", FILE.as_bytes(), &crate::Overrides::default());
        let jobs = jobs.iter().map(|job| (*job).to_owned()).collect();
        super::select(planned.expect("a good file").plan, &Selection { jobs, steps })
    }

    /// Each job with the steps that run if nothing fails before them; `?` where a condition says.
    fn shown(plan: &Plan) -> Vec<String> {
        let step = |step: &crate::StepPlan| match step.condition.as_ref().map(Expression::source) {
            None => Some(step.id.clone()),
            Some("false") => None,
            Some(_) => Some(format!("{}?", step.id)),
        };
        let job = |job: &JobPlan| {
            let steps: Vec<String> = job.steps.iter().filter_map(step).collect();
            format!("{}: {}", job.id, steps.join(" "))
        };
        plan.jobs.iter().map(job).collect()
    }

    #[test]
    fn jobs_come_with_what_they_need() {
        let jobs = |names: &[&str]| shown(&select(names, None).expect("good names"));
        let (build, lint) = ("build: one two? three", "lint: check");
        let (test1, test2, last) = ("test@1: unit one", "test@2: unit one", "last: end");
        assert_eq!(jobs(&[]), [build, test1, test2, lint, last]);
        assert_eq!(jobs(&["last"]), [build, test1, test2, last]);
        assert_eq!(jobs(&["test@2"]), [build, test2]);
        assert_eq!(jobs(&["lint", "build"]), [build, lint]);
    }

    #[test]
    fn steps_are_chosen_within_one_job() {
        let steps = |choice| shown(&select(&[], Some(choice)).expect("good names"));
        assert_eq!(steps(StepChoice::Only("two".into())), ["build: two"], "whatever its condition");
        assert_eq!(steps(StepChoice::From("build/two".into())), ["build: two? three"]);
        assert_eq!(steps(StepChoice::Until("two".into())), ["build: one two?"]);
        let until = steps(StepChoice::Until("unit".into()));
        assert_eq!(until, ["build: one two? three", "test@1: unit", "test@2: unit"]);
        assert_eq!(steps(StepChoice::Only("test@1/one".into())), ["test@1: one"]);
        let plan = select(&[], Some(StepChoice::Only("unit".into()))).expect("good names");
        assert!(plan.jobs.iter().all(|job| job.needs.is_empty()));
        let plan = select(&[], Some(StepChoice::Until("one".into())));
        assert!(plan.is_err(), "two jobs have it");
        let plan = select(&["build"], Some(StepChoice::Until("one".into()))).expect("good names");
        assert!(plan.jobs[0].artifacts[0].optional);
    }

    #[test]
    fn the_steps_of_a_file_come_with_the_step_that_uses_it() {
        struct One;
        impl crate::Files for One {
            fn read(&mut self, _: &crate::Wanted<'_>) -> Result<Vec<u8>, String> {
                Ok(b"steps: [{id: a, run: x}, {id: b, run: x, if: failure()}]".to_vec())
            }
        }
        let text = b"image: host\nsteps: [{id: u, uses: f.yml, if: failure()}, {id: z, run: y}]";
        let select = |choice| {
            let planned = crate::plan_with("job.yml", "job", text, &crate::Overrides::default(), &mut One);
            let selection = Selection { jobs: Vec::new(), steps: Some(choice) };
            shown(&super::select(planned.expect("a good file").plan, &selection).expect("good names"))
        };
        assert_eq!(select(StepChoice::Only("u".into())), ["job: u u-a u-b?"]);
        assert_eq!(select(StepChoice::Only("u-b".into())), ["job: u u-b"]);
        assert_eq!(select(StepChoice::From("u-b".into())), ["job: u? u-b? z"]);
        assert_eq!(select(StepChoice::Until("u".into())), ["job: u? u-a u-b?"]);
    }

    #[test]
    fn names_that_are_not_there_are_told_with_those_that_are() {
        let told = |jobs: &[&str], steps| {
            let error = select(jobs, steps).expect_err("a bad name");
            format!("{error}\n{}", error.hint())
        };
        assert_eq!(
            told(&["tests"], None),
            "the file has no job `tests`; did you mean `test`?\nit has build, test, lint, last"
        );
        assert_eq!(
            told(&[], Some(StepChoice::Only("three/x".into()))),
            "the file has no job `three`\nit has build, test, lint, last"
        );
        assert_eq!(
            told(&[], Some(StepChoice::From("build/thre".into()))),
            "the job `build` has no step `thre`; did you mean `three`?\nthere are one, two, three"
        );
        assert_eq!(
            told(&["lint"], Some(StepChoice::From("zzz".into()))),
            "the file has no step `zzz`\nthere are check"
        );
        assert_eq!(
            told(&[], Some(StepChoice::Until("one".into()))),
            "the jobs build, test have a step `one` each\nsay which: build/one"
        );
    }
}
