//! Lines and what they become.

use super::*;
use crate::kind::Failure;

fn steps(line: &str) -> Steps {
    let words = shlex::split(line).unwrap();
    match translate(&words) {
        Ok(Line::Steps(steps)) => steps,
        other => panic!("{line}: {other:?}"),
    }
}

#[track_caller]
fn is(line: &str, code: &str) {
    assert_eq!(steps(line).text(), code, "{line}");
}

#[track_caller]
fn fails(line: &str, message: &str, hint: &str) {
    let words = shlex::split(line).unwrap();
    let error = translate(&words).unwrap_err();
    assert_eq!(error.to_string(), message, "{line}");
    assert_eq!(error.hint().unwrap_or_default(), hint, "{line}");
}

#[test]
fn lines_are_what_a_user_would_write() {
    is("images pull docker.io/library/nginx:1", "pull(\"docker.io/library/nginx:1\")");
    is(
        "i pull --platform linux/arm64 --label a=b --label io.x/y=1 nginx",
        "pull(\"nginx\", #{ label: #{ a: \"b\", \"io.x/y\": \"1\" }, platform: \"linux/arm64\" })",
    );
    is(
        "images pull --platform=linux/arm64 --platform linux/amd64 a",
        "pull(\"a\", #{ platform: [\"linux/arm64\", \"linux/amd64\"] })",
    );
    is("image ls", "images()");
    is("images list name~=a name~=b", "images([\"name~=a\", \"name~=b\"])");
    is("i ls -q", "for i in images() { print(i.name) }");
    is("images push harbor.example/a:1 busybox", "push(\"harbor.example/a:1\", \"busybox\")");
    is("images push -k harbor.example/a:1", "push(\"harbor.example/a:1\", #{ skip_verify: true })");
    is(
        "images push --platform linux/amd64 --platform linux/arm64 a/b:1 c",
        "copy(\"containerd:c\", \"a/b:1\", #{ platforms: [\"linux/amd64\", \"linux/arm64\"] })",
    );
    is(
        "images push --manifest sha256:00 --manifest-type x/y --platform linux/arm64 a/b:1 c",
        "push(\"a/b:1\", #{ manifest: \"sha256:00\", platform: \"linux/arm64\" })",
    );
    is("images import --index-name x/all:1 --discard-unpacked-layers a.tar", {
        "load(\"a.tar\", #{ index_name: \"x/all:1\", discard_unpacked_layers: true })"
    });
    is(
        "images tag --force a b c",
        "tag(\"a\", \"b\", #{ force: true }); print(\"b\"); tag(\"a\", \"c\", #{ force: true }); print(\"c\")",
    );
    is("images rm --sync a b", {
        "let failed = (); for i in [\"a\", \"b\"] { try { delete_images(i, #{ wait: true }); print(i) } catch (e) { if e.kind == \"not_found\" \
         { log::warn(e.message) } else if failed == () { failed = e } else { log::error(e.message) } } } if failed != () { throw failed }"
    });
    is("images rm a", {
        "try { delete_images(\"a\"); print(\"a\") } catch (e) { if e.kind != \"not_found\" { throw e } log::warn(e.message) }"
    });
    is("images import --no-unpack --base-name x/y a.tar", "load(\"a.tar\", #{ name: \"x/y\", unpack: false })");
    is("images export out.tar a b", "save([\"a\", \"b\"], \"out.tar\")");
    is("images export - a", "save(\"a\", \"/dev/stdout\"); ()");
    is("images import -", "load(\"/dev/stdin\")");
    is("install --libs -r --path /opt a", "image(\"a\").install(#{ libs: true, replace: true, path: \"/opt\" })");
    is("images check --snapshotter native", "check((), #{ snapshotter: \"native\" })");
    is("images label a team=core old=", "image(\"a\").label(#{ team: \"core\", old: \"\" })");
    is("images prune --all", "prune()");
    is("c info --spec web", "print(to_json(container(\"web\").spec, #{ indent: 4 }))");
    is("c info web", "print(to_json(container(\"web\").record, #{ indent: 4 }))");
    is("c rm --keep-snapshot a b", {
        "let failed = (); for c in [\"a\", \"b\"] { try { delete(c, #{ keep_snapshot: true }) } catch (e) { if failed == () \
         { failed = e } else { log::error(e.message) } } } if failed != () { throw failed }"
    });
    is("t exec --exec-id x --user 1000 web ls -l --color", {
        "exec(\"web\", [\"ls\", \"-l\", \"--color\"], #{ stdio: \"inherit\", exec_id: \"x\", user: \"1000\" })"
    });
    is("t rm -f web", "delete(\"web\", #{ task: true, force: true })");
    is("t rm --exec-id look web", "delete(\"web\", #{ exec_id: \"look\" })");
    is("content prune references", "content::prune_references(#{ wait: true })");
    is("content ingest --expected-size 5 up", {
        "content::ingest(#{ path: \"/dev/stdin\" }, #{ ref: \"up\", expected_size: 5 })"
    });
    is("leases create --id x -x 1h team=core", {
        "print(leases::create(#{ id: \"x\", expires: \"1h\", labels: #{ team: \"core\" } }).id)"
    });
    is("t kill -s SIGHUP web", "kill(\"web\", \"SIGHUP\")");
    is("t kill --all web", "kill(\"web\", (), #{ all: true })");
    is("t start -d web", "start(\"web\")");
    is(
        "t start web",
        "if container(\"web\").spec.process.terminal == true { start(\"web\", #{ tty: true }) } else { start(\"web\", #{ stdio: \"inherit\" }) }",
    );
    is("t metrics --format json web", "print(to_json(metrics(\"web\").record, #{ indent: 2 }))");
    is("t metrics web", "metrics(\"web\").listed");
    fails("t metrics --format wide web", "ctr tasks metrics --format wide must be table or json", "");
    is("ns create shop team=core", "namespaces::create(\"shop\", #{ team: \"core\" })");
    is("leases rm a b", "for l in [\"a\", \"b\"] { leases::delete(l); print(l) }");
    is("ns label shop team=", "namespace(\"shop\").label(#{ team: \"\" })");
    is("snapshots --snapshotter native rm a", "snapshots::delete(\"a\", #{ snapshotter: \"native\" })");
    is("plugins ls -d", "print(to_yaml(plugins()))");
    is("events", "on(#{ all_namespaces: true }, |e| print(e))");
    is("version", "version()");
}

