# What scripts/test, scripts/demo and .ci/run share: the programs that they need, and how to come by them.
# shellcheck shell=bash
set -euo pipefail

# Programs, the Debian packages that have them, and what they are called elsewhere where the name differs.
build_programs='protoc:protobuf-compiler gcc:gcc pkg:libc6-dev'
run_programs='containerd:containerd ctr:containerd runc:runc docker-registry:docker-registry busybox:busybox-static'
test_programs='skopeo:skopeo umoci:umoci htpasswd:apache2-utils openssl:openssl tmux:tmux setpriv:util-linux dockerd:docker.io mkfs.btrfs:btrfs-progs cni:containernetworking-plugins'

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# has PROGRAM: whether it is installed. Debian keeps runc in /usr/sbin, which is not in every user's PATH.
has() {
    case $1 in
        pkg) [ -e /usr/include/stdio.h ] ;;
        cni) [ -x /usr/lib/cni/ptp ] || [ -x /usr/libexec/cni/ptp ] || [ -x /opt/cni/bin/ptp ] ;;
        busybox) is_static_busybox ;;
        *) PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null ;;
    esac
}

# The busybox of an image must not need libraries: a static one has no program interpreter.
is_static_busybox() {
    local program
    program=$(command -v busybox) || return 1
    ! head -c 4096 "$program" | grep -qa 'ld-linux\|ld-musl'
}

# missing LIST…: the Debian packages whose programs are not there.
missing() {
    local pair
    for pair in $*; do
        has "${pair%%:*}" || printf '%s\n' "${pair#*:}"
    done | sort -u
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo: run it as root: $*"
    fi
}

# install_missing LIST…: installs what is missing, or says what to install and how.
install_missing() {
    local packages
    packages=$(missing "$@" | tr '\n' ' ')
    packages=${packages% }
    [ -n "$packages" ] || return 0
    if has apt-get; then
        say "installing $packages"
        # shellcheck disable=SC2086
        apt_install $packages
    else
        fail "these are missing: $packages
$(advice "$packages")"
    fi
    packages=$(missing "$@" | tr '\n' ' ')
    [ -z "$packages" ] || fail "still missing after the installation: $packages"
}

# advice PACKAGES: what to do where there is no apt-get.
advice() {
    local command='your package manager'
    if has dnf; then command='dnf install'; fi
    if has zypper; then command='zypper install'; fi
    if has pacman; then command='pacman -S'; fi
    if has apk; then command='apk add'; fi
    printf 'install them with: %s %s\n' "$command" "$1"
    printf '%s\n' 'these are the names of Debian; elsewhere they are called:' \
        '  protobuf-compiler  protobuf (pacman), protoc (apk)' \
        '  libc6-dev          glibc-devel (dnf, zypper), musl-dev (apk)' \
        '  busybox-static     busybox, linked statically' \
        '  apache2-utils      httpd-tools (dnf), apache (pacman)' \
        '  docker-registry    the registry of github.com/distribution/distribution, under this file name'
}

# apt_install PACKAGES…: installs without starting the services in the packages, as the sandbox runs its own.
apt_install() {
    local policy=/usr/sbin/policy-rc.d ours=''
    if [ ! -e "$policy" ]; then
        # invoke-rc.d asks this file; 101 means that the action is forbidden (policy-rc.d(8)).
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=yes
    fi
    local status=0
    { as_root apt-get update -q -o Acquire::Retries=3 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"; } </dev/null >&2 || status=$?
    if [ -n "$ours" ]; then as_root rm -f "$policy"; fi
    [ "$status" = 0 ] || fail "apt-get could not install $*"
}

# find_cargo: puts cargo into the PATH, or says how to get it.
find_cargo() {
    if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
        # shellcheck disable=SC1091
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    command -v cargo >/dev/null || fail 'Rust is missing: install it as https://rustup.rs says, 1.88 or later'
}

# debian_mirror: the mirror of Debian's archive that this machine's own apt sources name.
debian_mirror() {
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Identifier: Packages' |
        awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# unpack_debian SUITE FOLDER PACKAGES…: unpacks packages of another suite of Debian into a folder. The machine's own
# packages and lists stay as they are.
unpack_debian() {
    local suite=$1 folder=$2 mirror work package
    shift 2
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail 'the apt sources name no archive of Debian: run apt-get update, or use a Debian machine'
    work=$(mktemp -d)
    mkdir -p "$folder" "$work/lists/partial" "$work/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" "$suite" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Acquire::Retries "3";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
CONF
    (
        cd "$work"
        export APT_CONFIG=$work/apt.conf
        apt-get update -q >&2 && apt-get download -q "$@" >&2
    ) || { rm -rf "$work"; fail "could not fetch $* of Debian's $suite"; }
    for package in "$work"/*.deb; do dpkg -x "$package" "$folder"; done
    rm -rf "$work"
}
