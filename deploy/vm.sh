#!/usr/bin/env bash
# The VM lab: the engine on a real driver with several queues. A guest with Debian's kernel is
# emulated, so that it needs no help of the processor's, and has a virtio-net device that spreads what
# it receives over its queues by RSS. The guest's end of the lab is the tap of that device, bridged to
# the lab's veth pair; the other end is an engine of this machine.
#
#   namespace barewire-NAME-server                          namespace barewire-NAME-client
#   +----------------------------------------------+        +------------------------+
#   | QEMU                                         |        |                        |
#   | +----------------------+                     |  veth  |                        |
#   | | guest           eth0 |   tap0 -- bridge0   |  pair  | client0                |
#   | |              queue 0 |<==          server0 |<------>|        queue 0  engine |
#   | |   engine     queue 1 |<==                  |        |        queue 1         |
#   | |  on native   queue 2 |<==  RSS             |        |                        |
#   | |      XDP     queue 3 |<==                  |        |                        |
#   | +----------------------+                     |        |                        |
#   +----------------------------------------------+        +------------------------+
#
# First the guest serves and the other end opens connections, then the other way round. Each time the
# books of both ends must agree to the byte, the guest must have got native XDP on every queue, each
# queue must carry its share, every frame must arrive at the queue that the hash foretold, so that none
# is handed over, and nothing may be lost. Then the table of the guest's NIC is changed under open
# connections: that must be noticed, and their frames be handed over, and the books agree all the same.
# How fast it is says nothing here. Installs what is missing, builds, and removes all that it made,
# however it ends.

set -euo pipefail

USAGE="usage: deploy/vm.sh [--quick] [--connections N] [--kernel PACKAGE]

  --quick            only the direction in which the guest serves, with 300 connections
  --connections N    connections open at the same time, 100 to 3000 (default 2000)
  --kernel PACKAGE   the Debian package with the guest's kernel (default linux-image-cloud-amd64)"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab.sh
source "$ROOT/deploy/lab.sh"
# shellcheck source=deploy/packages.sh
source "$ROOT/deploy/packages.sh"
# shellcheck source=deploy/books.sh
source "$ROOT/deploy/books.sh"
# shellcheck source=deploy/vm/image.sh
source "$ROOT/deploy/vm/image.sh"
# shellcheck source=deploy/vm/guest.sh
source "$ROOT/deploy/vm/guest.sh"

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

SERVER=10.99.0.1
CLIENT=10.99.0.2
CLIENT_ADDRESSES=10.1.0.0/24
PORT=7000
REQUEST_BYTES=64
# Of the veth pair; the guest has as many as it has CPUs.
OUTSIDE_QUEUES=2
# Handshakes and requests under way for each worker. QEMU forgets a queue that it has to wait for
# while it spreads in software, so all workers together must fit into one receive ring of the guest.
OUTSTANDING_MAX=200
# Every step below ends by then, or has failed.
START_SECONDS_MAX=30
LOAD_SECONDS_MAX=60
LINE_SECONDS_MAX=30
# All connections idle, long enough to change the table while they are.
HOLD_SECONDS=4
CHANGE_CONNECTIONS=500

connections=2000
quick=
kernel_package=$PACKAGES_VM_KERNEL
work=

say() { echo "vm: $*" >&2; }

refuse() {
    say "$*"
    exit 2
}

parse() {
    while (($#)); do
        case $1 in
            --connections | --kernel) [[ $# -ge 2 ]] || refuse "$1: expected a value" ;;&
            --connections)
                lab_number "$1" "$2" 100 3000
                connections=$((10#$2))
                shift
                ;;
            --kernel)
                [[ $2 =~ ^linux-image-[a-z0-9.+-]+$ ]] ||
                    refuse "--kernel: expected a package such as linux-image-cloud-amd64, found '$2'"
                kernel_package=$2
                shift
                ;;
            --quick)
                quick=1
                connections=300
                ;;
            -h | --help)
                echo "$USAGE"
                exit 0
                ;;
            *) refuse "expected an option that is known, found '$1'"$'\n'"$USAGE" ;;
        esac
        shift
    done
}