#[test]
fn a_container_takes_all_that_follows_its_id() {
    is(
        "run -d --memory-limit 67108864 --cpus 1.5 --env B=1 --env A=2 --env-file e img id sh -c 'exit 1' -- --rm",
        "run(\"img\", #{ id: \"id\", env: #{ B: \"1\", A: \"2\" }, env_file: \"e\", memory_limit: \"64MiB\", detach: true, cpus: 1.5, \
         command: [\"sh\", \"-c\", \"exit 1\", \"--\", \"--rm\"], cpu_shares: 1024 })",
    );
    is(
        "run -d --user '' --snapshotter= --env FOO --env-file '' --cpu-shares 0 img id",
        "run(\"img\", #{ id: \"id\", detach: true })",
    );
    is("run -d img id", "run(\"img\", #{ id: \"id\", detach: true, cpu_shares: 1024 })");
    is("c create --cpu-quota -1 --memory-limit 0 img id", "create(\"id\", \"img\")");
    is("run --config c.json id", {
        "run(\"/\", #{ id: \"id\", stdio: \"inherit\", config: \"c.json\", rootfs: true })"
    });
    is("run --null-io -d img id", "run(\"img\", #{ id: \"id\", detach: true, log_uri: \"null\", cpu_shares: 1024 })");
}

