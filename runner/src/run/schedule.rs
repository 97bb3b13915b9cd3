//! Which jobs start, are skipped or cancelled, and when. Pure: what has ended goes in, what to do comes out.
//!
//! A job starts when all that it needs is over and its condition holds, in the order of the file, as long as there is
//! room: at most so many at once, and never more CPUs and memory declared than the machine has. One that does not fit
//! waits, and those after it wait too: nobody is overtaken for ever.

use std::collections::HashMap;

use jobs::expression::Status;
use jobs::{JobPlan, When};

use crate::outcome::Outcome;

/// What a job without `limits.cpus` counts as, unless it is said how many run at once: then each is one of so many.
const CPUS_UNDECLARED: f64 = 1.0;
/// What sums of decimals may be off by: 0.1 ten times is 1.
const CPUS_ERROR: f64 = 1e-9;

/// What there is to share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Space {
    /// Jobs at once, if that is said.
    pub jobs: Option<usize>,
    /// CPUs of the machine.
    pub cpus: f64,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
}

/// What is to be done with a job, by its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run it.
    Start(usize),
    /// It never runs: it has ended like this.
    End(usize, Outcome),
    /// Stop it: another cell has failed.
    Cancel(usize),
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running {
        cancelled: bool,
    },
    /// How it counts, and whether a failure lies somewhere before it.
    Ended {
        conclusion: Outcome,
        after_failure: bool,
    },
}

/// The jobs of a plan on their way.
#[derive(Debug)]
pub struct Schedule<'p> {
    jobs: &'p [JobPlan],
    /// Places of each job's cells, by its id in the file.
    cells: HashMap<&'p str, Vec<usize>>,
    states: Vec<State>,
    space: Space,
    cancelled: bool,
}

/// How what a job needs has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needed {
    status: Status,
    /// The conditions of `needs` hold.
    met: bool,
    after_failure: bool,
}

