//! Tables of what expressions come to, of what is wrong with them, and properties that hold for any.

use super::*;
use crate::bounds::EXPRESSION_DEPTH_MAX;
use proptest::prelude::*;

fn contexts() -> Contexts {
    let steps = Value::from_json(&serde_json::json!({
        "build": {"outcome": "failure", "conclusion": "success", "outputs": {"version": "1.2", "empty": ""}},
    }));
    let matrix =
        Value::from_json(&serde_json::json!({"os": "Debian", "n": 3, "list": ["a", "B", 3], "on": true}));
    Contexts {
        values: vec![("steps", steps), ("matrix", matrix)],
        status: Some(Status::Success),
        files: None,
    }
}

fn evaluate(source: &str) -> Value {
    Expression::parse(source)
        .unwrap_or_else(|fault| panic!("{source}: {fault}"))
        .evaluate(&contexts())
        .unwrap()
}

#[test]
fn values() {
    let table = [
        ("1", "1"),
        ("-0x1F", "-31"),
        ("0o17", "15"),
        ("1.5e3", "1500"),
        (".5", "0.5"),
        ("null", "null"),
        ("'it''s'", r#""it's""#),
        ("matrix.os", r#""Debian""#),
        ("MATRIX.OS", r#""Debian""#),
        ("matrix['os']", r#""Debian""#),
        ("matrix.list[1]", r#""B""#),
        ("matrix.list[5]", "null"),
        ("matrix.list[-1]", "null"),
        ("matrix.list[0.5]", "null"),
        ("matrix.os.deeper", "null"),
        ("steps.build.outputs['ver' ]", "null"),
        ("steps['build'].outputs.version", r#""1.2""#),
        ("steps[format('{0}ild', 'bu')].outcome", r#""failure""#),
        ("!true", "false"),
        ("!!'x'", "true"),
        ("1 == 1.0", "true"),
        ("1 < 2 == true", "true"),
        ("true && false || 'x'", r#""x""#),
        ("'' || 'default'", r#""default""#),
        ("'a' && 'b'", r#""b""#),
        ("0 && 'b'", "0"),
        ("(1 || 0) && 2", "2"),
        ("contains('Hello', 'ELL')", "true"),
        ("contains(matrix.list, 'b')", "true"),
        ("contains(matrix.list, '3')", "true"),
        ("contains(matrix.list, 'c')", "false"),
        ("contains(matrix, 'os')", "false"),
        ("startsWith('refs/tags/v1', 'REFS/')", "true"),
        ("endsWith('a.tar.gz', '.gz')", "true"),
        ("endsWith('a.tar.gz', '.tar')", "false"),
        ("format('{1}-{0}-{{x}}', 'a', 2)", r#""2-a-{x}""#),
        ("join(matrix.list, '; ')", r#""a; B; 3""#),
        ("join(matrix.list)", r#""a,B,3""#),
        ("join('one')", r#""one""#),
        ("fromJSON('{\"a\": [1, null]}').a[0]", "1"),
        ("fromjson(toJSON(matrix)).n", "3"),
        ("success() && !failure() && always() && !cancelled()", "true"),
    ];
    for (source, json) in table {
        assert_eq!(format!("{:?}", evaluate(source)), json, "{source}");
    }
}

/// The rules of GitHub's documentation and of its evaluator: null is 0, true is 1, '' is 0, other text is read as a
/// number or is NaN, and NaN compares to nothing.
#[test]
fn coercions() {
    let truths = [
        "null == 0",
        "null == ''",
        "null == false",
        "true == 1",
        "true == '1'",
        "'' == 0",
        "' 12 ' == 12",
        "'0x1f' == 31",
        "'0o17' == 15",
        "'1e2' == 100",
        "'-Infinity' < 0",
        "'ABC' == 'abc'",
        "'Ä' == 'ä'",
        "NaN != NaN",
        "'x' != 0",
        "!('x' < 0)",
        "!('x' >= 0)",
        "'10' < '9'",
        "10 > 9",
        "'10' > 9",
        "null <= null",
        "!(null < null)",
        "false < true",
        "'a' < 'B'",
        "matrix == matrix",
        "matrix.list == matrix.list",
        "fromJSON('[1]') != fromJSON('[1]')",
        "matrix != 1",
        "!(matrix < 1)",
        "!NaN",
        "!0",
        "!''",
        "!null",
        "!-0",
        "!!matrix",
        "!!'false'",
        "'inf' != Infinity",
        "'nan' != 0",
        "'+5' == 5",
        "'5 6' != 5",
    ];
    for source in truths {
        assert_eq!(evaluate(source), Value::Bool(true), "{source}");
    }
}

#[test]
fn numbers_as_text() {
    let table = [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (-1.5, "-1.5"),
        (1e14, "100000000000000"),
        (1e15, "1E+15"),
        (1e-5, "0.00001"),
        (1e-6, "1E-06"),
        (1.5e300, "1.5E+300"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
        (123_456_789.25, "123456789.25"),
    ];
    for (number, text) in table {
        assert_eq!(Value::Number(number).to_text().unwrap(), text);
    }
}

#[test]
fn faults_stand_where_they_are() {
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    let long_chain = format!("1{}", " && 1".repeat(300));
    let table = [
        ("", 0..0, "the expression is empty"),
        ("  ", 0..2, "the expression is empty"),
        ("a &&", 4..4, "the expression ends too early: a value is missing"),
        ("a b", 2..3, "expected an operator, found `b`"),
        ("(a", 2..2, "the expression ends too early: `)` is missing"),
        ("a.", 2..2, "the expression ends too early: a name is missing"),
        ("a.'b'", 2..5, "expected a name, found `'b'`"),
        ("a[1", 3..3, "the expression ends too early: `]` is missing"),
        ("'abc", 0..4, "the text is not closed by `'`"),
        ("\"abc\"", 0..1, "text in expressions stands between single quotes"),
        ("a = b", 2..3, "`=` has no meaning in an expression"),
        ("a & b", 2..3, "`&` has no meaning in an expression"),
        ("1.2.3", 0..5, "`1.2.3` is not a number"),
        ("12ab", 0..4, "`12ab` is not a number"),
        ("0xZZ", 0..4, "`0xZZ` is not a number"),
        ("a.*", 2..3, "the filter `*` does not exist here"),
        ("contain('a', 'b')", 0..7, "there is no function `contain`; did you mean `contains`?"),
        ("contains('a')", 0..13, "`contains` takes 2 arguments, 1 given"),
        ("success(1)", 0..10, "`success` takes no arguments, 1 given"),
        ("format()", 0..8, "`format` takes at least 1 argument, 0 given"),
        ("join(1, 2, 3)", 0..13, "`join` takes 1 to 2 arguments, 3 given"),
        ("ü", 0..2, "`ü` has no meaning in an expression"),
        (&deep, 100..100, "the expression is nested deeper than 100 levels"),
        (&long_chain, 0..0, "the expression is nested deeper than 100 levels"),
        (&"1".repeat(30_000), 0..30_000, "the expression has more than 21000 bytes"),
    ];
    for (source, at, text) in table {
        let fault = Expression::parse(source).unwrap_err();
        assert_eq!((fault.to_string().as_str(), fault.at), (text, at), "{source:.40}");
    }
}

#[test]
fn faults_of_evaluation() {
    let table = [
        (
            "fromJSON('[')",
            "`fromJSON` was given what is not JSON: EOF while parsing a list at line 1 column 1",
        ),
        ("format('{0}')", "`format`: there is no argument for `{0}`"),
        ("format('{', 1)", "`format`: a single `{`; write it twice to mean itself"),
        ("format('}', 1)", "`format`: a single `}`; write it twice to mean itself"),
        ("startsWith(matrix, 'a')", "a map cannot be written as text"),
        ("join(fromJSON('[[1]]'))", "a list cannot be written as text"),
    ];
    for (source, text) in table {
        let fault = Expression::parse(source).unwrap().evaluate(&contexts()).unwrap_err();
        assert_eq!(fault.to_string(), text, "{source}");
    }
    let doubling =
        (0..25).fold("'0123456789012345'".to_owned(), |inner, _| format!("format('{{0}}{{0}}', {inner})"));
    let fault = Expression::parse(&doubling).unwrap().evaluate(&contexts()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Large);
    let status = Expression::parse("failure()").unwrap().evaluate(&Contexts::default()).unwrap_err();
    assert_eq!(status.kind, FaultKind::Status("failure"));
}

#[test]
fn conditions_without_a_status_function_hold_after_success_only() {
    let holds = |source: &str, status| {
        let contexts = Contexts { status: Some(status), ..contexts() };
        Expression::parse(source).unwrap().holds(&contexts).unwrap()
    };
    let table = [
        ("true", [true, false, false]),
        ("false", [false, false, false]),
        ("success()", [true, false, false]),
        ("failure()", [false, true, false]),
        ("cancelled()", [false, false, true]),
        ("always()", [true, true, true]),
        ("success() || failure()", [true, true, false]),
        ("matrix.n == 3 && always()", [true, true, true]),
    ];
    for (source, expected) in table {
        let found = [Status::Success, Status::Failure, Status::Cancelled].map(|status| holds(source, status));
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn files_are_hashed_by_whoever_has_them() {
    let hasher = FileHasher::new(|globs| match globs {
        [glob] if glob == "broken" => Err("`broken` cannot be read".to_owned()),
        globs => Ok(globs.join("+")),
    });
    let with = Contexts { files: Some(hasher), ..contexts() };
    let evaluate = |source: &str| Expression::parse(source).unwrap().evaluate(&with);
    assert_eq!(evaluate("hashFiles('a', matrix.os)").unwrap(), Value::text("a+Debian"));
    assert_eq!(
        evaluate("hashFiles('broken')").unwrap_err().to_string(),
        "`hashFiles`: `broken` cannot be read"
    );
    let nobody = Expression::parse("hashFiles('a')").unwrap().evaluate(&contexts()).unwrap_err();
    assert_eq!(nobody.kind, FaultKind::Files("hashFiles"));
    let template = Template::parse("x-${{ hashFiles('a') }}").unwrap();
    assert_eq!(template.text(&with).unwrap(), "x-a");
}

#[test]
fn names_are_tested_before_anything_runs() {
    let step = Shape::members(["outputs", "outcome", "conclusion"]);
    let steps = Shape::Among(["build".into(), "deploy".into()].into(), 1, step.into());
    let scope = Scope {
        known: vec![("steps", steps), ("matrix", Shape::members(["os"])), ("env", Shape::Any)],
        later: &["needs"],
        status: false,
        files: false,
        key: "`image`".into(),
    };
    let test =
        |source: &str| scope.test(&Expression::parse(source).unwrap()).map_err(|fault| fault.to_string());
    for good in
        ["matrix.OS", "matrix['os']", "steps.build.outputs.any.thing", "env.X", "matrix[env.X]", "steps"]
    {
        assert_eq!(test(good), Ok(()), "{good}");
    }
    let table = [
        ("matrx.os", "there is no context `matrx`; did you mean `matrix`?"),
        ("github.ref", "there is no context `github`"),
        ("secrets.TOKEN", "`secrets` is not a context: no expression sees a secret"),
        ("matrix.so", "`matrix` has no `so`"),
        ("1 == matrix['nope']", "`matrix` has no `nope`"),
        ("steps.build.result", "`steps.build` has no `result`"),
        ("contains(steps.biuld.outcome, 1)", "`steps` has no `biuld`; did you mean `build`?"),
        ("steps.deploy.outcome", "the step `deploy` has not run yet here"),
        ("needs.a.result", "`needs` is not known yet when `image` is settled"),
        ("!success()", "`success()` is only known in `if`"),
        ("hashFiles('**')", "`hashFiles()` is only known where the workspace is there"),
    ];
    for (source, text) in table {
        assert_eq!(test(source), Err(text.to_owned()), "{source}");
    }
}

#[test]
fn templates() {
    let table = [
        ("plain", Ok("plain")),
        ("", Ok("")),
        ("${{ matrix.os }}-${{matrix.n}}", Ok("Debian-3")),
        ("a ${{ '}}' }} b", Ok("a }} b")),
        ("a ${{ 'it''s }}' }}", Ok("a it's }}")),
        ("}} $ {{ x", Ok("}} $ {{ x")),
        ("${{ null }}|${{ true }}", Ok("|true")),
        ("x ${{ matrix }}", Err((6..12, "a map cannot be written as text"))),
        ("x ${{ matrix.", Err((2..13, "`${{` is not closed by `}}`"))),
        ("x ${{  }} y", Err((2..9, "the expression is empty"))),
        ("x ${{ 'a }}", Err((6..9, "the text is not closed by `'`"))),
        ("x ${{ a b }}", Err((8..9, "expected an operator, found `b`"))),
        (
            "x ${{  fromJSON('') }}",
            Err((
                7..19,
                "`fromJSON` was given what is not JSON: EOF while parsing a value at line 1 column 0",
            )),
        ),
    ];
    for (source, expected) in table {
        let found = Template::parse(source).and_then(|template| template.text(&contexts()));
        let found = found.map_err(|fault| (fault.at.clone(), fault.to_string()));
        let expected = expected.map(str::to_owned).map_err(|(at, text): (_, &str)| (at, text.to_owned()));
        assert_eq!(found, expected, "{source}");
    }
    let alone = Template::parse("${{ matrix.n }}").unwrap();
    assert_eq!(alone.evaluate(&contexts()), Ok(Value::Number(3.0)));
    assert_eq!(Template::literal("${{ x }}".into()).text(&contexts()), Ok("${{ x }}".into()));
}

/// Makes text of any expression, well-formed by construction.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("NaN".to_owned()),
        any::<i32>().prop_map(|n| n.to_string()),
        (0.0..1e20f64).prop_map(|n| format!("{n:e}")),
        "'([ -&(-~äß]|'')*'",
        "(steps|matrix|env)(\\.[a-z][a-z0-9-]{0,4}){0,3}",
        Just("success()".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec!["||", "&&", "==", "!=", "<", "<=", ">", ">="]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("contains({a}, {b})")),
            prop::collection::vec(inner, 1..4).prop_map(|all| format!("format({})", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_printed_is_read_as_the_same(source in expression()) {
        if let Ok(read) = Expression::parse(&source) {
            let printed = read.canonical();
            let again = Expression::parse(&printed).unwrap_or_else(|fault| panic!("{printed}: {fault}"));
            prop_assert_eq!(&again.root, &read.root, "{} -> {}", source, printed);
            prop_assert_eq!(again.canonical(), printed);
            let _any_end_will_do = read.evaluate(&contexts());
        } else {
            prop_assert!(source.len() > EXPRESSION_DEPTH_MAX, "{}", source);
        }
    }

    #[test]
    fn nothing_panics(source in "[a-c.'\"(){}\\[\\]$ |&=!<>0-9xé,*+-]{0,60}") {
        for text in [source.clone(), format!("${{{{ {source} }}}}"), format!("a ${{{{{source}")] {
            if let Ok(template) = Template::parse(&text) {
                let _any_end_will_do = template.text(&contexts());
            }
        }
        if let Err(fault) = Expression::parse(&source) {
            prop_assert!(source.get(fault.at.clone()).is_some(), "{:?} of {:?}", fault, source);
            prop_assert!(!fault.to_string().is_empty());
        }
    }
}