# Every way out leads here. What runs in the lab is ended with it, the guest too.
# shellcheck disable=SC2317 # the trap calls it
leave() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    lab_down || status=3
    [[ -z $work ]] || rm -rf "$work"
    exit "$status"
}

# The tap joins the guest to the pair. What it loses it counts.
wire_tap() {
    local namespace
    namespace=$(lab_namespace server)
    ip -n "$namespace" tuntap add tap0 mode tap multi_queue vnet_hdr
    ip -n "$namespace" link add bridge0 type bridge
    ip -n "$namespace" link set tap0 master bridge0
    ip -n "$namespace" link set server0 master bridge0
    ip -n "$namespace" link set bridge0 up
    ip -n "$namespace" link set tap0 up
}

start_guest() {
    image_kernel "$kernel_package" "$TARGET/vm"
    image_make "$TARGET/release/barewire" "$TARGET/release/barewired" "$(command -v ethtool)" \
        "$work/initramfs"
    guest_boot "$(lab_namespace server)" tap0 "$IMAGE_KERNEL" "$work/initramfs" "$work"
    guest ip link set eth0 up
    echo "guest        Linux $IMAGE_KERNEL_VERSION, $GUEST_CPUS CPUs and queues, booted in $GUEST_BOOT_SECONDS s"
}

# Runs a command until it succeeds, for so long.
await() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    until "${@:2}"; do
        # What has given no answer for long gives none any more.
        (($? != 124 && SECONDS < deadline)) || return
        sleep 0.2
    done
}

# A line of shell at an end: the guest, or outside of it.
at() { # END LINE
    case $1 in
        guest) guest "$2" ;;
        outside)
            timeout $LINE_SECONDS_MAX ip netns exec "$(lab_namespace client)" \
                env PATH="$TARGET/release:$PATH" sh -c "$2"
            ;;
    esac
}

# What an engine is given at each end: its device, and a directory for its socket and what it says.
device_of() { if [[ $1 == guest ]]; then echo eth0; else echo client0; fi; }
queues_of() { if [[ $1 == guest ]]; then echo "$GUEST_CPUS"; else echo $OUTSIDE_QUEUES; fi; }
directory_of() { if [[ $1 == guest ]]; then echo /run; else echo "$work"; fi; }

# A command of the CLI to the engine of an end.
engine() { # END COMMAND
    at "$1" "barewire --control $(directory_of "$1")/engine.sock $2"
}

# A command that goes on: what it says, and the status with which it ends, go to a log.
engine_apart() { # END LOG COMMAND
    local log
    log=$(directory_of "$1")/$2
    at "$1" "{ barewire --control $(directory_of "$1")/engine.sock $3; echo ended \$?; } > $log 2>&1 &"
}

said() { # END LOG PATTERN
    at "$1" "grep -q '$3' $(directory_of "$1")/$2"
}

# It did not do what it should: shows what it said, and ends.
blame() { # END LOG STATUS WORDS...
    at "$1" "cat $(directory_of "$1")/$2" >&2
    say "${*:4}; what it said is above"
    exit "$3"
}

start_engine() { # END FLAGS
    engine_apart "$1" engine.log "serve --dev $(device_of "$1") --queues $(queues_of "$1") \
        --connections-max $((2 * connections)) $2"
    if ! await $START_SECONDS_MAX said "$1" engine.log '^ended\|INFO ready' ||
        said "$1" engine.log '^ended'; then
        blame "$1" engine.log 3 "the engine of the $1 did not start"
    fi
}

# It must say that its own sums held.
stop_engine() { # END
    engine "$1" "stop > /dev/null"
    await_end "$1" engine.log $START_SECONDS_MAX "the engine of the $1 did not end well"
    at "$1" "grep '^barewired: ended' $(directory_of "$1")/engine.log" |
        sed "s/^barewired: ended:/ended        the engine of the $1:/"
}

