#!/usr/bin/env bash
# What of ours is on this machine: labs, pins, daemons, steering programs and directories, one to a
# line. With --since FILE, an earlier list, fails when there is more now, after a while in which the
# kernel may let go of what the last process held.

set -euo pipefail

# shellcheck source=deploy/lab.sh
source "$(dirname "${BASH_SOURCE[0]}")/lab.sh"

RESIDUE_SECONDS_MAX=10

residue() {
    {
        lab_list | sed 's/^/lab /'
        find /sys/fs/bpf/barewire -mindepth 1 -maxdepth 1 -printf 'pin %p\n' 2> /dev/null || true
        find /tmp -maxdepth 1 -name 'barewire-*' -printf 'directory %p\n'
        pgrep -x barewired | sed 's/^/process /' || true
        bpftool -j prog list |
            jq -r '.[] | select(.type == "xdp" and .name == "steer") | "program \(.id)"'
    } | sort
}

since() { # FILE
    local deadline=$((SECONDS + RESIDUE_SECONDS_MAX)) left
    while left=$(comm -13 "$1" <(residue)) && [[ -n $left ]]; do
        if ((SECONDS >= deadline)); then
            printf 'expected nothing to be left behind, found:\n%s\n' "$left" >&2
            return 1
        fi
        sleep 0.5
    done
}

case "$#:${1:-}" in
    0:) residue ;;
    2:--since) since "$2" ;;
    *)
        echo "usage: residue.sh [--since FILE]" >&2
        exit 2
        ;;
esac