impl<'p> Schedule<'p> {
    /// All jobs wait.
    pub fn new(jobs: &'p [JobPlan], space: Space) -> Self {
        let mut cells: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, job) in jobs.iter().enumerate() {
            cells.entry(&job.job).or_default().push(at);
        }
        Self { jobs, cells, states: vec![State::Waiting; jobs.len()], space, cancelled: false }
    }

    /// Says how a running job counts.
    pub fn ended(&mut self, job: usize, conclusion: Outcome) {
        let after_failure = self.needed(job).is_some_and(|needed| needed.after_failure);
        self.states[job] = State::Ended { conclusion, after_failure };
    }

    /// The user wants an end: nothing starts any more.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Returns what is to be done now; done at once, for the next call takes it as done. `holds`: whether a job's own
    /// condition holds when things stand like this; `None` makes a failure of it.
    pub fn next(&mut self, mut holds: impl FnMut(usize, Status) -> Option<bool>) -> Vec<Action> {
        let mut actions = self.fail_fast();
        // What ends without running may set others free, those before it in the file too.
        loop {
            let before = actions.len();
            self.pass(&mut holds, &mut actions);
            let any_ended = actions[before..].iter().any(|action| matches!(action, Action::End(..)));
            if !any_ended {
                return actions;
            }
        }
    }

    fn pass(&mut self, holds: &mut impl FnMut(usize, Status) -> Option<bool>, actions: &mut Vec<Action>) {
        let mut full = false;
        for at in 0..self.jobs.len() {
            if self.states[at] != State::Waiting {
                continue;
            }
            let Some(needed) = self.needed(at) else { continue };
            if self.cancelled {
                self.end(at, Outcome::Cancelled, needed, actions);
                continue;
            }
            if full || self.is_at_its_most(at) {
                continue;
            }
            match if needed.met { holds(at, needed.status) } else { Some(false) } {
                None => self.end(at, Outcome::Failure, needed, actions),
                Some(false) => self.end(at, Outcome::Skipped, needed, actions),
                Some(true) if self.has_room_for(at) => {
                    self.states[at] = State::Running { cancelled: false };
                    actions.push(Action::Start(at));
                }
                Some(true) => full = true,
            }
        }
    }

    fn end(&mut self, at: usize, conclusion: Outcome, needed: Needed, actions: &mut Vec<Action>) {
        self.states[at] = State::Ended { conclusion, after_failure: needed.after_failure };
        actions.push(Action::End(at, conclusion));
    }

    /// Cancels the other cells of a matrix in which one has failed.
    fn fail_fast(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let failed = |state: &State| matches!(state, State::Ended { conclusion, .. } if conclusion.is_failure() && *conclusion != Outcome::Cancelled);
        for cells in self.cells.values() {
            let fast = cells.iter().any(|at| self.jobs[*at].fail_fast && failed(&self.states[*at]));
            for at in cells.iter().copied().filter(|_| fast) {
                match self.states[at] {
                    State::Waiting => {
                        let conclusion = Outcome::Cancelled;
                        self.states[at] = State::Ended { conclusion, after_failure: false };
                        actions.push(Action::End(at, conclusion));
                    }
                    State::Running { cancelled: false } => {
                        self.states[at] = State::Running { cancelled: true };
                        actions.push(Action::Cancel(at));
                    }
                    State::Running { cancelled: true } | State::Ended { .. } => {}
                }
            }
        }
        // A hash map has no order, and a run has one.
        actions.sort_unstable_by_key(|action| match action {
            Action::Start(at) | Action::End(at, _) | Action::Cancel(at) => *at,
        });
        actions
    }

    /// How what a job needs has ended; `None` while something of it has not.
    fn needed(&self, at: usize) -> Option<Needed> {
        let mut needed = Needed { status: Status::Success, met: true, after_failure: false };
        let (mut failed, mut missing) = (false, false);
        for need in &self.jobs[at].needs {
            let (result, after_failure) = self.result(&need.job)?;
            let failure = result.is_failure() && result != Outcome::Cancelled;
            needed.after_failure |= failure || after_failure;
            match need.on {
                None => {
                    failed |= failure || after_failure;
                    missing |= result != Outcome::Success;
                }
                Some(When::Success) => needed.met &= result == Outcome::Success,
                Some(When::Failure) => needed.met &= failure,
                Some(When::Always) => {}
            }
        }
        needed.status = match () {
            () if self.cancelled => Status::Cancelled,
            () if failed => Status::Failure,
            () if missing => Status::Skipped,
            () => Status::Success,
        };
        Some(needed)
    }

    /// How all cells of a job together have ended, and whether a failure lies before them.
    fn result(&self, id: &str) -> Option<(Outcome, bool)> {
        let ended = |at: &usize| match self.states[*at] {
            State::Ended { conclusion, after_failure } => Some((conclusion, after_failure)),
            State::Waiting | State::Running { .. } => None,
        };
        let cells: Vec<(Outcome, bool)> = self.cells.get(id)?.iter().map(ended).collect::<Option<_>>()?;
        let before = cells.iter().any(|(_, after_failure)| *after_failure);
        Some((together(cells.iter().map(|(conclusion, _)| *conclusion)), before))
    }

    fn running(&self) -> impl Iterator<Item = &JobPlan> {
        let is_running = |(_, state): &(&JobPlan, &State)| matches!(state, State::Running { .. });
        self.jobs.iter().zip(&self.states).filter(is_running).map(|(job, _)| job)
    }

    /// Whether as many cells of its matrix run as may.
    fn is_at_its_most(&self, at: usize) -> bool {
        let job = &self.jobs[at];
        let cells = self.running().filter(|other| other.job == job.job).count();
        job.max_parallel.is_some_and(|most| cells >= most)
    }

    fn cpus_of(&self, job: &JobPlan) -> f64 {
        let share = self.space.jobs.map_or(CPUS_UNDECLARED, |jobs| self.space.cpus / jobs.max(1) as f64);
        let of_services: f64 = job.services.iter().filter_map(|service| service.limits.cpus).sum();
        job.limits.cpus.unwrap_or(share) + of_services
    }

    /// A job that is larger than the machine runs alone.
    fn has_room_for(&self, at: usize) -> bool {
        let (mut count, mut cpus, mut memory) = (0, 0.0, 0_u64);
        for job in self.running() {
            count += 1;
            cpus += self.cpus_of(job);
            memory = memory.saturating_add(memory_of(job));
        }
        let job = &self.jobs[at];
        let memory = memory.saturating_add(memory_of(job));
        count == 0
            || self.space.jobs.is_none_or(|most| count < most)
                && cpus + self.cpus_of(job) <= self.space.cpus + CPUS_ERROR
                && memory <= self.space.memory_bytes
    }
}

