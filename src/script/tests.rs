//! What can be shown of the interpreter without a daemon.

use std::sync::{Arc, Mutex};

use super::*;
use crate::containerd::{ConnectOptions, Endpoint};
use crate::grant::{Allow, Grant};
use crate::kind::Kind;
use crate::ops::{Daemon, Place, Settings, Shared};

#[derive(Default)]
struct Printed(Mutex<Vec<String>>);

impl Sink for Printed {
    fn print(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn debug(&self, text: &str, at: &str) {
        self.0.lock().unwrap().push(format!("{at}: {text}"));
    }
}

pub(super) struct Bench {
    interpreter: Interpreter,
    printed: Arc<Printed>,
    _runtime: tokio::runtime::Runtime,
}

pub(super) fn bench(allow: &str) -> Bench {
    bench_of(allow, 100_000)
}

fn bench_of(allow: &str, operations: u64) -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let daemon = Daemon::new(Endpoint::parse("/nowhere/containerd.sock").unwrap(), ConnectOptions::default());
    let place = Place { daemon, namespace: "default".into() };
    let shared = Shared {
        registry: crate::registry::Client::new(crate::registry::Config::default()),
        progress: Arc::new(crate::ops::progress::Silent),
        confirm: Arc::new(crate::ops::policy::Unasked),
        streams: None,
        audit: None,
        settings: Settings {
            snapshotter: None,
            run_dir: "/nowhere".into(),
            log_dir: "/nowhere".into(),
            temp_dir: "/nowhere".into(),
            docker_host: None,
            working_dir: "/nowhere".into(),
        },
    };
    let grant = Grant::new(allow.parse::<Allow>().unwrap(), CancellationToken::new());
    let printed = Arc::new(Printed::default());
    let interpreter = Interpreter::new(Setup {
        runtime: runtime.handle().clone(),
        context: Context::new(place, grant, Arc::new(shared)),
        sink: Arc::<Printed>::clone(&printed),
        args: vec!["one".into()],
        environment: Arc::new(|_| None),
        limits: Limits { operations },
        modules: None,
    });
    Bench { interpreter, printed, _runtime: runtime }
}

impl Bench {
    pub(super) fn json(&mut self, text: &str) -> String {
        let evaluated = self.interpreter.run(text, None, CancellationToken::new()).unwrap();
        self.interpreter.json(&evaluated).unwrap().to_string()
    }

    pub(super) fn fails(&mut self, text: &str) -> Report {
        self.interpreter.run(text, None, CancellationToken::new()).map(|value| format!("{value:?}")).unwrap_err()
    }
}

#[test]
fn variables_and_functions_stay() {
    let mut bench = bench("all");
    bench.json("let x = 40; fn add(a, b) { a + b }");
    assert_eq!(bench.json("add(x, 2)"), "42");
    assert_eq!(bench.json("args()[0]"), "\"one\"");
}

