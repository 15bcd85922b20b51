//! `containers` and `run`.

use super::super::{Asks, Case};
use super::server::{NO_SANDBOXES, POD};
use super::{CREATE, ENDS, RUN, case};

const WEB: &str = "$IMAGE web sleep 600";

/// How a container is made: a flag, the flags that show it, the arguments, and what the record then has.
const SPEC: [(&str, &str, &str, &str); 24] = [
    ("--snapshotter", "--snapshotter native", WEB, ""),
    ("--snapshotter-label", "--snapshotter-label team=core", WEB, "\"team\":\"core\""),
    ("--config", "--config $SPEC", "web", ""),
    ("--cwd", "--cwd /tmp", WEB, ""),
    ("--env", "--env ZONE=b --env AREA=a", WEB, ""),
    ("--env-file", "--env-file web.env", WEB, ""),
    ("--label", "--label team=core --label x", WEB, ""),
    ("--annotation", "--annotation team=core", WEB, ""),
    ("--mount", "--mount type=bind,src=/srv,dst=/srv,options=rbind:ro", WEB, ""),
    ("--net-host", "--net-host", WEB, ""),
    ("--read-only", "--read-only", WEB, ""),
    ("--runtime", "--runtime io.containerd.runc.v2", WEB, ""),
    ("--allow-new-privs", "--allow-new-privs", WEB, ""),
    ("--memory-limit", "--memory-limit 67108864", WEB, ""),
    ("--device", "--device /dev/zero", WEB, ""),
    ("--cap-add", "--cap-add CAP_NET_ADMIN", WEB, ""),
    ("--cap-drop", "--cap-drop CAP_CHOWN", WEB, ""),
    ("--seccomp", "--seccomp", WEB, ""),
    ("--seccomp-profile", "--seccomp --seccomp-profile profile.json", WEB, ""),
    ("--rootfs", "--rootfs", "$ROOTFS web /bin/sleep 600", ""),
    ("--cpu-quota", "--cpu-quota 50000 --cpu-period 100000", WEB, ""),
    ("--cpu-period", "--cpu-period 100000 --cpu-quota 50000", WEB, ""),
    ("--hostname", "--hostname box", WEB, "\"hostname\":\"box\""),
    ("--user", "--user 1000:1000", WEB, "\"uid\":1000"),
];

/// A class of a file that the side has.
const BLOCKIO: &str = "--blockio-config-file blockio.yaml --blockio-class gold";

fn created(flag: &str, words: &str) -> Case {
    case(format!("containers create {flag}"), format!("containers create {words} {WEB}"))
}

fn ran(flag: &str, words: &str) -> Case {
    case(format!("run {flag}"), format!("run --detach --null-io {words} {WEB}"))
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (flag, words, rest, shows) in SPEC {
        let created = case(format!("containers create {flag}"), format!("containers create {words} {rest}"));
        let ran = case(format!("run {flag}"), format!("run --detach --null-io {words} {rest}"));
        // Root's only group is listed by ctrsh as of an image, and by ctr not without one.
        let apart: &[&str] = if flag == "--rootfs" { &["additionalGids"] } else { &[] };
        all.extend([created.shows(shows).apart(apart), ran.shows(shows).apart(apart)]);
    }
    all.extend(create());
    all.extend(run());
    all
}

