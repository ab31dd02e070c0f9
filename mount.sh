#!/bin/sh
# From a fresh checkout to a mounted store. It only sets up and hands over: how a store is mounted is
# written in fusefs/.
set -eu
program=mount.sh
checkout=$(dirname "$(readlink -f "$0")")
# shellcheck source=setup.sh
. "$checkout/setup.sh"

usage() {
    cat <<END
usage: $0 [ROOT] MOUNTPOINT [contentfs options]
       $0 -u MOUNTPOINT
       $0 --install

Mounts the content store in ROOT (.content in the current folder, unless given) on MOUNTPOINT. The
first time it installs what that needs: system packages (as root), and the project into .venv in
this checkout. Both folders are made.

  -u MOUNTPOINT   unmount
  --install       link contentfs and dist into /usr/local/bin, where mount(8) and fstab find them
  -h, --help      this text

contentfs options come last, for instance -f (stay in the foreground) and -o ro,allow_other;
'$0 ROOT MOUNTPOINT --help' tells them all.
END
}

usage_error() {
    say "$1 ($0 --help tells more)"
    exit 2
}

# shell_word TEXT: TEXT as one can paste it into a shell.
shell_word() {
    case $1 in
        *[!A-Za-z0-9_./:@%+,=-]* | '') printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf %s "$1" ;;
    esac
}

# mounted_type PATH: the type of the file system that is mounted there, 1 where none is. From the
# kernel's table alone: where the server was killed, every call on PATH itself fails.
mounted_type() {
    parent=$(cd -P "$(dirname "$1")" 2>/dev/null && pwd) || return 1
    case $(basename "$1") in
        . | ..) path=$(cd -P "$1" 2>/dev/null && pwd) || return 1 ;;
        *) path=${parent%/}/$(basename "$1") ;;
    esac
    [ ! -h "$path" ] || path=$(readlink -f "$path")
    path=$(printf %s "$path" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g') # as the table has it
    type=
    while read -r _ _ _ _ point rest; do
        if [ "$point" = "$path" ]; then
            type=${rest#* - }
            type=${type%% *}
        fi
    done </proc/self/mountinfo
    [ -n "$type" ] && echo "$type"
}

unmount() {
    case $(mounted_type "$1") in
        '') die "not mounted: $1" ;;
        fuse.contentfs) ;;
        *) die "not a mount of contentfs: $1" ;;
    esac
    if is_root; then
        umount -R -- "$1" || exit 1 # with what -o native_blobs has bound inside
    else
        fusermount3 -u -- "$1"
    fi
}

install_links() {
    set_up ''
    for name in contentfs dist; do
        link=/usr/local/bin/$name
        [ -h "$link" ] || [ ! -e "$link" ] || die "$link is there already, and is no link of ours"
    done
    [ -w /usr/local/bin ] || die "may not write there; run: sudo ln -sf" \
        "$(shell_word "$venv/bin/contentfs") $(shell_word "$venv/bin/dist") /usr/local/bin/"
    ln -sf "$venv/bin/contentfs" "$venv/bin/dist" /usr/local/bin/
    say 'linked contentfs and dist into /usr/local/bin'
}

# make_folder PATH. A mountpoint whose server was killed cannot even be looked at; contentfs knows
# how to replace it.
make_folder() {
    message=$(mkdir -p -- "$1" 2>&1) || mounted_type "$1" >/dev/null || die "$message"
}

# tell_next ROOT MOUNTPOINT
tell_next() {
    there=${2%/}
    cat <<END
$1 is mounted on $2. To try it, with a FILE of yours:
  cp FILE $(shell_word "$there/ingest/name")      # bytes that wait under a name
  cp FILE $(shell_word "$there/ingest/sha256:")\$(sha256sum <FILE | cut -c-64)      # verified and stored
  ls -l $(shell_word "$there/blobs/sha256")
  $(shell_word "$0") -u $(shell_word "$2")
END
}

mount_store() {
    words=0
    for argument; do
        case $argument in -*) break ;; esac
        words=$((words + 1))
    done
    case $words in
        0) usage_error 'which MOUNTPOINT? contentfs options come last' ;;
        1) root=.content ;;
        2) root=$1 && shift ;;
        *) usage_error "one ROOT and one MOUNTPOINT, please: $3" ;;
    esac
    mountpoint=$1
    shift
    case "$root:$mountpoint" in :* | *:) usage_error 'a folder needs a name' ;; esac
    set_up ''
    for option; do
        case $option in -h | --help | --version) exec "$venv/bin/contentfs" "$option" ;; esac
    done
    make_folder "$root"
    make_folder "$mountpoint"
    for option; do
        case $option in
            -f* | --foreground)
                exec "$venv/bin/contentfs" "$root" "$mountpoint" "$@"
                ;;
        esac
    done
    "$venv/bin/contentfs" "$root" "$mountpoint" "$@"
    tell_next "$root" "$mountpoint"
}

case ${1-} in
    -h | --help) usage ;;
    --install)
        [ $# -eq 1 ] || usage_error '--install takes nothing more'
        install_links
        ;;
    -u)
        [ $# -eq 2 ] || usage_error '-u takes one MOUNTPOINT'
        unmount "$2"
        ;;
    *) mount_store "$@" ;;
esac