#[test]
fn a_terminal_is_given_to_what_wants_one() {
    is(
        "run --rm -t img id sh",
        "create(\"id\", \"img\", #{ command: [\"sh\"], tty: true, cpu_shares: 1024 })\n:start id\ndelete(\"id\")",
    );
    is("run -t img id", "create(\"id\", \"img\", #{ tty: true, cpu_shares: 1024 })\n:start id");
    is("t exec -t --exec-id x web sh -c 'a b'", ":exec web sh -c 'a b'");
    let Step::Exec { exec_id, .. } = &steps("t exec -t --exec-id x web sh").steps[0] else { panic!() };
    assert_eq!(exec_id.as_deref(), Some("x"));
}

#[test]
fn flags_are_read_as_ctr_reads_them() {
    is("leases rm a --sync b", "for l in [\"a\", \"b\"] { leases::delete(l, #{ wait: true }); print(l) }");
    is("leases rm --sync=false a", "leases::delete(\"a\"); print(\"a\")");
    is("leases rm -sync=true a", "leases::delete(\"a\", #{ wait: true }); print(\"a\")");
    is("leases rm --sync false", "leases::delete(\"false\", #{ wait: true }); print(\"false\")");
    is("leases rm -- --sync", "leases::delete(\"--sync\"); print(\"--sync\")");
    is("images pull --snapshotter one --snapshotter two a", "pull(\"a\", #{ snapshotter: \"two\" })");
    is("-n k8s.io images ls", "namespace(\"k8s.io\"); images()");
    is("--namespace=k8s.io t exec -t web sh", "namespace(\"k8s.io\")\n:exec web sh");
    // What ctr does not print is not shown.
    let change = steps("-n k8s.io t exec -t web sh").steps.into_iter().next();
    assert_eq!(change, Some(Step::Silent("namespace(\"k8s.io\")".into())));
    let globals = steps("--debug -a /run/x.sock --timeout 1m30s --connect-timeout 0 version").globals;
    assert_eq!(
        globals,
        Globals {
            address: Some("/run/x.sock".into()),
            namespace: None,
            timeout: Some(Duration::from_secs(90)),
            connect_timeout: Some(Duration::ZERO),
            debug: true,
        }
    );
}

#[test]
fn mistakes_are_named_with_the_nearest_name() {
    fails("imges ls", "ctr has no command imges", "did you mean images?");
    fails("images pul a", "ctr images has no command pul", "did you mean pull?");
    fails("images pull --platfrom x a", "ctr images pull has no flag --platfrom", "did you mean --platform?");
    fails("images rm -abc a", "ctr images delete has no flag -abc", "there is --sync");
    fails(
        "images ls -n k8s.io",
        "ctr images list has no flag -n",
        "--namespace stands earlier: ctr --namespace VALUE images list",
    );
    fails(
        "snapshots ls --snapshotter native",
        "ctr snapshots list has no flag --snapshotter",
        "--snapshotter stands earlier: ctr snapshots --snapshotter VALUE list",
    );
    fails(
        "images pull --platform",
        "ctr images pull --platform needs a value",
        "write --platform VALUE or --platform=VALUE",
    );
    fails("images rm --sync=maybe a", "ctr images delete --sync maybe is neither true nor false", "");
    fails("run --memory-limit 64M a b", "ctr run --memory-limit 64M is not a number of bytes", "");
    fails("--timeout soon version", "ctr --timeout soon is not a duration such as 10s or 1m30s", "");
    fails("images pull", "ctr images pull has too few arguments", "it is used as ctr images pull [FLAGS] IMAGE");
    fails("images prune", "ctr images prune does nothing without --all", "it is used as ctr images prune --all");
    fails(
        "run img --rm id",
        "ctr run takes its flags before its first argument, and --rm stands behind it",
        "it is used as ctr run [FLAGS] IMAGE CONTAINER [COMMAND [ARGUMENT…]], or --config FILE CONTAINER",
    );
    fails(
        "images push --manifest sha256:00 --platform a/b --platform c/d x y",
        "ctr images push takes one --platform beside --manifest, not 2",
        "it is used as ctr images push [FLAGS] TARGET [IMAGE]",
    );
    assert_eq!(translate(&["images"]).unwrap_err().to_string(), "ctr images needs a command");
    let refused = translate(&["content", "edit", "--validate", "json", "sha256:00"]).unwrap_err();
    assert_eq!(refused.to_string(), "ctrsh does not do ctr content edit --validate");
    assert!(refused.hint().unwrap().contains("leave it out"));
}