fn create() -> Vec<Case> {
    vec![
        case("containers create", CREATE),
        created("--privileged", "--privileged"),
        created("--tty", "--tty"),
        created("--with-ns", "--with-ns network:/proc/1/ns/net"),
        created("--runtime-config-path", "--runtime io.example.other.v1 --runtime-config-path /etc/runtime.toml"),
        created("--gpus", "--gpus 0").alike(),
        created("--apparmor-default-profile", "--apparmor-default-profile ctrsh-default").alike(),
        created("--apparmor-profile", "--apparmor-profile web"),
        // ctr forgets it until the task starts, where it has to be said again.
        created("--rdt-class", "--rdt-class gold").shows("\"closID\":\"gold\""),
        created("--blockio-class", BLOCKIO).shows("\"weight\":80"),
        created("--blockio-config-file", BLOCKIO).shows("\"weight\":80"),
        created("--no-pivot", "--no-pivot").apart(&["runtime"]),
        created("--rootfs-propagation", "--rootfs-propagation rslave"),
        created("--sandbox", "--sandbox pod").after(&[POD]).newer(NO_SANDBOXES).alike(),
        created("--runc-binary", "--runc-binary $RUNC").shows("runc"),
        created("--runc-root", "--runc-root $MNT").shows("mnt"),
        // It wants a --cgroup, which only run has.
        created("--runc-systemd-cgroup", "--runc-systemd-cgroup").fails(),
        case("containers list", "containers list id==web").after(&[CREATE]).words(&["web", "example.test/"]),
        case("containers list --quiet", "c ls -q").after(&[CREATE]).asks(Asks::Lines),
        case("containers info", "containers info web").after(&[CREATE]).words(&["example.test/", "io.containerd.runc"]),
        case("containers info --spec", "c info --spec web").after(&[CREATE]).asks(Asks::Spec),
        case("containers delete", "containers rm web").after(&[CREATE]),
        case("containers delete --keep-snapshot", "containers rm --keep-snapshot web").after(&[CREATE]),
        case("containers label", "containers label web team=core").after(&[CREATE]),
    ]
}

fn run() -> Vec<Case> {
    vec![
        case("run", "run $IMAGE web true"),
        case("run --rm", "run --rm $IMAGE web true"),
        case("run --detach", RUN),
        case("run --null-io", RUN),
        case("run --log-uri", "run -d --log-uri file://$FILE $IMAGE web echo hello").asks(Asks::File).ends(),
        case("run --tty", "run --tty $IMAGE web sh").types("echo a$((1+1))b\r", "a2b"),
        case("run --pid-file", "run -d --null-io --pid-file $FILE $IMAGE web sleep 600").asks(Asks::Pid),
        ran("--privileged", "--privileged"),
        ran("--privileged-without-host-devices", "--privileged --privileged-without-host-devices"),
        ran("--with-ns", "--with-ns network:/proc/1/ns/net").alike(),
        // There is no other runtime, so both refuse.
        ran("--runtime-config-path", "--runtime io.example.other.v1 --runtime-config-path /etc/runtime.toml").alike(),
        ran("--gpus", "--gpus 0").alike(),
        ran("--apparmor-default-profile", "--apparmor-default-profile ctrsh-default").alike(),
        ran("--apparmor-profile", "--apparmor-profile web").alike(),
        ran("--rdt-class", "--rdt-class gold").alike(),
        ran("--blockio-class", BLOCKIO),
        ran("--blockio-config-file", BLOCKIO),
        ran("--no-pivot", "--no-pivot").apart(&["runtime"]),
        ran("--rootfs-propagation", "--rootfs-propagation rslave"),
        ran("--sandbox", "--sandbox pod").after(&[POD]).newer(NO_SANDBOXES).alike(),
        ran("--cgroup", "--cgroup /$NS/web"),
        case("run --platform", "run --detach --null-io --platform $PLATFORM $INDEX web sleep 600")
            .after(&["images pull $INDEX"]),
        ran("--cni", "--cni").alike(),
        ran("--runc-binary", "--runc-binary $RUNC"),
        ran("--runc-root", "--runc-root $MNT"),
        ran("--runc-systemd-cgroup", "--runc-systemd-cgroup --cgroup system.slice:ctr:$NS").alike(),
        ran("--uidmap", "--uidmap 0:100000:65536 --gidmap 0:100000:65536"),
        ran("--gidmap", "--gidmap 0:100000:65536 --uidmap 0:100000:65536"),
        // ctr 1.6 leaves it to a snapshotter that cannot, and starts what has the wrong owners.
        ran("--remap-labels", "--remap-labels --uidmap 0:100000:65536 --gidmap 0:100000:65536")
            .alike()
            .fault("permission denied", &["web", "a layer with other owners"]),
        ran("--cpus", "--cpus 0.5"),
        ran("--cpu-shares", "--cpu-shares 512"),
        ran("--cpuset-cpus", "--cpuset-cpus 0").shows("\"cpus\":\"0\""),
        ran("--cpuset-mems", "--cpuset-mems 0").shows("\"mems\":\"0\""),
        ran("--sync-fs", "--sync-fs").older(RUN),
    ]
}

/// A container whose task has ended.
pub const ENDED: [&str; 2] = ["run --detach --null-io $IMAGE web true", ENDS];
