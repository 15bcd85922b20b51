//! What the README and the pages of `docs/` show works: scripts, command lines, the lines of the prompt, the picture.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ctrsh::grant::Allow;
use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;

use crate::examples::{Quiet, prepare};
use crate::harness::output::Output;
use crate::harness::picture;
use crate::harness::{Env, Kind, pure, trial};
use crate::ops::stage::Stage;
use crate::shell::terminal::Terminal;

/// The variable that makes the test of the picture write it to this file.
const PICTURE: &str = "CTRSH_SUITE_PICTURE";

/// What is typed in the picture.
const SESSION: [&str; 8] = [
    r#"let box = from_rootfs("rootfs", "busybox", #{ cmd: ["/bin/sh"], env: #{ TEAM: "core" } })"#,
    r#"for tag in ["1.0", "1.1"] { box.tag(`${REGISTRY}/shop/web:${tag}`) }"#,
    "images()",
    r#"push(`${REGISTRY}/shop/web:1.1`)"#,
    r#"let web = run(box, #{ id: "web", detach: true, command: ["sleep", "600"], memory: "64MiB" })"#,
    r#"web.exec(["sh", "-c", "echo hello from team $TEAM"]).stdout"#,
    "containers()",
    r#"delete("wbe", #{ forse: true })"#,
];

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = vec![
        pure("readme::every_line_of_the_shell_is_in_its_page", lines_of_the_shell),
        pure("readme::links_lead_somewhere", links),
        trial("readme::the_picture", env, the_picture),
    ];
    for page in ["README.md", "docs/access.md"] {
        for (number, line) in blocks(page, "sh").iter().flat_map(|block| block.lines()).enumerate() {
            let line = line.to_owned();
            let name = format!("readme::{page} {number}: {}", line.split("  #").next().unwrap_or_default().trim());
            trials.push(trial(&name, env, move |env| command_line(env, &line)));
        }
    }
    trials.push(trial("readme::mirror.rhai, dry, where nothing is yet", env, mirrored));
    for script in blocks("README.md", "rhai") {
        let name = file_name(&script).to_owned();
        trials.push(trial(&format!("readme::{name}"), env, move |env| runs(env, &name, &script)));
    }
    trials
}

fn path(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(page)
}

fn read(page: &str) -> String {
    std::fs::read_to_string(path(page)).unwrap()
}

/// Returns the blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = read(page);
    let begin = format!("\n```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// Returns what a script is called, which stands on its first line.
fn file_name(script: &str) -> &str {
    script.strip_prefix("// ").unwrap().split(':').next().unwrap()
}

/// Makes what the README counts on: images, files, running containers, and its scripts as files.
fn stage(env: &Env) -> (Stage, String) {
    let (stage, registry) = prepare(env);
    let work = stage.folder.join("work");
    std::fs::write(work.join("images.txt"), "# what goes\nbusybox\nexample.test/busybox:1\n").unwrap();
    for script in blocks("README.md", "rhai") {
        let prelude = format!("const REGISTRY = \"{registry}\";\n");
        std::fs::write(work.join(file_name(&script)), format!("{prelude}{script}")).unwrap();
    }
    for id in ["one", "two"] {
        stage.ctr(&["run", "-d", "--snapshotter", &stage.snapshotter, crate::ops::stage::IMAGE, id, "sleep", "600"]);
    }
    (stage, registry)
}

fn unstage(stage: &Stage) {
    for id in ["one", "two"] {
        stage.ctr(&["tasks", "rm", "-f", id]);
        stage.ctr(&["containers", "rm", id]);
    }
}

fn runs(env: &Env, name: &str, script: &str) {
    let (stage, registry) = stage(env);
    // As a script has it when nothing is said.
    let ctx = stage.allowing(Allow::script());
    let mut interpreter = stage.interpreter(&ctx, Arc::new(Quiet));
    interpreter.set_constant("REGISTRY", &registry);
    let ran = interpreter.run(script, Some(name), CancellationToken::new());
    let evaluated = ran.unwrap_or_else(|report| panic!("{name}: {report:?}"));
    assert!(!evaluated.batch_failed, "{name}: items of a batch failed");
    let there = |name: &str| env.skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]).succeeded();
    match name {
        "mirror.rhai" => assert!(there(&format!("{registry}/team/box:1.0"))),
        "retag.rhai" => assert!(there(&format!("{registry}/library/busybox:latest"))),
        "prune.rhai" => assert_eq!(stage.ctr(&["images", "ls", "-q"]).trim(), crate::ops::stage::IMAGE),
        "report.rhai" => {
            let list = std::fs::read_to_string(stage.folder.join("work/images.csv")).unwrap();
            assert!(
                list.starts_with("name,digest,size,created\n") && list.contains("busybox:latest,sha256:"),
                "{list}"
            );
        }
        _ => {}
    }
    unstage(&stage);
}

