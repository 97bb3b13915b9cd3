//! Several jobs: defaults, matrices, needs. Tables, and properties of any matrix and any graph.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails is a test that panics")]

use std::collections::HashSet;

use jobs::codes::Code;
use jobs::{Diagnostics, Overrides, Plan};
use proptest::prelude::*;
use serde_json::json;

fn plan(text: &str) -> Result<Plan, Diagnostics> {
    jobs::plan("job.yml", "job", text.as_bytes(), &Overrides::default()).map(|planned| planned.plan)
}

fn codes(text: &str) -> Vec<Code> {
    plan(text).unwrap_err().iter().map(|d| d.code).filter(|code| *code != Code::HostImage).collect()
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn matrix(text: &str) -> Plan {
    plan(&format!("image: host\nmatrix: {text}\nsteps: [echo]\n")).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn cells_are_the_product_less_what_is_excluded_and_what_is_included() {
    let table: [(&str, &[&str]); 9] = [
        ("{a: [1, 2], b: [x, y]}", &["job@1-x", "job@1-y", "job@2-x", "job@2-y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1, b: x}]}", &["job@1-y", "job@2-x", "job@2-y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{b: \"x\"}]}", &["job@1-y", "job@2-y"]),
        ("{a: [1, 2], include: [{a: 3, c: z}]}", &["job@1", "job@2", "job@3"]),
        ("{include: [{a: 1}, {b: 2}]}", &["job@1", "job@2"]),
        ("{py: [3.10, 3.9]}", &["job@3.10", "job@3.9"]),
        ("{os: [{name: Debian 12, v: 1}, {name: \"../x\"}, [1]]}", &["job@Debian-12", "job@x", "job@3"]),
        ("{a: [\"x/y\", \"x y\", x-y]}", &["job@x-y", "job@x-y-2", "job@x-y-3"]),
        ("{a: [true, null]}", &["job@true", "job@2"]),
    ];
    for (text, expected) in table {
        assert_eq!(ids(&matrix(text)), expected, "{text}");
    }
}

/// The example of GitHub's documentation of `include`.
#[test]
fn an_include_is_added_where_it_contradicts_no_axis() {
    let plan = matrix(
        "{fruit: [apple, pear], animal: [cat, dog], include: [{color: green}, {color: pink, animal: cat}, \
         {fruit: apple, shape: circle}, {fruit: banana}, {fruit: banana, animal: cat}]}",
    );
    let cells: Vec<_> = plan.jobs.iter().map(|job| serde_json::to_value(&job.matrix).unwrap()).collect();
    let expected = [
        json!({"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"}),
        json!({"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"}),
        json!({"fruit": "pear", "animal": "cat", "color": "pink"}),
        json!({"fruit": "pear", "animal": "dog", "color": "green"}),
        json!({"fruit": "banana"}),
        json!({"fruit": "banana", "animal": "cat"}),
    ];
    assert_eq!(cells, expected);
}

#[test]
fn a_cells_values_reach_every_key() {
    let plan = plan(
        "image: dir:/${{ matrix.os.name }}\nmatrix: {os: [{name: debian, cpus: 2}], v: [3.10]}\n\
         limits: {cpus: \"${{ matrix.os.cpus }}\"}\nhostname: h-${{ matrix.v }}\n\
         steps: [{run: echo, env: {V: \"${{ matrix.v }}-${{ run.id }}\"}}]\n",
    )
    .unwrap();
    let job = &plan.jobs[0];
    assert_eq!(
        (job.image.reference.as_str(), job.limits.cpus, job.hostname.as_str()),
        ("dir:/debian", Some(2.0), "h-3.10")
    );
    let env: Vec<_> = job.env.iter().map(|(name, v)| (name.as_str(), v.as_ref().unwrap().source())).collect();
    assert_eq!(env, [("MATRIX_OS", "{\"name\":\"debian\",\"cpus\":2}"), ("MATRIX_V", "3.10")]);
}

#[test]
fn the_top_level_is_each_jobs_default() {
    let plan = plan(
        "image: host\nenv: {A: top, B: top}\nlimits: {memory: 1G, pids: 9}\nmounts: [/a:/a]\ntimeout: 5m\n\
         jobs:\n\
         \x20 one: {steps: [a], env: {B: one}, limits: {pids: 7}}\n\
         \x20 two: {steps: [b], image: dir:/x, mounts: [/b:/b], timeout: 1m}\n",
    )
    .unwrap();
    let [one, two] = plan.jobs.as_slice() else { panic!("two jobs") };
    let env = |job: &jobs::JobPlan| {
        job.env.iter().map(|(n, v)| format!("{n}={}", v.as_ref().unwrap().source())).collect::<Vec<_>>()
    };
    assert_eq!(
        (env(one), env(two)),
        (vec!["A=top".into(), "B=one".into()], vec!["A=top".into(), "B=top".into()])
    );
    assert_eq!((one.limits.pids, one.limits.memory_bytes, two.limits.pids), (7, Some(1 << 30), 9));
    assert_eq!((one.mounts[0].path.as_str(), two.mounts[0].path.as_str()), ("/a", "/b"));
    assert_eq!(
        (one.timeout.as_secs(), two.timeout.as_secs(), two.image.reference.as_str()),
        (300, 60, "dir:/x")
    );
}

#[test]
fn artifacts_of_different_jobs_have_different_names() {
    let plan = plan(
        "image: host\njobs:\n\
         \x20 a: {matrix: {v: [1, 2]}, steps: [{run: x, artifacts: [o]}], artifacts: [{name: app, paths: [p]}]}\n\
         \x20 b: {steps: [x], artifacts: [{name: app, paths: [p]}, {name: only, paths: [p]}]}\n",
    )
    .unwrap();
    let names: Vec<&str> = plan
        .jobs
        .iter()
        .flat_map(|job| job.steps.iter().flat_map(|step| &step.artifacts).chain(&job.artifacts))
        .map(|artifact| artifact.name.as_str())
        .collect();
    assert_eq!(names, ["step-1-a-1", "app-a-1", "step-1-a-2", "app-a-2", "app-b", "only"]);
}

#[test]
fn circles_are_shown() {
    let jobs = |needs: &[(&str, &str)]| {
        let jobs: String =
            needs.iter().map(|(id, needs)| format!("  {id}: {{steps: [x], needs: [{needs}]}}\n")).collect();
        plan(&format!("image: host\njobs:\n{jobs}"))
    };
    let text = |needs: &[(&str, &str)]| {
        let errors = jobs(needs).unwrap_err();
        let found = errors.iter().filter(|d| d.code != Code::HostImage);
        found.map(|d| d.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(text(&[("a", "a")]), ["the job `a` needs itself"]);
    assert_eq!(
        text(&[("build", "publish"), ("e2e", "build"), ("publish", "e2e")]),
        ["jobs need each other: build → publish → e2e → build"]
    );
    assert_eq!(text(&[("a", "b"), ("b", "c, a"), ("c", "b")]).len(), 2);
    assert!(jobs(&[("a", ""), ("b", "a"), ("c", "a, b"), ("d", "c, a")]).is_ok());
    assert_eq!(text(&[("a", "bb"), ("b", "")]), ["the job `a` needs `bb`, which does not exist"]);
}

#[test]
fn too_many_cells_are_refused_before_they_are_made() {
    let axis = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text = |axes: &str| format!("image: host\nmatrix: {{{axes}}}\nsteps: [echo]\n");
    assert_eq!(matrix(&format!("{{a: [{}], b: [{}]}}", axis(16), axis(16))).jobs.len(), 256);
    assert_eq!(codes(&text(&format!("a: [{}]", axis(257)))), [Code::MatrixTooBig]);
    let huge: Vec<String> = (0..20).map(|n| format!("a{n}: [{}]", axis(200))).collect();
    assert_eq!(codes(&text(&huge.join(", "))), [Code::MatrixTooBig]);
    let jobs: String =
        (0..9).map(|n| format!("  j{n}: {{matrix: {{a: [{}]}}, steps: [x]}}\n", axis(250))).collect();
    assert_eq!(codes(&format!("image: host\njobs:\n{jobs}")), [Code::MatrixTooBig]);
}

/// Two hundred jobs in a chain of layers, one with a matrix of 10 by 10.
fn large() -> String {
    let axis = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let mut text = format!(
        "image: host\njobs:\n  j0: {{matrix: {{a: {axis}, b: {axis}}}, steps: [{{run: x, env: {{V: \"${{{{ matrix.a \
         }}}}\"}}}}]}}\n"
    );
    for n in 1..200 {
        let needs: Vec<String> =
            (1..=3).filter(|back| n >= *back).map(|back| format!("j{}", n - back)).collect();
        text += &format!(
            "  j{n}:\n    needs: [{}]\n    steps:\n      - {{id: one, run: x}}\n      - {{run: y, if: \
             steps.one.outcome == 'success'}}\n",
            needs.join(", ")
        );
    }
    text
}

#[test]
fn a_large_graph_is_planned() {
    let text = large();
    let plan = plan(&text).unwrap();
    assert_eq!(plan.jobs.len(), 299);
    assert_eq!(plan.jobs.last().unwrap().needs.len(), 3);
    let distinct: HashSet<&str> = ids(&plan).into_iter().collect();
    assert_eq!(distinct.len(), 299);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_matrix_is_multiplied_out(
        axes in prop::collection::btree_map("[a-e]", prop::collection::vec("[a-c/ .]{1,3}|[0-9]", 1..5), 1..4),
        exclude in prop::collection::vec(("[a-e]", "[a-c]"), 0..3),
    ) {
        let quoted = |word: &String| format!("{word:?}");
        let mut text: Vec<String> = axes
            .iter()
            .map(|(name, values)| format!("{name}: [{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")))
            .collect();
        let exclude: Vec<_> = exclude.iter().filter(|(name, _)| axes.contains_key(name)).collect();
        let entries: Vec<String> = exclude.iter().map(|(name, value)| format!("{{{name}: {value}}}")).collect();
        text.push(format!("exclude: [{}]", entries.join(", ")));
        let product: usize = axes.values().map(Vec::len).product();
        match plan(&format!("image: host\nmatrix: {{{}}}\nsteps: [echo]\n", text.join(", "))) {
            Ok(plan) => {
                prop_assert!(plan.jobs.len() <= product && (!exclude.is_empty() || plan.jobs.len() == product));
                let distinct: HashSet<&str> = ids(&plan).into_iter().collect();
                prop_assert_eq!(distinct.len(), plan.jobs.len());
                for job in &plan.jobs {
                    prop_assert!(!job.id.contains(['/', ' ']) && job.id.len() <= 128, "{}", job.id);
                    for (name, value) in &exclude {
                        let cell = serde_json::to_value(&job.matrix).unwrap();
                        prop_assert_ne!(cell[name].as_str(), Some(value.as_str()));
                    }
                }
            }
            Err(errors) => {
                prop_assert!(errors.iter().all(|d| matches!(d.code, Code::Matrix | Code::HostImage)), "{}", errors);
            }
        }
    }

    #[test]
    fn any_graph_is_planned_or_shown_to_be_circular(
        needs in prop::collection::vec(prop::collection::btree_set(0..12_usize, 0..4), 1..12),
    ) {
        let count = needs.len();
        let jobs: String = needs
            .iter()
            .enumerate()
            .map(|(id, needs)| {
                let needs: Vec<String> = needs.iter().filter(|n| **n < count).map(|n| format!("j{n}")).collect();
                format!("  j{id}: {{steps: [x], needs: [{}]}}\n", needs.join(", "))
            })
            .collect();
        // By removing what nothing open is needed by, until nothing changes.
        let mut open: HashSet<usize> = (0..count).collect();
        loop {
            let free: Vec<usize> = open.iter().copied().filter(|id| needs[*id].iter().all(|n| !open.contains(n))).collect();
            if free.is_empty() {
                break;
            }
            free.iter().for_each(|id| { open.remove(id); });
        }
        let planned = plan(&format!("image: host\njobs:\n{jobs}"));
        match planned {
            Ok(_) => prop_assert!(open.is_empty()),
            Err(errors) => {
                prop_assert!(!open.is_empty());
                prop_assert!(errors.iter().all(|d| matches!(d.code, Code::NeedCycle | Code::HostImage)), "{}", errors);
            }
        }
    }
}
