//! containerd's default AppArmor profile, loaded under a name when it is not.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ops::{Error, Result};

/// Where the kernel lists what is loaded, `NAME (MODE)` a line.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// What loads profiles.
const PARSER: &str = "apparmor_parser";

/// Loads the default profile under a name, unless a profile of that name is loaded.
///
/// # Errors
/// When this machine has no AppArmor, or its parser refuses the profile.
pub(super) fn load_default(name: &str) -> Result<()> {
    let failed = |problem: String, cure: &str| Error::Argument {
        name: format!("apparmor_default_profile {}", crate::oci::excerpt(name)),
        problem,
        cure: Some(cure.to_owned()),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(valid) {
        return Err(failed("is not the name of a profile".into(), "give a name like ctrsh-default"));
    }
    let loaded = fs::read_to_string(LOADED).map_err(|error| {
        failed(
            format!("cannot be loaded: {LOADED}: {error}"),
            "this machine's kernel runs without AppArmor; leave it out",
        )
    })?;
    if loaded.lines().any(|line| line.split(" (").next() == Some(name)) {
        return Ok(());
    }
    load(&profile(name)).map_err(|error| {
        failed(format!("cannot be loaded: {PARSER}: {error}"), "the package apparmor has apparmor_parser")
    })
}

fn load(profile: &str) -> io::Result<()> {
    let mut child = Command::new(PARSER)
        .args(["-K", "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(profile.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Writes the profile (containerd `contrib/apparmor/template.go`, for a parser of 2.8.96 or later).
fn profile(name: &str) -> String {
    let has = |path: &str| Path::new("/etc/apparmor.d").join(path).exists();
    let mut text = String::new();
    let tunables = if has("tunables/global") { "#include <tunables/global>" } else { "@{PROC}=/proc/" };
    let base = if has("abstractions/base") { "  #include <abstractions/base>\n" } else { "" };
    let _ = write!(text, "{tunables}\n\nprofile {name} flags=(attach_disconnected,mediate_deleted) {{\n{base}");
    let _ = write!(text, "{}", RULES.replace("NAME", name));
    text.push_str("}\n");
    text
}

const RULES: &str = "
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=NAME,

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/mem rwklx,
  deny @{PROC}/kmem rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  ptrace (trace,read,tracedby,readby) peer=NAME,
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_its_name_and_is_closed() {
        let text = profile("ctrsh-default");
        assert!(text.contains("profile ctrsh-default flags=(attach_disconnected,mediate_deleted) {"), "{text}");
        assert!(text.contains("ptrace (trace,read,tracedby,readby) peer=ctrsh-default,") && text.ends_with("}\n"));
        assert!(!text.contains("NAME"));
        assert!(load_default("a b").unwrap_err().to_string().contains("not the name"));
    }
}
