//! `attach`: connects to a process that runs already.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::{Attached, get::not_running, reaching, snapshot};
use crate::containerd::io::Terminal;
use crate::containerd::tasks::Task;
use crate::grant::Access;
use crate::ops::execute::{permit, record};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Plan, Result, Step};

/// Plans the attaching: it types into the process, so it needs what executing in the container needs.
async fn plan(ctx: &Context, id: &str, exec_id: &str) -> Result<(Task, Vec<Step>)> {
    let found = snapshot(ctx, id).await?;
    let task = match exec_id {
        "" => found.task,
        exec_id => match ctx.client().await?.tasks().get(id, exec_id).await {
            Ok(task) => Some(task),
            Err(error) if error.is_not_found() => return Err(Error::not_found("process", exec_id, [])),
            Err(error) => return Err(error.into()),
        },
    };
    let task = task.filter(|task| task.status.is_alive()).ok_or_else(|| not_running(id))?;
    let plan = Plan::new(()).step(Access::Run, ctx.target(), format!("attach to container {id}"));
    let plan = reaching(plan, ctx, &found.container, |reason| format!("attach to container {id}, which {reason}"));
    Ok((task, plan.steps))
}

/// Checks that a process can be attached to; in a dry run shows what that would do.
///
/// # Errors
/// As [`attach`].
pub async fn attachable(ctx: &Context, id: &str, exec_id: &str) -> Result<()> {
    let (task, steps) = plan(&ctx.planning(), id, exec_id).await?;
    permit(ctx, "attach", id, &steps)?;
    if !ctx.is_dry_run() {
        return check(id, &task);
    }
    ctx.progress().planned("attach", id, &steps);
    Ok(())
}

/// Attaches to a container's task, or to a process that was executed in it. When that ends it is not deleted.
///
/// # Errors
/// [`Error::Conflict`] when it has no FIFOs to attach to, or another program reads them.
pub async fn attach(ctx: &Context, id: &str, exec_id: &str) -> Result<Attached> {
    let (task, steps) = plan(&ctx.planning(), id, exec_id).await?;
    permit(ctx, "attach", id, &steps)?;
    check(id, &task)?;
    let client = ctx.client().await?;
    let ended = client.tasks().waiting(id, exec_id).await;
    let failed = |source| Error::File { attempted: "open the FIFOs of", path: id.to_owned(), source };
    let terminal = Terminal::attach(&task).map_err(failed)?;
    record(ctx, "attach", id, &steps, Ok(()))?;
    Ok(Attached::of(terminal, ended, &client, id, exec_id, Undo::new(ctx.debts())).staying())
}

/// Says why a process cannot be attached to.
fn check(id: &str, task: &Task) -> Result<()> {
    let no = |state: String, cure: &str| {
        Err(Error::Conflict { what: "container", name: id.to_owned(), state, cure: Some(cure.to_owned()) })
    };
    let output = task.stdout.as_str();
    let logs = format!("logs(\"{id}\", #{{ follow: true }}) shows it; exec(\"{id}\", …) runs a command beside it");
    if output.is_empty() {
        return no("was started without output or input".into(), &logs);
    }
    if output.contains("://") {
        return no(format!("has no FIFOs: its output goes to {}", crate::oci::excerpt(output)), &logs);
    }
    match fs::metadata(output) {
        Ok(found) if found.file_type().is_fifo() => {}
        Ok(_) => return no(format!("has no FIFOs: its output goes to {}", crate::oci::excerpt(output)), &logs),
        Err(error) => {
            let state = format!("has FIFOs that cannot be reached: {}: {error}", crate::oci::excerpt(output));
            return no(
                state,
                "the client that started it took them away, or runs on another host; restart the container",
            );
        }
    }
    if let Some((pid, name)) = reader(Path::new(output)) {
        let state = format!("has its output read by another process, {name} with the pid {pid}");
        return no(state, "what one reads the other does not see: leave or end that one first");
    }
    Ok(())
}

/// Finds a process that has a FIFO open to read, other than the shim, which keeps both ends.
fn reader(path: &Path) -> Option<(u32, String)> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != own) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let reads = descriptors.flatten().any(|entry| {
            let number = entry.file_name();
            fs::read_link(entry.path()).is_ok_and(|target| target == path)
                && is_open_to_read(pid, &number.to_string_lossy())
        });
        if reads {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The name is cut off at 15 characters (proc(5)).
            if !name.starts_with("containerd-shim") {
                return Some((pid, crate::oci::excerpt(name.trim())));
            }
        }
    }
    None
}

fn is_open_to_read(pid: u32, descriptor: &str) -> bool {
    let Ok(about) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")) else { return false };
    let flags = about.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    // O_PATH opens neither end; O_WRONLY only the other.
    flags.is_some_and(|flags| flags & 0o3 != 1 && flags & 0o10_000_000 == 0)
}
