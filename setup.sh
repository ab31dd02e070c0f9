# shellcheck shell=sh
# What mount.sh and tests/run share: a virtual environment in the checkout that holds the project,
# and the system packages that pyfuse3 is built from and runs with. Sourced, never run.
#
#   program, checkout   set before sourcing: how the messages begin; where the project is, absolute
#   set_up G            makes all ready; G is a dependency group of pyproject.toml, or nothing
#
# Where all is in place set_up starts three small processes and changes nothing. It is safe to be
# interrupted anywhere and to be run by many at once.

venv=${checkout:?}/.venv
log=$checkout/.setup.log

# ---------------------------------------------------------------- messages

say() {
    printf '%s: %s\n' "${program:?}" "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# quietly COMMAND…: its output goes to the log. Descriptor 9 holds the lock of set_up: a service
# that a package starts must not inherit it.
quietly() {
    printf '\n$ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null 9>&-
}

# die_of_log WHAT: ends with the errors that the log tells, less the addresses in them.
die_of_log() {
    say "$1; all of it is in $log:"
    { grep -E '^ *(E|ERROR|Error|error|fatal)[: ]' "$log" || tail -n 5 "$log"; } | tail -n 5 |
        sed -E "s#[a-z]+://[^ /]*#…#g; s#host='[^']*'#host=…#g; s#^ *#    #" >&2
    exit 1
}

# ---------------------------------------------------------------- system packages

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# find_manager: sets manager to the package manager of this machine, '' where it is none we know.
find_manager() {
    for manager in apt-get dnf apk pacman zypper ''; do
        [ -z "$manager" ] || ! command -v "$manager" >/dev/null || return 0
    done
}

# package THING: the packages that bring it, as the manager here calls them. Headers and venv belong
# to the interpreter in python, whose version is in version.
package() {
    case $manager:$1 in
        *:fusermount) echo fuse3 ;;
        apt-get:libfuse) echo libfuse3-dev ;;
        apk:libfuse) echo fuse3-dev ;;
        pacman:libfuse) echo fuse3 ;;
        *:libfuse) echo fuse3-devel ;;
        dnf:pkg-config) echo pkgconf-pkg-config ;;
        apk:pkg-config | pacman:pkg-config) echo pkgconf ;;
        *:pkg-config) echo pkg-config ;;
        apt-get:compiler) echo gcc libc6-dev ;;
        apk:compiler) echo gcc musl-dev ;;
        *:compiler) echo gcc ;;
        apt-get:headers) echo "python$version-dev" ;;
        apk:headers) echo python3-dev ;;
        pacman:headers) echo python ;;
        zypper:headers) echo "python$(echo "$version" | tr -d .)-devel" ;;
        *:headers) echo "python$version-devel" ;;
        apt-get:venv) echo "python$version-venv" ;;
        *:venv) echo python3 ;;
    esac
}

# install_line PACKAGE…: the command that installs them.
install_line() {
    case $manager in
        apk) echo apk add "$@" ;;
        pacman) echo pacman -S --needed --noconfirm "$@" ;;
        zypper) echo zypper --non-interactive install "$@" ;;
        apt-get) echo "apt-get update && apt-get install -y" "$@" ;;
        *) echo "$manager" install -y "$@" ;;
    esac
}

# install_packages PACKAGE…: as root, 1 where the manager could not.
install_packages() {
    say "installing system packages: $*"
    if [ "$manager" = apt-get ]; then
        # Lists that are old, or of a mirror that is down, may still do: install decides.
        quietly apt-get update || :
        quietly env DEBIAN_FRONTEND=noninteractive \
            apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    else
        # shellcheck disable=SC2046  # the words of the line are the command
        quietly $(install_line "$@")
    fi
}

# require_things THING…: installs the packages of what is missing, or says how to.
require_things() {
    [ $# -gt 0 ] || return 0
    find_manager
    [ -n "$manager" ] || die "missing: $*; no package manager that I know is here to install it"
    packages=
    for thing; do
        packages="$packages $(package "$thing")"
    done
    # shellcheck disable=SC2086  # a list of words
    if is_root; then
        install_packages $packages || die_of_log "could not install$packages"
    elif command -v sudo >/dev/null; then
        die "system packages are missing; run: sudo sh -c '$(install_line $packages)'"
    else
        die "system packages are missing; run: su -c '$(install_line $packages)'"
    fi
}

# ---------------------------------------------------------------- Python

# find_python: sets python to an interpreter that is new enough.
find_python() {
    found=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        python=$("$name" -c 'import sys
if sys.version_info >= (3, 11): print(sys.executable)' 2>/dev/null) || continue
        [ -z "$python" ] || return 0
        found=" ($name is $("$name" -V 2>&1))"
    done
    die "needs Python 3.11 or newer, and finds none on PATH$found"
}

# venv_is_sound: the virtual environment works, stands where it was made, and no set-up of it was cut
# short (pip may take what is half there for installed).
venv_is_sound() {
    [ ! -e "$venv/unfinished" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null &&
        grep -qF "$venv" "$venv/bin/activate"
}

# missing_things: what pyfuse3 is built from and is not here, for the interpreter in python.
missing_things() {
    command -v fusermount3 >/dev/null || echo fusermount
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse
    echo '#include <limits.h>' | gcc -E - >/dev/null 2>&1 || echo compiler
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || echo headers
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo venv
}

# ---------------------------------------------------------------- the set-up

# stamp: what a virtual environment that is ready was made from.
stamp() {
    "$venv/bin/python" -I -S -c 'import sys; print(sys.prefix, sys.version)' 2>/dev/null &&
        (cd "$checkout" && sha256sum pyproject.toml setup.sh)
}

# is_set_up GROUP
is_set_up() {
    command -v fusermount3 >/dev/null && [ -e "$venv/ready$1" ] && [ ! -e "$venv/unfinished" ] &&
        stamp | cmp -s - "$venv/ready$1"
}

pip_install() {
    (cd "$checkout" && PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
        quietly "$venv/bin/python" -m pip install "$@")
}

# install_project GROUP: into the virtual environment, 1 where pip could not.
install_project() {
    if [ -z "$1" ]; then
        pip_install -e .
    else
        # the first pip that knows dependency groups
        pip_install 'pip>=25.1' && pip_install -e . --group "$1"
    fi
}

# make_ready GROUP: the slow way. Under the lock.
make_ready() {
    : >"$log" || exit
    if venv_is_sound; then
        python=$venv/bin/python
    else
        find_python
    fi
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # shellcheck disable=SC2046  # a list of words
    require_things $(missing_things)
    if ! venv_is_sound; then
        say "making a virtual environment with Python $version"
        quietly "$python" -m venv --clear "$venv" || die_of_log "could not make $venv"
    fi
    : >"$venv/unfinished"
    say "installing contentfs into .venv${1:+ with its group $1} (compiling pyfuse3 takes a minute)"
    # A failure that pip lived to tell left things as they were: only a set-up that was killed
    # leaves the mark, and is begun afresh.
    install_project "$1" ||
        { rm "$venv/unfinished" && die_of_log 'pip could not install the project'; }
    stamp >"$venv/ready"
    [ -z "$1" ] || cp "$venv/ready" "$venv/ready$1"
    rm "$venv/unfinished"
}

# set_up GROUP
set_up() {
    ! is_set_up "$1" || return 0
    [ -w "$checkout" ] || die "may not write in $checkout, which is not set up yet"
    (
        flock -n 9 || { say 'waiting for another set-up of this checkout' && flock 9; }
        is_set_up "$1" || make_ready "$1"
    ) 9>"$checkout/.setup.lock" || exit 1
}
