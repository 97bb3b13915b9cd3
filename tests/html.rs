//! `runner show --html`: one page that needs nothing else, and into which no step writes markup.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fixtures::{User, require};
use lab::Lab;

const HOSTILE: &str = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=a> \" onmouseover=\"b ' & &lt; <!-- ]]> javascript:x";

/// Elements of a page, each with its attributes, as a browser reads them: everything between `<` and `>` outside of the style.
fn elements(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (start, rest) = page.split_once("<style>").unwrap();
    let (_, end) = rest.split_once("</style>").unwrap();
    let mut found = Vec::new();
    for part in [start, end] {
        for piece in part.split('<').skip(1) {
            let (tag, _) =
                piece.split_once('>').unwrap_or_else(|| panic!("an element without an end: {piece}"));
            let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut attributes = Vec::new();
            while let Some((key, after)) = rest.split_once('=') {
                let value =
                    after.strip_prefix('"').unwrap_or_else(|| panic!("a value without quotes: {tag}"));
                let (value, more) = value.split_once('"').unwrap();
                let words: Vec<&str> = key.split_whitespace().collect();
                attributes
                    .extend(words[..words.len() - 1].iter().map(|word| ((*word).to_owned(), String::new())));
                attributes.push((words[words.len() - 1].to_owned(), value.to_owned()));
                rest = more;
            }
            attributes.extend(
                rest.split_whitespace().map(|word| (word.trim_end_matches('/').to_owned(), String::new())),
            );
            attributes.retain(|(key, _)| !key.is_empty());
            found.push((name.trim_end_matches('/').to_owned(), attributes));
        }
    }
    found
}

/// Nothing on the page runs, loads, or leaves the page.
#[track_caller]
fn assert_harmless(page: &str) {
    const TAGS: [&str; 36] = [
        "!doctype", "html", "head", "meta", "title", "body", "main", "header", "div", "h1", "h2", "p", "br",
        "span", "b", "i", "a", "code", "pre", "details", "summary", "table", "tr", "th", "td", "svg", "text",
        "rect", "line", "footer", "style", "/style", "ul", "li", "em", "strong",
    ];
    const ATTRIBUTES: [&str; 27] = [
        "html",
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "id",
        "href",
        "style",
        "title",
        "open",
        "viewBox",
        "role",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "width",
        "height",
        "rx",
        "fill",
        "stroke",
        "stroke-width",
        "text-anchor",
    ];
    for (tag, attributes) in elements(page) {
        let known =
            TAGS.contains(&tag.as_str()) || tag.strip_prefix('/').is_some_and(|tag| TAGS.contains(&tag));
        assert!(known, "an element <{tag}>");
        for (key, value) in attributes {
            assert!(ATTRIBUTES.contains(&key.as_str()), "an attribute {key}=\"{value}\" of <{tag}>");
            match key.as_str() {
                "href" => assert!(value.starts_with("#s"), "{value}"),
                "style" | "fill" | "stroke" => {
                    assert!(!value.contains("url") && !value.contains(['\\', '<', '&', '@', '/']), "{value}");
                }
                _ => {}
            }
        }
    }
    assert!(page.contains("default-src 'none'"));
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.to_lowercase().contains("<script"),
        "it needs nothing"
    );
}