/// What a job and its services may use together, as far as they say.
fn memory_of(job: &JobPlan) -> u64 {
    let of_services = job.services.iter().filter_map(|service| service.limits.memory_bytes);
    of_services.fold(job.limits.memory_bytes.unwrap_or(0), u64::saturating_add)
}

/// How several ends count as one: a failure before a cancel before a success; skipped is what all of them were.
pub fn together(ends: impl Iterator<Item = Outcome>) -> Outcome {
    let is_failure = |end: Outcome| end.is_failure() && end != Outcome::Cancelled;
    ends.fold(Outcome::Skipped, |all, end| match (all, end) {
        (failure, _) if is_failure(failure) => failure,
        (_, failure) if is_failure(failure) => failure,
        (Outcome::Cancelled, _) | (_, Outcome::Cancelled) => Outcome::Cancelled,
        (Outcome::Success, _) | (_, Outcome::Success) => Outcome::Success,
        _ => Outcome::Skipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::Overrides;

    const ROOMY: Space = Space { jobs: None, cpus: 100.0, memory_bytes: 1 << 40 };

    fn plan(text: &str) -> Vec<JobPlan> {
        let text = format!("image: host\njobs:\n{text}");
        let planned = jobs::plan("job.yml", "job", text.as_bytes(), &Overrides::default());
        planned.unwrap_or_else(|errors| panic!("{errors}")).plan.jobs
    }

    /// Runs a plan in which the named jobs end like this and all others succeed; one ends at a time, the first first.
    /// Returns what happened, and the most that ran at once.
    fn history(jobs: &[JobPlan], space: Space, ends: &[(&str, Outcome)]) -> (Vec<String>, usize) {
        let mut schedule = Schedule::new(jobs, space);
        let (mut story, mut running, mut most) = (Vec::new(), Vec::new(), 0);
        loop {
            let holds = |at: usize, status| {
                let contexts = jobs::expression::Contexts { status: Some(status), ..Default::default() };
                match &jobs[at].condition {
                    None => Some(status == Status::Success),
                    Some(condition) => condition.holds(&contexts).ok(),
                }
            };
            for action in schedule.next(holds) {
                match action {
                    Action::Start(at) => running.push((at, false)),
                    Action::End(at, outcome) => story.push(format!("{} {}", jobs[at].id, outcome.as_str())),
                    Action::Cancel(at) => {
                        running.iter_mut().filter(|(job, _)| *job == at).for_each(|r| r.1 = true)
                    }
                }
            }
            most = most.max(running.len());
            if running.is_empty() {
                return (story, most);
            }
            let (at, cancelled) = running.remove(0);
            let id = jobs[at].id.as_str();
            let end =
                ends.iter().find(|(name, _)| *name == id).map_or(Outcome::Success, |(_, outcome)| *outcome);
            let end = if cancelled { Outcome::Cancelled } else { end };
            schedule.ended(at, end);
            story.push(format!("{id} {}", end.as_str()));
        }
    }

    fn story(text: &str, ends: &[(&str, Outcome)]) -> Vec<String> {
        history(&plan(text), ROOMY, ends).0
    }

    #[test]
    fn a_job_waits_for_what_it_needs() {
        let text = "  c: {needs: [a, b], steps: [x]}\n  a: {steps: [x]}\n  b: {needs: [a], steps: [x]}\n";
        assert_eq!(story(text, &[]), ["a success", "b success", "c success"]);
        let failed = [("a", Outcome::Failure)];
        // What is skipped is told in the order of the file as far as that can be.
        assert_eq!(story(text, &failed), ["a failure", "b skipped", "c skipped"]);
    }

    #[test]
    fn conditions_of_needs_and_of_the_job_decide() {
        let base = "  a: {steps: [x]}\n  s: {if: \"false\", steps: [x]}\n";
        let table: [(&str, Outcome, &str); 13] = [
            ("needs: [a]", Outcome::Success, "success"),
            ("needs: [a]", Outcome::Timeout, "skipped"),
            ("needs: [{job: a, if: always}]", Outcome::Failure, "success"),
            ("needs: [{job: a, if: failure}]", Outcome::Failure, "success"),
            ("needs: [{job: a, if: failure}]", Outcome::Success, "skipped"),
            ("needs: [{job: a, if: success}]", Outcome::Failure, "skipped"),
            ("needs: [a], if: failure()", Outcome::Failure, "success"),
            ("needs: [a], if: failure()", Outcome::Success, "skipped"),
            ("needs: [a], if: always()", Outcome::Oom, "success"),
            ("needs: [{job: a, if: success}], if: always()", Outcome::Failure, "skipped"),
            ("needs: [s]", Outcome::Success, "skipped"),
            ("needs: [s], if: \"!failure()\"", Outcome::Success, "success"),
            ("needs: [a], if: \"!cancelled()\"", Outcome::Failure, "success"),
        ];
        for (keys, end, expected) in table {
            let told = story(&format!("{base}  t: {{{keys}, steps: [x]}}\n"), &[("a", end)]);
            assert!(told.contains(&format!("t {expected}")), "{keys} after {end:?}: {told:?}");
        }
        // A failure is seen through a job that was skipped for it.
        let chain = "  a: {steps: [x]}\n  b: {needs: [a], steps: [x]}\n  c: {needs: [b], if: failure(), steps: [x]}\n";
        assert_eq!(story(chain, &[("a", Outcome::Failure)]), ["a failure", "b skipped", "c success"]);
    }

    #[test]
    fn one_cell_that_fails_cancels_the_others() {
        let text = |fast: bool| {
            format!(
                "  t: {{matrix: {{n: [1, 2, 3]}}, max-parallel: 2, fail-fast: {fast}, steps: [x]}}\n  u: {{needs: [t], if: always(), steps: [x]}}\n"
            )
        };
        let failed = [("t@1", Outcome::Failure)];
        assert_eq!(
            story(&text(true), &failed),
            ["t@1 failure", "t@3 cancelled", "t@2 cancelled", "u success"]
        );
        assert_eq!(story(&text(false), &failed), ["t@1 failure", "t@2 success", "t@3 success", "u success"]);
    }

    #[test]
    fn the_machine_is_never_oversubscribed() {
        let jobs = |limits: &str| {
            let jobs: String =
                (0..6).map(|n| format!("  j{n}: {{limits: {{{limits}}}, steps: [x]}}\n")).collect();
            plan(&jobs)
        };
        let space = Space { jobs: None, cpus: 3.0, memory_bytes: 4 << 30 };
        let most = |limits: &str, space| history(&jobs(limits), space, &[]).1;
        let table = [
            ("", 3),
            ("cpus: 1.5", 2),
            ("cpus: 0.1", 6),
            ("cpus: 0.5, memory: 2G", 2),
            ("cpus: 8", 1),
            ("memory: 9G", 1),
        ];
        for (limits, expected) in table {
            assert_eq!(most(limits, space), expected, "{limits}");
        }
        for jobs in [1, 2, 5] {
            let space = Space { jobs: Some(jobs), ..space };
            assert_eq!((most("cpus: 0.1", space), most("", space)), (jobs, jobs));
        }
        assert_eq!(most("cpus: 0.3", Space { cpus: 0.9, ..space }), 3);
        // A large job is not overtaken for ever by small ones.
        let text = "  a: {steps: [x]}\n  big: {limits: {cpus: 3}, steps: [x]}\n  b: {steps: [x]}\n  c: {steps: [x]}\n";
        assert_eq!(
            history(&plan(text), space, &[]).0,
            ["a success", "big success", "b success", "c success"]
        );
    }

    #[test]
    fn after_a_cancel_nothing_starts() {
        let jobs =
            plan("  a: {steps: [x]}\n  b: {needs: [a], if: always(), steps: [x]}\n  c: {steps: [x]}\n");
        let mut schedule = Schedule::new(&jobs, Space { jobs: Some(1), ..ROOMY });
        let holds = |_, _| Some(true);
        assert_eq!(schedule.next(holds), [Action::Start(0)]);
        schedule.cancel();
        assert_eq!(schedule.next(holds), [Action::End(2, Outcome::Cancelled)]);
        schedule.ended(0, Outcome::Cancelled);
        assert_eq!(schedule.next(holds), [Action::End(1, Outcome::Cancelled)]);
    }

    #[test]
    fn a_condition_that_cannot_be_settled_is_a_failure() {
        let jobs = plan("  a: {steps: [x]}\n  b: {steps: [x]}\n");
        let mut schedule = Schedule::new(&jobs, ROOMY);
        let found = schedule.next(|at, _| (at != 1).then_some(true));
        assert_eq!(found, [Action::Start(0), Action::End(1, Outcome::Failure)]);
    }
}