/// A dry run of what brings images in says what it would send, and nothing is sent.
fn mirrored(env: &Env) {
    let stage = Stage::empty(env, "readme");
    let registry = format!("{}/{}", env.registry(), env.fresh("readme"));
    env.push(&env.image(Kind::Busybox), &format!("{registry}/example/box:1"));
    let script = blocks("README.md", "rhai").into_iter().find(|script| file_name(script) == "mirror.rhai").unwrap();
    let file = stage.folder.join("mirror.rhai");
    std::fs::write(&file, format!("const REGISTRY = \"{registry}\";\n{script}")).unwrap();
    let before = stage.leftovers();
    let dry = || {
        let file = file.display().to_string();
        let arguments = ["--json", "-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "--dry-run"];
        let ran = env.ctrsh(&[arguments.as_slice(), &[file.as_str()]].concat());
        let said = ran.stderr.clone();
        let pushes: Vec<String> =
            said.lines().filter(|line| line.contains("\"operation\":\"push\"")).map(str::to_owned).collect();
        (ran.ok(), pushes)
    };
    let (printed, pushes) = dry();
    assert!(printed.contains(&format!("{registry}/team/box:1.0 is sha256:")), "{printed}");
    assert_eq!(pushes.len(), 1, "{pushes:?}");
    assert_eq!(stage.leftovers(), before);
    assert!(stage.ctr(&["content", "ls", "-q"]).is_empty());
    let there = env.skopeo(&["inspect", "--tls-verify=false", &format!("docker://{registry}/team/box:1.0")]);
    assert!(!there.succeeded(), "a dry run made {registry}/team/box:1.0");
    // It says the same once the image is here.
    let (source, snapshotter) = (format!("{registry}/example/box:1"), stage.snapshotter.as_str());
    stage.ctr(&["images", "pull", "--plain-http", "--snapshotter", snapshotter, &source]);
    assert_eq!(dry(), (printed, pushes));
}

fn command_line(env: &Env, line: &str) {
    let (line, remark) = line.split_once("  #").unwrap_or((line, ""));
    let first = line.split_whitespace().next().unwrap();
    if first.starts_with("scripts/") {
        use std::os::unix::fs::PermissionsExt;
        // They are what .ci/run runs; here they would run this suite.
        let mode = std::fs::metadata(path(first)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{first} cannot be executed");
        assert!(read(".ci/run").lines().any(|line| line.trim() == first), ".ci/run does not run {first}");
        return;
    }
    if first == "cargo" {
        let wanted = ["cargo", "install", "--locked", "--path", "."];
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), wanted);
        assert!(path("Cargo.lock").exists() && path("src/main.rs").exists());
        return;
    }
    let (stage, _) = stage(env);
    let bin = stage.folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ctrsh"), bin.join("ctrsh")).unwrap();
    let mut command = Command::new("sh");
    for (name, value) in env.ctrsh_command().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    // A pattern in the page names the namespace that its reader is in.
    let line = line.replace("containerd/default", &format!("containerd/{}", stage.namespace));
    command
        .args(["-c", &line])
        .current_dir(stage.folder.join("work"))
        .env("PATH", format!("{}:{}", bin.display(), crate::harness::env::path()))
        .env("CONTAINERD_NAMESPACE", &stage.namespace)
        .env("CONTAINERD_SNAPSHOTTER", &stage.snapshotter);
    let wanted = remark.trim().strip_prefix("status ").map_or(0, |status| status.parse().unwrap());
    Output::of(&mut command).expect_status(wanted);
    unstage(&stage);
}

fn lines_of_the_shell() {
    let page = read("docs/prompt.md");
    for command in ctrsh::shell::own_lines() {
        assert!(page.contains(&format!("\n| `:{command}")), "docs/prompt.md lacks :{command}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `:")).count();
    assert_eq!(rows, ctrsh::shell::own_lines().count(), "docs/prompt.md names lines that there are not");
}

fn links() {
    for page in ["README.md", "docs/prompt.md", "docs/access.md", "docs/architecture.md"] {
        for link in read(page).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.contains("://") && !link.starts_with('#') {
                let target = path(page).parent().unwrap().join(link.split('#').next().unwrap());
                assert!(target.exists(), "{page} links to {link}");
            }
        }
    }
}

/// Types the session of the picture at a real terminal, and compares the picture with what is typed now.
fn the_picture(env: &Env) {
    let work = env.new_folder("readme");
    std::fs::create_dir_all(work.join("rootfs/bin")).unwrap();
    std::fs::copy("/bin/busybox", work.join("rootfs/bin/busybox")).unwrap();
    for program in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", work.join("rootfs/bin").join(program)).unwrap();
    }
    let mut command = env.bare_ctrsh_command();
    command.env("HOME", &work).env("TMPDIR", env.new_folder("readme")).current_dir(&work).arg("sandbox");
    let mut terminal = Terminal::sized(&command, 44, 112);
    terminal.wait_for_prompt();
    for line in SESSION {
        terminal.enter(line);
    }
    terminal.press("image(\"");
    // A busy daemon answers after the first Tab has given up, and then the next one has it.
    terminal.press_until("\t", "names to choose from", |text| text.matches("/shop/web:1.0").count() > 1);
    let text = terminal.text();
    for part in ["running", "hello from team core", "did you mean 'force'?", "blobs_sent"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let drawn = terminal.look(|screen| picture::svg(screen, "A session at the prompt of ctrsh"));
    terminal.press("\x03");
    terminal.wait_for_prompt();
    assert_eq!(terminal.leave(), 0);
    if let Some(file) = std::env::var_os(PICTURE) {
        std::fs::write(file, drawn).unwrap();
        return;
    }
    let kept = words(&read("docs/prompt.svg"));
    for line in SESSION {
        assert!(kept.contains(&line.replace(' ', "")), "run scripts/picture: docs/prompt.svg does not show {line}");
    }
}

/// Returns the text of a picture without spaces.
fn words(svg: &str) -> String {
    let texts = svg.split("<text ").skip(1).filter_map(|rest| rest.split_once('>')?.1.split("</text>").next());
    let text: String = texts.collect();
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace(' ', "")
}