#[test]
fn no_step_writes_markup_into_the_page() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let quoted = serde_json::to_string(HOSTILE).unwrap();
    let xml = HOSTILE.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    lab.context.write("text", HOSTILE);
    lab.context.write("colours", format!("\x1b[31m{HOSTILE}\x1b[38;2;1;2;3m<b>\x1b[0m</span>\x1b[1m<\x1b[0mscript>\x1b]8;;javascript:x\x07link\n"));
    lab.context.write("j.xml", format!("<testsuite><testcase name=\"{xml}\" file=\"a.py\"><failure message=\"{xml}\"/></testcase></testsuite>"));
    let sarif = serde_json::json!({"runs": [{"results": [{"ruleId": HOSTILE, "message": {"text": HOSTILE},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": HOSTILE}}}]}]}]});
    lab.context.write("s.sarif", sarif.to_string());
    lab.context.write("c.info", format!("SF:{HOSTILE}\nDA:1,0\nend_of_record\n"));
    let job = format!(
        "name: {quoted}\nreports: {{junit: [j.xml], sarif: [s.sarif], coverage: [c.info]}}\nsteps:\n\
        \x20 - {{id: loud, name: {quoted}, run: 'cat text colours; exit 1', retry: 1, continue-on-error: true}}\n\
        \x20 - {{id: gone, run: [{quoted}], continue-on-error: true}}\n\
        \x20 - id: files\n\
        \x20   run: mkdir -p \"out/$(cut -c1-60 text | tr / _)\"; cp text \"out/$(cut -c1-60 text | tr / _)/<i>&\"; ln -s '<b>x' out/link\n\
        \x20   artifacts: [{{name: app, paths: [out]}}]\n"
    );
    lab.exec(&job, 0);
    lab.context.run(&["show", "--html", "run.html"]).expect_code(0);
    let page = lab.context.read("run.html");
    assert_harmless(&page);
    let shown = "&lt;script&gt;alert(1)&lt;/script&gt;";
    assert!(page.matches(shown).count() >= 10, "{}: {page}", page.matches(shown).count());
    assert!(page.contains("<span class=\"f1\">") && page.contains("attempt 1: failure"), "{page}");
    let printed = lab.context.run(&["show", "--html", "-"]).expect_code(0);
    assert_eq!(printed.stdout_text(), page);
}

#[test]
fn the_page_has_everything_of_the_run_and_is_bounded() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let path = lab.context.write("secrets", "TOKEN=tok3n-Wn7xZz\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    lab.write(
        "secrets: [TOKEN]\nsteps:\n  - {id: many, run: 'seq 1 10000'}\n  - {id: long, run: 'head -c 300000 /dev/zero | tr \"\\0\" x; echo'}\n\
        \x20 - {id: secret, secrets: [TOKEN], run: 'cat /run/secrets/TOKEN; exit 4'}\n  - {id: never, run: 'true'}\n",
    );
    lab.context.run(&["exec", "job.yml", "--secrets-file", "secrets"]).expect_code(1);
    lab.context.run(&["show", "latest", "--html", "run.html"]).expect_code(0);
    let page = lab.context.read("run.html");
    assert_harmless(&page);
    assert!(page.contains("\n1000\n") && page.contains("6500 lines between") && page.contains("\n10000\n"));
    assert!(!page.contains("\n1001\n") && !page.contains("\n7500\n") && page.contains("\n7501\n"));
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(page.contains("***") && !page.contains("tok3n"), "secrets are not on it");
    for id in ["many", "long", "secret", "never"] {
        assert!(page.contains(&format!("<span class=\"name\">{id}</span>")), "{id}");
    }
    assert!(page.contains("<details class=\"step failure\" id=\"s0-3\" open>"), "a failure is open");
    assert!(page.contains("failure (exit code 4)") && page.contains(">skipped<"));
    // It is written as a whole, or not at all.
    let ran = lab.context.run(&["show", "--html", "absent/run.html"]).expect_code(3);
    assert!(ran.stderr_text().contains("cannot create absent/run.html"), "{}", ran.stderr_text());
    assert_eq!(
        fs::read_dir(lab.context.work())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("partial"))
            .count(),
        0
    );
    lab.context.run(&["show", "--html", "x", "--json"]).expect_code(2);
}

#[test]
fn a_run_that_is_not_over_or_was_killed_has_a_page() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("steps: [{id: a, run: echo hello}]\n", 0);
    assert_eq!(run.step(0)["outcome"], "success");
    assert_eq!(run.text(0), "hello\n");
    // As one that was killed leaves it: no end, and its steps in files of their own.
    let path = lab.context.home().join("runs/latest/run.json");
    let mut record = run.record.clone();
    record["state"] = "running".into();
    for key in ["ended", "wall_s", "outcome", "conclusion", "exit_code"] {
        record[key] = serde_json::Value::Null;
    }
    record["jobs"][0]["steps"] = serde_json::json!([]);
    fs::write(&path, record.to_string()).unwrap();
    lab.context.run(&["show", "--html", "run.html"]).expect_code(0);
    let page = lab.context.read("run.html");
    assert_harmless(&page);
    assert!(page.contains("<span class=\"badge failure\">died</span>") && page.contains("hello\n"), "{page}");
}

#[test]
fn services_stand_below_the_steps() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.exec(
        "network: services\nservices: {db: {image: ./rootfs.tar, run: [sh, -c, 'echo \"up <b>\"; exec sleep 600'], ready: {log: up}}}\nsteps: [{id: a, run: 'true'}]\n",
        0,
    );
    lab.context.run(&["show", "--html", "run.html"]).expect_code(0);
    let page = lab.context.read("run.html");
    assert_harmless(&page);
    assert!(
        page.contains("<span class=\"name\">db</span>")
            && page.contains("up &lt;b&gt;")
            && page.contains(" · ready in "),
        "{page}"
    );
}