#[test]
fn our_functions_stand_before_the_packages() {
    let mut bench = bench("all");
    assert_eq!(bench.json("to_json(#{a: [1.5, \"x\", ()]})"), r#""{\"a\":[1.5,\"x\",null]}""#);
    assert_eq!(bench.json("from_json(`[18446744073709551615, 1.0, 1e30]`)"), "[18446744073709551615,1.0,1e+30]");
    let evaluated = bench.interpreter.run("exit(7); 1", None, CancellationToken::new()).unwrap();
    assert_eq!(evaluated.exit, Some(7));
    let started = std::time::Instant::now();
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        later.cancel();
    });
    let report = bench.interpreter.run("sleep(60)", None, cancel).map(|_| ()).unwrap_err();
    assert_eq!(report.error.kind, Kind::Cancelled);
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn a_failure_can_be_caught_and_read() {
    let mut bench = bench("all");
    let caught = bench.json("let r; try { version() } catch (e) { r = [e.kind, type_of(e)]; } r");
    assert_eq!(caught, r#"["unavailable","Error"]"#);
    let report = bench.fails("let a = 1;\n  version()");
    assert_eq!(report.error.kind, Kind::Unavailable);
    assert_eq!((report.trace[0].line, report.trace[0].column), (2, 3));
    assert!(report.error.message.contains("/nowhere/containerd.sock"), "{}", report.error.message);
}

#[test]
fn a_denial_cannot_be_caught() {
    let mut bench = bench("read");
    for text in [
        "try { tag(\"a\", \"b\") } catch { 1 }",
        "fn f() { tag(\"a\", \"b\") }\ntry { f() } catch { 1 }\n2",
        "try { [1].map(|x| tag(\"a\", \"b\")) } catch { 1 }\n2",
    ] {
        let report = bench.fails(text);
        assert_eq!(report.error.kind, Kind::Denied, "{text}");
        assert_eq!(report.error.message, "tag needs 'write' access, which was not granted");
    }
}

#[test]
fn wrong_input_names_the_cure() {
    let mut bench = bench("all");
    for (text, message, hint) in [
        ("imagess()", "unknown function imagess ()", "did you mean images?"),
        ("tag(\"a\", \"b\", #{ forse: true })", "tag: unknown option 'forse'", "did you mean 'force'?"),
        ("tag(\"a\", 5)", "tag: target must be a string, not an integer", ""),
        ("size(\"many\")", "size: text 'many' is not a size; write it like 512, 64MiB, 1.5GiB or 500MB", ""),
        ("nodd", "unknown variable nodd", "did you mean node?"),
        ("args[0]", "unknown variable args", "args is a function: args()"),
        ("tag", "unknown variable tag", "tag is a function: tag(source, target)"),
        ("content", "unknown variable content", "content is a module: content::list(…)"),
        (
            "loop {}",
            "the script ran too many operations",
            "an endless loop? raise the limit with --max-operations if it is not",
        ),
        ("throw \"mine\"", "mine", ""),
        ("eval(\"1\")", "reserved keyword 'eval' is disabled", ""),
    ] {
        let report = bench.fails(text);
        assert_eq!(report.error.message, message, "{text}");
        assert_eq!(report.error.hint.unwrap_or_default(), hint, "{text}");
    }
}

#[test]
fn words_of_others_lead_to_what_there_is() {
    let bench = bench("all");
    let catalog = bench.interpreter.catalog();
    for (word, here) in words::all() {
        assert!(catalog.entries().all(|entry| entry.path() != word), "{word} is a function");
        for call in here.split([' ', ',']).filter(|part| part.contains('(')) {
            for name in call.split('.').filter_map(|part| part.split_once('(')).map(|(name, _)| name) {
                assert!(!catalog.find(name).is_empty(), "{word}: there is no {name}");
            }
        }
    }
    assert_eq!(catalog.elsewhere("top").as_deref(), Some("top is here: ps(ID)"));
}

#[test]
fn a_check_knows_modules_and_what_is_imported() {
    let bench = bench("all");
    let problems = |text: &str| {
        let checked = bench.interpreter.check(text, None).unwrap();
        checked.problems.into_iter().map(|report| (report.error.message, report.error.hint)).collect::<Vec<_>>()
    };
    assert_eq!(problems("import \"mine\" as mine; fn f() { mine::x() } mine::y(1); leases::list();"), []);
    let unknown = |module: &str, hint: &str| vec![(format!("unknown module {module}"), Some(hint.to_owned()))];
    let import = "a file is imported by import \"PATH\" as nobody;";
    assert_eq!(problems("nobody::x()"), unknown("nobody", import));
    assert_eq!(problems("import \"nobody\" as mine; nobody::x()"), unknown("nobody", import));
    assert_eq!(problems("lease::list()"), unknown("lease", "did you mean leases?"));
    assert_eq!(problems("import \"m\" as mirror; miror::all()"), unknown("miror", "did you mean mirror?"));
    assert_eq!(problems("leases::lisst()")[0].0, "unknown function leases::lisst");
}

#[test]
fn a_check_finds_options_wherever_they_stand() {
    let bench = bench("all");
    let problems = |text: &str| {
        let checked = bench.interpreter.check(text, None).unwrap();
        checked.problems.into_iter().map(|report| (report.error.message, report.error.hint)).collect::<Vec<_>>()
    };
    let unknown = |name: &str, key: &str, near: &str| {
        vec![(format!("{name}: unknown option '{key}'"), Some(format!("did you mean '{near}'?")))]
    };
    assert_eq!(problems("retry(#{ retires: 3 }, || 1)"), unknown("retry", "retires", "retries"));
    assert_eq!(problems("let n = 3; retry(#{ retires: n }, || 1)"), unknown("retry", "retires", "retries"));
    assert_eq!(problems("parallel([1], #{ jbs: 8 }, |x| x)"), unknown("parallel", "jbs", "jobs"));
    assert_eq!(problems("with_lease(#{ expire: \"1m\" }, || 1)"), unknown("with_lease", "expire", "expires"));
    assert_eq!(problems("on(\"tasks\", #{ cuont: 1 }, |e| e)"), unknown("on", "cuont", "count"));
    assert_eq!(problems("on(#{ cuont: 1 }, |e| e)"), unknown("on", "cuont", "count"));
    assert_eq!(problems("wait_for(\"tasks\", #{ timeuot: 1 }, || 1)"), unknown("wait_for", "timeuot", "timeout"));
    let label = "let i = image(\"x\"); i.label(#{ a: \"1\" }, #{ replce_all: true })";
    assert_eq!(problems(label), unknown("label", "replce_all", "replace_all"));
    for right in [
        "retry(|| 1)",
        "retry(#{ retries: 3, delay: \"1s\", any: true }, || 1)",
        "parallel([#{ a: 1 }], #{ jobs: 8 }, |x| x)",
        "on([\"tasks\"], #{ count: 1, on_tick: || true }, |e| e)",
        "with_lease(#{ expires: \"1m\" }, || 1)",
        "image(\"x\").label(#{ anything: \"1\" })",
        "image(\"x\").label(#{ anything: \"1\" }, #{ replace_all: true })",
        "write_json(\"a\", #{ anything: 1 })",
        "let rows = []; rows.push(#{ id: 1 }); rows.push(\"a\")",
        "let m = #{ rows: [] }; m.rows.push(#{ id: 1 })",
        "let rows = [1]; [1, 2].for_each(|| rows.push(this))",
        "table([1], [\"a\"]); to_json(#{ anything: 1 }); print(#{ anything: 1 })",
    ] {
        assert_eq!(problems(right), [], "{right}");
    }
}

#[test]
fn a_check_names_files_where_a_call_takes_one() {
    let bench = bench("all");
    let access = |text: &str| {
        let checked = bench.interpreter.check(text, None).unwrap();
        assert_eq!(checked.problems, [], "{text}");
        checked.access.iter().map(|access| access.as_str()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(access("images()"), "read");
    assert_eq!(access("read_file(\"a\")"), "read,files");
    assert_eq!(access("write_json(\"a\", 1)"), "read,files");
    assert_eq!(access("save(\"a\", \"a.tar\")"), "read,files");
    assert_eq!(access("cp(\"a\", \"b:/a\")"), "files,host");
    // A mount point is a matter of the host alone.
    for call in ["image(\"a\").mount(\"mnt\")", "unmount(\"mnt\")", "snapshots::mount(\"a\", \"mnt\")"] {
        assert!(!access(call).contains("files") && access(call).contains("host"), "{call}");
    }
}

#[test]
fn values_in_values_are_shown_by_their_own_text() {
    let bench = bench("all");
    let session = bench.interpreter.session();
    let time = || rhai::Dynamic::from(time::Time(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
    let shown = |value: rhai::Dynamic| convert::inline(&value, session);
    assert_eq!(shown(time()), "2023-11-14T22:13:20Z");
    assert_eq!(
        shown(vec![time(), "a\"b".into(), rhai::Dynamic::UNIT].into()),
        "[2023-11-14T22:13:20Z, \"a\\\"b\", ()]"
    );
    assert_eq!(shown(rhai::Map::from([("at".into(), time())]).into()), "#{\"at\": 2023-11-14T22:13:20Z}");
    assert_eq!(shown("plain".into()), "plain");
}

#[test]
fn an_item_that_takes_too_long_is_cancelled_alone() {
    let mut bench = bench_of("all", u64::MAX);
    let hanging = "fn hang(way) { switch way { 0 => { loop { } } 1 => sleep(\"60s\"), 2 => { try { sleep(\"60s\") } catch { } 9 }, \
                   3 => retry(#{ any: true, delay: \"60s\" }, || throw \"no\"), 4 => parallel([1, 2], |x| sleep(\"60s\")), _ => way } }";
    let started = std::time::Instant::now();
    let shown = bench.json(&format!(
        "{hanging} let r = parallel([0, 1, 2, 3, 4, 5], #{{ jobs: 8, timeout: \"300ms\", keep_going: true }}, |way| hang(way)); \
         [r.results, r.failed.map(|f| f.error.kind)]"
    ));
    assert_eq!(shown, r#"[[null,null,null,null,null,5],["timeout","timeout","timeout","timeout","timeout"]]"#);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    // It is thrown as any failure is, and what comes after it is not cancelled, whatever the item changed for the rest.
    let shown = bench.json(
        "let kind = \"\"; try { parallel([1], #{ timeout: \"50ms\" }, |x| { namespace(\"other\"); sleep(\"60s\") }) } \
         catch (e) { kind = e.kind; } sleep(\"1ms\"); kind",
    );
    assert_eq!(shown, "\"timeout\"");
    // The user still stops all of it.
    let cancel = CancellationToken::new();
    cancel.cancel();
    let report = bench.interpreter.run("parallel([1], #{ timeout: \"9s\" }, |x| sleep(\"8s\"))", None, cancel);
    assert_eq!(report.map(|_| ()).unwrap_err().error.kind, Kind::Cancelled);
}

#[test]
fn exit_ends_the_script_from_within_a_batch() {
    for (text, status) in [
        (
            "parallel([1, 2, 3], #{ jobs: 1, keep_going: true }, |x| { if x == 1 { exit(4) } print(x) }); print(\"after\")",
            4,
        ),
        ("parallel([1, 2], #{ keep_going: true }, |x| { fn_that_leaves() }); print(\"after\")", 5),
        ("retry(#{ any: true, delay: \"1ms\" }, || { print(\"once\"); exit(0) }); print(\"after\")", 0),
    ] {
        let mut bench = bench("all");
        let text = format!("fn fn_that_leaves() {{ exit(5) }} {text}");
        let evaluated = bench.interpreter.run(&text, None, CancellationToken::new()).unwrap();
        assert_eq!((evaluated.exit, evaluated.batch_failed), (Some(status), false), "{text}");
        let printed = bench.printed.0.lock().unwrap().clone();
        assert_eq!(printed, if status == 0 { vec!["once"] } else { Vec::new() }, "{text}");
    }
}

#[test]
fn items_are_begun_no_faster_than_the_rate() {
    let mut bench = bench("all");
    let started = std::time::Instant::now();
    assert_eq!(bench.json("parallel([1, 2, 3, 4, 5], #{ jobs: 5, rate: 20 }, |x| x).results"), "[1,2,3,4,5]");
    assert!(started.elapsed() >= std::time::Duration::from_millis(200), "{:?}", started.elapsed());
    for rate in ["0", "-1", "\"x\""] {
        let report = bench.fails(&format!("parallel([1], #{{ rate: {rate} }}, |x| x)"));
        assert!(report.error.message.contains("rate"), "{}", report.error.message);
    }
}

#[test]
fn open_input_goes_on() {
    let bench = bench("all");
    for text in [
        "if true {",
        "let x = [1,",
        "foo(",
        "let s = `a",
        "`a\n",
        "`a ${",
        "`a ${1} b",
        "`a ${1}\"b",
        "#\"a \"",
        "##\"a\"#\n",
        "\"a\\",
        "\"a\\\nb\\",
        "fn f(a",
        "#{ a: 1,",
        "1 +",
    ] {
        assert_eq!(bench.interpreter.input(text), Input::Unfinished, "{text}");
    }
    // A string with quotes ends in its line, unless a backslash does: no line behind it mends it.
    for text in [
        "1 + 1",
        "if true { 1 }",
        "let x = ;",
        "foo)",
        "} 1",
        "let 1 = 2",
        "\"abc",
        "if true { image(\"abc) }\n",
        "\"é\" + \"abc",
        "\"a\\\\",
        "\"a\nb\\",
        "\"a\\\nb",
    ] {
        assert_eq!(bench.interpreter.input(text), Input::Whole, "{text}");
    }
}

#[test]
fn modules_come_from_nowhere_else() {
    let mut bench = bench("all");
    for path in ["/etc/passwd", "../x", "std/nothing", "x"] {
        let report = bench.fails(&format!("import \"{path}\" as m;"));
        assert_eq!(report.error.kind, Kind::NotFound, "{path}");
    }
}

#[test]
fn a_column_that_no_row_has_is_named() {
    let mut bench = bench("all");
    for (text, message, hint) in [
        (
            "to_csv([#{ name: 1, size: 2 }, #{ name: 3, pid: 4 }], [\"nmae\"])",
            "to_csv: unknown column 'nmae'",
            "did you mean 'name'? the columns are name, size, pid",
        ),
        ("table([#{ a: 1 }], [\"a\", \"other\"])", "table: unknown column 'other'", "the columns are a"),
        (
            "to_csv([node()], [\"adress\"])",
            "to_csv: unknown column 'adress'",
            "did you mean 'address'? the columns are address, namespace",
        ),
    ] {
        let report = bench.fails(text);
        assert_eq!((report.error.kind, report.error.message.as_str()), (Kind::Usage, message), "{text}");
        let told = report.error.hint.unwrap_or_default();
        assert!(told.starts_with(hint), "{text}: {told}");
    }
    assert_eq!(bench.json("to_csv([#{ a: 1 }, #{ b: 2 }], [\"b\", \"a\"])"), r#""b,a\n,1\n2,\n""#);
    assert_eq!(bench.json("to_csv([], [\"b\"])"), "\"\"");
}

#[test]
fn a_batch_is_whole_as_json_and_as_a_map() {
    let mut bench = bench("all");
    let batch = "let r = parallel([1, 2, 0], #{ keep_going: true }, |x| if x == 0 { throw \"zero\" } else { #{ ten: x * 10 } });";
    let json = bench.json(&format!("{batch} r"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["results"], serde_json::json!([{ "ten": 10 }, { "ten": 20 }, null]));
    assert_eq!(json["failed"][0]["error"]["message"], "zero");
    assert_eq!(json["failed"][0]["error"]["kind"], "usage");
    assert_eq!(bench.json(&format!("{batch} from_json(r.to_json()).results[1].ten")), "20");
    assert_eq!(bench.json(&format!("{batch} r.to_map().results.len()")), "3");
    // People see how many there were.
    let evaluated = bench.interpreter.run(&format!("{batch} r"), None, CancellationToken::new()).unwrap();
    let Output::Record { fields, .. } = bench.interpreter.show(&evaluated).unwrap() else { panic!("no record") };
    assert!(fields.iter().all(|(name, _)| name != "results"), "{fields:?}");
}

#[test]
fn a_word_that_is_reserved_is_told_as_such() {
    let mut bench = bench("all");
    for (text, word, here) in [
        ("let match = 1", "match", "; to choose there is switch"),
        ("let shared = 1", "shared", ""),
        ("fn go() { 1 }", "go", "; parallel(LIST, |x| …) does several things at once"),
        ("[1].map(|thread| 1)", "thread", "; parallel(LIST, |x| …) does several things at once"),
        ("#{ default: 1 }", "default", ""),
        ("let m = #{}; m.case", "case", ""),
        ("for new in [1] { }", "new", ""),
        ("let x = null", "null", "; nothing is written ()"),
    ] {
        let report = bench.fails(text);
        assert!(report.parse && report.error.message.contains(word), "{text}: {}", report.error.message);
        let hint = format!(
            "{word} is a word that Rhai keeps for itself: take another name, {word}_, and [\"{word}\"] for a key of a map{here}"
        );
        assert_eq!(report.error.hint, Some(hint), "{text}");
        let checked = bench.interpreter.check(text, None).map(|_| ()).unwrap_err();
        assert_eq!(checked.error, report.error, "{text}");
    }
    let report = bench.fails("let private = 1");
    assert_eq!(report.error.hint.as_deref(), Some("a word of the language, as private, fn or in, is no name"));
}

#[test]
fn a_map_that_is_thrown_says_what_it_says() {
    let mut bench = bench("all");
    let batch = |thrown: &str| {
        format!("let r = parallel([1], #{{ keep_going: true }}, |x| throw {thrown}); let e = r.failed[0].error;")
    };
    let quota = batch("#{ kind: \"quota\", message: \"too much\", left: 3 }");
    assert_eq!(
        bench.json(&format!("{quota} [e.kind, e.message, e.left, e.hint, e.retryable]")),
        r#"["quota","too much",3,null,false]"#
    );
    let json = bench.json(&format!("{quota} r"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let error = &json["failed"][0]["error"];
    assert_eq!((&error["kind"], &error["message"], &error["left"]), (&"quota".into(), &"too much".into(), &3.into()));
    let bare = batch("#{ code: 7 }");
    assert_eq!(bench.json(&format!("{bare} [e.kind, e.code, e.message]")), r##"["usage",7,"thrown: #{\"code\": 7}"]"##);
    // What nobody catches is told as any failure is.
    let report = bench.fails("throw #{ kind: \"not_found\", message: \"gone\", hint: \"look there\" }");
    let told = (report.error.kind, report.error.message.as_str(), report.error.hint.as_deref());
    assert_eq!(told, (Kind::NotFound, "gone", Some("look there")));
    let report = bench.fails("parallel([1], |x| throw #{ kind: \"quota\", message: \"too much\" })");
    assert_eq!((report.error.kind, report.error.message.as_str()), (Kind::Usage, "too much"));
    // A denial is ctrsh's to give.
    assert_eq!(bench.json(&format!("{} e.kind", batch("#{ kind: \"denied\", message: \"no\" }"))), "\"denied\"");
    // What says that it may pass is tried again.
    let again = "let n = 0; retry(#{ delay: \"1ms\" }, || { n += 1; if n < 3 { throw #{ message: \"not yet\", retryable: true } } n })";
    assert_eq!(bench.json(again), "3");
}

#[test]
fn a_container_that_fails_for_ever_is_started_again_for_ever() {
    // Without its lower part, which is the program.
    let script = library::find("std/restart-on-failure").unwrap().text.split("if is_main()").next().unwrap();
    let shown = bench("all").json(&format!(
        "{script}\nlet state = #{{ retries: 300, backoff: 0.25, max_backoff: 60.0, reset_after: 600.0, known: #{{}}, given_up: [] }};\n\
         for i in 0..200 {{ state.fail(\"web\", \"failed\") }} [state.known.web.failures, state.given_up]"
    ));
    assert_eq!(shown, "[200,[]]");
}

#[test]
fn a_closure_that_uses_what_its_method_is_of_is_told_how_not_to() {
    let mut bench = bench("all");
    let report = bench.fails("let n = node(); n.with_lease(|| n.address)");
    let hint = "a method that runs holds its variable: copy that first for its closure, let other = x; \
                in parallel return values, or use it after the batch";
    assert_eq!(report.error.hint.as_deref(), Some(hint), "{}", report.error.message);
    let report = bench.fails("let list = [4]; list.map(|x| list.len())");
    assert_eq!(report.error.hint.as_deref(), Some(hint), "{}", report.error.message);
    assert_eq!(bench.json("let list = [4]; let other = list; list.map(|x| other.len())"), "[1]");
}