await_end() { # END LOG SECONDS COMPLAINT
    if ! await "$3" said "$1" "$2" '^ended' || ! said "$1" "$2" '^ended 0'; then
        blame "$1" "$2" 1 "$4"
    fi
}

# One direction: an echo server at one end, a load test at the other. With `change`, the guest's NIC
# spreads otherwise from the middle of the test on.
direction() { # SERVER_END CLIENT_END [change]
    local server=$1 client=$2 change=${3:-} connections=$connections
    # Every frame takes up to as many turns as there are workers then, all emulated.
    [[ -z $change ]] || connections=$CHANGE_CONNECTIONS
    start_engine "$server" "--addr $SERVER/24 --listen $PORT=echo $(rss_of "$server")"
    start_engine "$client" "--addr $CLIENT/24 --prefix $CLIENT_ADDRESSES $(rss_of "$client")"
    start_load "$client"
    [[ -z $change ]] || change_table
    await_load "$client"
    take_stock "$server" "$client"
    report "$server" "$client" "$change"
    stop_engine "$client"
    stop_engine "$server"
}

# The guest's NIC tells how it spreads; that of a veth pair does not.
rss_of() { if [[ $1 == guest ]]; then echo --rss required; fi; }

start_load() { # END
    engine_apart "$1" load.log "load hold --src $CLIENT_ADDRESSES --dst $SERVER:$PORT \
        --connections $connections --outstanding-max $OUTSTANDING_MAX --duration ${HOLD_SECONDS}s \
        --request-bytes $REQUEST_BYTES --json $(directory_of "$1")/load.json"
}

await_load() { # END
    await_end "$1" load.log $LOAD_SECONDS_MAX "the load test of the $1 failed"
    at "$1" "cat $(directory_of "$1")/load.json" > "$work/report.json"
}

# All connections are open and idle: what they ask and answer from now on arrives elsewhere.
change_table() {
    await $START_SECONDS_MAX are_open guest "$connections" || {
        say "the guest had not all of its $connections connections open in $START_SECONDS_MAX s"
        exit 1
    }
    guest ethtool -X eth0 start 1 equal $((GUEST_CPUS - 1))
}

# shellcheck disable=SC2317 # it is awaited
are_open() { # END CONNECTIONS
    [[ $(engine "$1" "stats --json conns_open" | jq .conns_open) == "$2" ]]
}

# The books of both ends, when the last connection of the server has ended.
take_stock() { # SERVER_END CLIENT_END
    # That it never happens is for the comparison to say.
    await $START_SECONDS_MAX are_open "$1" 0 || true
    engine "$1" "stats --json" > "$work/server.json"
    engine "$1" "status --json" > "$work/server_status.json"
    engine guest "status --json" > "$work/status.json"
    engine guest "stats --json" > "$work/guest.json"
    engine guest "stats --json --workers rx_frames" > "$work/queues.json"
    # Of the driver, all its queues together.
    guest ethtool -S eth0 |
        awk '/_(drops|tx_timeouts):/ { lost += $2 } END { print lost + 0 }' > "$work/driver_lost"
    ip -j -s -n "$(lab_namespace server)" link show dev tap0 > "$work/tap.json"
}

