//! Passwords: from a line of standard input and from a terminal, and never from an argument.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::termios::LocalModes;

use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::login::a_password_comes_from_a_line_of_standard_input", env, from_standard_input),
        trial("shell::login::a_password_is_asked_for_and_not_shown", env, from_the_terminal),
    ]
}

fn script(env: &Env, rest: &str) -> String {
    let registry = env.registry_htpasswd_tls();
    let reference = env.push_secure(&env.image(Kind::Busybox), "login");
    let ca = registry.ca.display();
    format!("pull(\"{reference}\", #{{ user: \"{}\", tlscacert: \"{ca}\"{rest} }}).digest.len()", registry.user)
}

fn from_standard_input(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let namespace = env.namespace("login");
    let script = script(env, ", password_stdin: true");
    let run = |password: &str| {
        let mut command = env.ctrsh_command();
        command.args(["-n", &namespace, "--progress", "none", "-e", &script]);
        Output::with_input(&mut command, format!("{password}\n").as_bytes())
    };
    assert_eq!(run(registry.password).ok().trim(), "71");
    let refused = run("wrong").expect_status(1);
    assert!(refused.stderr.contains("401") || refused.stderr.contains("credentials"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong\""), "{}", refused.stderr);
    assert!(run("").expect_status(1).stderr.contains("error"));
}

fn from_the_terminal(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let namespace = env.namespace("login");
    let script = script(env, "");
    let pair = native_pty_system().openpty(PtySize { rows: 24, cols: 200, ..PtySize::default() }).unwrap();
    let command = env.ctrsh_command();
    let mut builder = CommandBuilder::new(command.get_program());
    builder.args(command.get_args());
    builder.args(["-n", &namespace, "--progress", "none", "-e", &script]);
    builder.env_clear();
    for (name, value) in command.get_envs() {
        builder.env(name, value.unwrap_or_default());
    }
    let mut child = pair.slave.spawn_command(builder).unwrap();
    drop(pair.slave);
    let mut keys = pair.master.take_writer().unwrap();
    let mut output = pair.master.try_clone_reader().unwrap();
    let (sender, chunks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut seen = Vec::new();
    let begun = Instant::now();
    let mut wait_for = |part: &str| {
        while !String::from_utf8_lossy(&seen).contains(part) {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited for {part}: {}", String::from_utf8_lossy(&seen));
            if let Ok(more) = chunks.recv_timeout(Duration::from_millis(100)) {
                seen.extend(more);
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    };
    wait_for(&format!("password of {}: ", registry.user));
    // Typed when the terminal is silent, which is just after the question.
    let echoes = || pair.master.get_termios().unwrap().local_flags.bits() & LocalModes::ECHO.bits() != 0;
    while echoes() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the terminal is not silent");
        std::thread::sleep(Duration::from_millis(10));
    }
    write!(keys, "{}\r", registry.password).unwrap();
    let screen = wait_for("71");
    assert!(!screen.contains(registry.password), "{screen}");
    assert!(child.wait().unwrap().success());
}
