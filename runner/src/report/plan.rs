//! `runner check --print`: what a job file comes to.

use jobs::{JobPlan, Plan, Switch, When};

use super::escape;
use super::format::count;
use super::plain::show_name;
use super::sink::Sink;

/// Widest line of a step's name.
const NAME_COLUMNS: usize = 60;

/// Prints the jobs in their order, what each waits for, and its steps.
pub fn plan(sink: &mut Sink, plan: &Plan) {
    sink.line(&format!("{}: {}", show_name(&plan.name), count(plan.jobs.len() as u64, "job")));
    for job in &plan.jobs {
        let steps = count(job.steps.len() as u64, "step");
        sink.line(&format!("\n{}: {steps} on {}", job.id, show_name(&job.image.reference)));
        let needs: Vec<String> = job.needs.iter().map(need).collect();
        let notes = [
            (!needs.is_empty()).then(|| format!("needs {}", needs.join(", "))),
            job.condition.as_ref().map(|condition| format!("if {}", show_name(condition.source()))),
            note(&job.continue_on_error),
        ];
        for note in notes.into_iter().flatten() {
            sink.line(&format!("  {note}"));
        }
        for service in &job.services {
            let image = show_name(&service.image.reference);
            sink.line(&format!("  with {} on {image}", service.name));
        }
        for step in &job.steps {
            let name =
                if step.name == step.id { String::new() } else { format!("  {}", show_name(&step.name)) };
            let head = format!("  {:>3} {}{name}", step.index, step.id);
            sink.line(escape::fit(&head, NAME_COLUMNS).trim_end());
            if let Some(condition) = &step.condition {
                sink.line(&format!("      if {}", show_name(condition.source())));
            }
        }
    }
    sink.flush();
}

fn need(need: &jobs::Need) -> String {
    match need.on {
        None => need.job.clone(),
        Some(on) => format!("{} ({})", need.job, word(on)),
    }
}

fn word(on: When) -> &'static str {
    match on {
        When::Success => "success",
        When::Failure => "failure",
        When::Always => "always",
    }
}

fn note(switch: &Switch) -> Option<String> {
    match switch {
        Switch::Is(false) => None,
        Switch::Is(true) => Some("may fail".to_owned()),
        Switch::When(template) => Some(format!("may fail if {}", show_name(template.source()))),
    }
}

/// Prints the jobs and what they need in the language of Graphviz: `| dot -Tsvg`.
pub fn graph(sink: &mut Sink, plan: &Plan) {
    sink.line(&format!("digraph {} {{", quoted(&plan.name)));
    sink.line("  rankdir=LR; node [shape=box];");
    let mut seen: Vec<&str> = Vec::new();
    for job in &plan.jobs {
        if seen.contains(&job.job.as_str()) {
            continue;
        }
        seen.push(&job.job);
        let cells = plan.jobs.iter().filter(|other| other.job == job.job).count();
        let label = match job.id == job.job {
            true => job.job.clone(),
            false => format!("{}\n{}", job.job, count(cells as u64, "cell")),
        };
        sink.line(&format!("  {} [label={}];", quoted(&job.job), quoted(&label)));
        edges(sink, job);
    }
    sink.line("}");
    sink.flush();
}

fn edges(sink: &mut Sink, job: &JobPlan) {
    for need in &job.needs {
        let style = need.on.map(|on| format!(" [style=dashed, label={}]", quoted(word(on))));
        let style = style.unwrap_or_default();
        sink.line(&format!("  {} -> {}{style};", quoted(&need.job), quoted(&job.job)));
    }
}

/// Text as Graphviz reads it; control characters are left out.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{}\"", text.chars().filter(|c| !c.is_control()).collect::<String>())
}

/// Prints the plan as it is recorded: JSON, every default settled.
pub fn resolved(sink: &mut Sink, plan: &Plan) {
    // A plan is strings, numbers and maps of strings only: serialising it cannot fail.
    if let Ok(text) = serde_json::to_string_pretty(plan) {
        sink.line(&text);
    }
    sink.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed(print: fn(&mut Sink, &Plan)) -> String {
        let text = "name: a \"b\"\nimage: host\njobs:\n\
            \x20 build: {steps: [{id: v, run: make}], continue-on-error: true}\n\
            \x20 test: {needs: [{job: build, if: always}], if: '!cancelled()', matrix: {n: [1, 2]}, steps: [make test]}\n\
            \x20 last: {needs: [test], services: {db: 'pg:16'}, steps: [{run: echo, if: failure()}]}\n";
        let planned = jobs::plan("job.yml", "job", text.as_bytes(), &jobs::Overrides::default()).unwrap();
        let out = Shared::default();
        print(&mut Sink::new(Box::new(out.clone())), &planned.plan);
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_plan_is_read_from_top_to_bottom() {
        let expected = "a \"b\": 4 jobs\n\n\
            build: 1 step on host\n  may fail\n    1 v  make\n\n\
            test@1: 1 step on host\n  needs build (always)\n  if !cancelled()\n    1 step-1  make test\n\n\
            test@2: 1 step on host\n  needs build (always)\n  if !cancelled()\n    1 step-1  make test\n\n\
            last: 1 step on host\n  needs test\n  with db on pg:16\n    1 step-1  echo\n      if failure()\n";
        assert_eq!(printed(plan), expected);
    }

    #[test]
    fn a_graph_has_one_node_for_all_cells() {
        let expected = "digraph \"a \\\"b\\\"\" {\n  rankdir=LR; node [shape=box];\n  \"build\" [label=\"build\"];\n  \
            \"test\" [label=\"test\\n2 cells\"];\n  \"build\" -> \"test\" [style=dashed, label=\"always\"];\n  \
            \"last\" [label=\"last\"];\n  \"test\" -> \"last\";\n}\n";
        assert_eq!(printed(graph), expected);
        assert!(printed(resolved).starts_with("{\n  \"version\": 1,\n  \"name\": \"a \\\"b\\\"\","));
    }
}