# Prints one sentence for everything in the guest that is not as it must be.
compare_guest() { # CHANGE
    jq -n -r --arg change "$1" --argjson queues "$GUEST_CPUS" --argjson connections "$connections" \
        --slurpfile status "$work/status.json" --slurpfile stats "$work/guest.json" \
        --slurpfile frames "$work/queues.json" --slurpfile lost "$work/driver_lost" \
        --slurpfile tap "$work/tap.json" '
        $status[0].workers as $workers | $stats[0] as $stats | $frames[0].rx_frames as $frames
        | def equal($what; $expected; $found):
            if $expected == $found then empty
            else "\($what): expected \($expected), found \($found)" end;
        def within($what; $least; $most; $found):
            if $found >= $least and $found <= $most then empty
            else "\($what): expected \($least) to \($most), found \($found)" end;
        # An answer to ARP is for every worker, and what is of no connection is shown to every worker.
        (($stats.arp_requests + $stats.drop_no_connection) * ($queues - 1)) as $for_all
        | equal("guest, driver"; "virtio_net"; $status[0].driver),
        equal("guest, queues with a worker"; [range($queues)]; [$workers[].queue]),
        ($workers[] | equal("guest, XDP of queue \(.queue)"; "native"; .xdp_mode)),
        (if $change == "" then
            equal("guest, changes of its RSS"; []; $status[0].rss.changes),
            equal("guest, ports chosen by the hash"; true; $status[0].rss.ports_by_class),
            equal("guest, rss_mismatched"; 0; $stats.rss_mismatched),
            within("guest, frames handed over"; 0; $for_all; $stats.handoff_sent),
            ($frames | (add / length) as $share | .[]
                | within("guest, frames of a queue"; $share / 2 | floor; $share * 2 | ceil; .))
        else
            equal("guest, changes of its RSS"; 1; $status[0].rss.changes | length),
            within("guest, frames handed over"; $connections / 2; infinite; $stats.handoff_sent)
        end),
        ($stats | to_entries[] | select(.key | test("^handoff_full|^xdp_missing|^xsk_rx_(?!kicks)"))
            | equal("guest, \(.key)"; 0; .value)),
        equal("guest, frames that its driver lost"; 0; $lost[0]),
        ("rx", "tx" | equal("tap, frames lost, \(.)"; 0; $tap[0][0].stats64[.].dropped))'
}

report() { # SERVER_END CLIENT_END CHANGE
    local complaints end
    printf '%-12s %s\n' "$1 serves" "$(jq -r '
        "\(.opened) connections, \(.responses) answers, \(.failed) failed"' "$work/report.json")"
    jq -n -r --slurpfile status "$work/status.json" --slurpfile stats "$work/guest.json" \
        --slurpfile frames "$work/queues.json" '
        $status[0].workers as $workers | $stats[0] as $stats
        | "             guest: \($workers[0].xdp_mode) XDP and "
            + (if $workers[0].zero_copy then "zero-copy" else "copy" end)
            + " on queues \([$workers[].queue]), \($frames[0].rx_frames) frames",
        "             \($stats.handoff_sent) handed over, with \($stats.arp_requests) answers to ARP and "
            + "\($stats.drop_no_connection) frames of no connection; of \($stats.rss_checked) foretold, \($stats.rss_mismatched) arrived elsewhere",
        ($status[0].rss.changes[] | "             noticed: \(.what)")'
    complaints=$(
        books_compare "$connections" $REQUEST_BYTES "$work/report.json" "$work/server.json" \
            "$work/server_status.json"
        compare_guest "$3"
    )
    if [[ -n $complaints ]]; then
        while IFS= read -r complaint; do say "$complaint"; done <<< "$complaints"
        for end in "$1" "$2"; do
            say "the counters of the $end:"
            engine "$end" stats >&2
        done
        exit 1
    fi
    echo "agreed       the books of both ends, to the byte"
}

# The engine has given the guest's device back.
check_released() {
    local attached
    attached=$(guest "barewire xdp status eth0 --json" | jq -c .attached)
    [[ $attached == null || $attached == '[]' ]] || {
        say "guest, program left on its device: expected none, found $attached"
        exit 1
    }
}

main() {
    parse "$@"
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    lab_need_root
    packages_need "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" "${PACKAGES_VM[@]}" || exit
    packages_need_rust "$ROOT/Cargo.toml" || exit
    cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" -p barewire-engine -p barewire-cli ||
        { say "the build failed" && exit 3; }
    work=$(mktemp -d)
    lab_up "vm$$" $OUTSIDE_QUEUES 1500
    wire_tap
    start_guest
    direction guest outside
    if [[ -z $quick ]]; then
        direction outside guest
        direction outside guest change
    fi
    check_released
    guest_halt
    # Nothing is read from here on: an edit of this file does not disturb a run of it.
    exit
}

main "$@"