#[test]
fn what_is_done_another_way_is_said() {
    let steps = steps("images pull --local --http-dump --local=true a");
    assert_eq!(steps.text(), "pull(\"a\")");
    assert_eq!(steps.notes.len(), 2, "{:?}", steps.notes);
    assert!(steps.notes[0].starts_with("--local: this is what is done"));
}

#[test]
fn a_password_is_no_part_of_the_text() {
    let steps = steps("images pull --user ann:se:cret harbor.example/a:1");
    assert_eq!(steps.text(), "pull(\"harbor.example/a:1\", #{ user: \"ann\" })");
    assert_eq!(steps.secret.as_deref(), Some("se:cret"));
    assert!(!steps.notes.join(" ").contains("se:cret"));
    assert_eq!(self::steps("images pull -u ann a").secret, None);
    let token = self::steps("images pull --refresh T a");
    assert_eq!((token.text().as_str(), token.secret.as_deref()), ("pull(\"a\", #{ user: \"<token>\" })", Some("T")));
    assert!(holds_secret("images pull -u a:b c") && holds_secret("images pull --user=a:b --nope c"));
    assert!(!holds_secret("run --user 1:1 a b") && !holds_secret("images ls"));
}

#[test]
fn help_is_made_of_the_table() {
    for (words, part) in [
        (&["--help"][..], "images pull"),
        (&[], "--namespace, -n"),
        (&["images", "--help"], "images pull"),
        (&["images", "pull", "--help"], "--platform"),
        (&["images", "pull", "-h"], "pull(\"docker.io/library/busybox:latest\")"),
        (&["help"], "snapshots tree"),
        (&["--version"], "2.1"),
    ] {
        match translate(words).unwrap() {
            Line::Help(text) => assert!(text.contains(part), "{words:?}\n{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_row_is_a_line_that_can_be_read() {
    let mut names = std::collections::HashSet::new();
    for row in rows() {
        assert!(names.insert(row.name()), "{} is twice in the table", row.name());
        match translate(&row.line()) {
            Ok(Line::Steps(steps)) => assert!(!steps.steps.is_empty(), "{}", row.name()),
            Ok(Line::Help(_)) => panic!("{}", row.name()),
            Err(Error::Refused { .. }) => assert_eq!(row.tier(), Tier::C, "{} has no form", row.name()),
            Err(error) => panic!("{}: {error}", row.name()),
        }
        for flag in row.command.forms {
            assert!(
                flag.is_empty() || row.command.flags().any(|other| other.written() == *flag),
                "{} {flag}",
                row.name()
            );
        }
    }
}

#[test]
fn no_command_has_a_flag_or_name_twice() {
    for command in commands() {
        let flags: Vec<&Flag> = command.flags.iter().copied().flatten().collect();
        for (i, flag) in flags.iter().enumerate() {
            let clash = flags[..i].iter().find(|other| other.is(flag.name) || other.is(flag.alias));
            assert!(clash.is_none(), "{} {}", command.path(), flag.name);
        }
        let others = commands().filter(|other| other.group == command.group && !std::ptr::eq(*other, command));
        for other in others {
            assert!(command.names.iter().all(|name| !other.names.contains(name)), "{}", command.path());
        }
    }
}
