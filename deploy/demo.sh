#!/usr/bin/env bash
# The demonstration: two engines joined by the lab's veth pair, an echo server and a load test. All
# connections are opened, held open together, and then asked for one response each; afterwards the
# books of both sides must agree. Installs what is missing, builds, and removes all that it made,
# however it ends.

set -euo pipefail

USAGE="usage: deploy/demo.sh [--connections N] [--queues N] [--duration TIME] [--json FILE] [--keep]
                      [--memory]

  --connections N    connections open at the same time, up to 100m (default 1m)
  --queues N         queues, and so workers, of each side, 1 to 64 (default 2)
  --duration TIME    how long they are held, such as 500ms, 10s or 1m (default 10s)
  --json FILE        write the reports of both sides there
  --keep             leave the namespaces for a look; the engines end all the same
  --memory           both stacks in one process over a wire in memory: needs no root"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab.sh
source "$ROOT/deploy/lab.sh"
# shellcheck source=deploy/packages.sh
source "$ROOT/deploy/packages.sh"
# shellcheck source=deploy/books.sh
source "$ROOT/deploy/books.sh"

BAREWIRE=${CARGO_TARGET_DIR:-$ROOT/target}/release/barewire

# Each side has its own network, and neither has a gateway: everything is on the link. The /16 of
# client addresses has enough ports for four billion connections.
SERVER=10.99.0.1
CLIENT_ADDRESSES=10.1.0.0/16
PORT=7000
REQUEST_BYTES=64

START_SECONDS_MAX=30
END_SECONDS_MAX=30

connections=1000000
queues=2
duration=10s
json=
keep=
memory=
work=
server_pid=

say() { echo "demo: $*" >&2; }

refuse() {
    say "$*"
    exit 2
}

parse() {
    while (($#)); do
        case $1 in
            --connections | --queues | --duration | --json)
                [[ $# -ge 2 ]] || refuse "$1: expected a value"
                ;;&
            --connections)
                connections=$(count_of "$2") ||
                    refuse "--connections: expected from 1 to 100m, such as 20k or 1m, found '$2'"
                ;;
            --queues)
                lab_number "$1" "$2" 1 "$LAB_QUEUES_MAX"
                queues=$((10#$2))
                ;;
            --duration)
                [[ $2 =~ ^[0-9]{1,6}(ms|s|m)$ ]] ||
                    refuse "--duration: expected a time such as 500ms, 10s or 1m, found '$2'"
                duration=$2
                ;;
            --json) json=$2 ;;
            --keep) keep=1 ;;
            --memory) memory=1 ;;
            -h | --help)
                echo "$USAGE"
                exit 0
                ;;
            *) refuse "expected an option that is known, found '$1'"$'\n'"$USAGE" ;;
        esac
        case $1 in
            --connections | --queues | --duration | --json) shift 2 ;;
            *) shift ;;
        esac
    done
    if [[ -n $json && ! -d $(dirname -- "$json") ]]; then
        refuse "--json: expected a file in a directory that exists, found '$json'"
    fi
}

# 20k -> 20000
count_of() {
    [[ $1 =~ ^([0-9]{1,9})([km]?)$ ]] || return
    local n=$((10#${BASH_REMATCH[1]}))
    case ${BASH_REMATCH[2]} in
        k) n=$((n * 1000)) ;;
        m) n=$((n * 1000000)) ;;
    esac
    ((n >= 1 && n <= 100000000)) && echo $n
}

# Runs a command and waits for it in a way that a signal to this script can interrupt.
attend() {
    "$@" &
    wait $!
}

# Every way out leads here. What is started is ended, what is made is removed.
leave() {
    local status=$? pid
    trap - EXIT
    # Nothing may interrupt the removal.
    trap '' INT TERM HUP
    set +e
    # The load test before its server, so that it can close its connections.
    for pid in $(jobs -pr | tac); do
        end_process "$pid"
    done
    if [[ -n $keep && -n $LAB_NAME ]]; then
        say "the lab is kept: deploy/lab.sh exec --names $LAB_NAME server|client COMMAND..."
        say "and to remove it: deploy/lab.sh down --names $LAB_NAME"
    else
        lab_down || status=3
    fi
    [[ -z $work ]] || rm -rf "$work"
    exit $status
}

# Asks first, and kills after a while.
end_process() { # PID
    local deadline=$((SECONDS + END_SECONDS_MAX))
    kill -TERM "$1" 2> /dev/null || return
    while kill -0 "$1" 2> /dev/null && ((SECONDS < deadline)); do
        sleep 0.1
    done
    kill -KILL "$1" 2> /dev/null
    wait "$1" 2> /dev/null
}

server() { "$BAREWIRE" --control "$work/server.sock" "$@"; }

run_in_memory() {
    cd "$ROOT"
    attend cargo run --release --locked -q -p barewire-bench -- memory --connections "$connections" \
        --queues "$queues" --duration "$duration" ${json:+--json "$json"}
}

# A command in a namespace and a session of its own: Ctrl-C reaches this script alone, which asks each
# process once. Run in the background, its process number is the command's.
apart() { # END COMMAND...
    exec setsid ip netns exec "$(lab_namespace "$1")" "${@:2}"
}

start_server() {
    # The limit counts an even share for each worker; the pair does not spread quite evenly.
    apart server "$BAREWIRE" \
        --control "$work/server.sock" serve --dev server0 --queues "$queues" \
        --addr $SERVER/24 --listen $PORT=echo --connections-max $((2 * connections)) >&2 &
    server_pid=$!
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until server status > /dev/null 2>&1; do
        if ! kill -0 "$server_pid" 2> /dev/null; then
            wait "$server_pid" || { say "the server did not start; it says why above" && exit 3; }
        fi
        ((SECONDS < deadline)) || { say "the server was not ready in $START_SECONDS_MAX s" && exit 3; }
        sleep 0.1
    done
}

# The load test, and beside it a look at the server each second: its memory counts while the most
# connections are open.
run_load() {
    apart client "$BAREWIRE" load hold \
        --dev client0 --queues "$queues" --addr 10.99.0.2/24 --src $CLIENT_ADDRESSES \
        --dst $SERVER:$PORT --connections "$connections" --connections-max $((2 * connections)) \
        --duration "$duration" --request-bytes $REQUEST_BYTES --json "$work/load.json" &
    local load=$! status most='{"connections":0}'
    while kill -0 "$load" 2> /dev/null; do
        status=$(server status --json 2> /dev/null) || status='{"connections":0}'
        most=$(jq -c -n --argjson a "$most" --argjson b "$status" '[$a, $b] | max_by(.connections)')
        # A wait that a signal can interrupt.
        sleep 1 &
        wait $! || true
    done
    echo "$most" > "$work/most.json"
    wait "$load" || { say "the load test failed; it says why above" && exit 1; }
}

# The server's books, when the last of its connections has ended.
take_stock() {
    local deadline=$((SECONDS + END_SECONDS_MAX))
    until [[ $(server stats --json conns_open | jq .conns_open) == 0 ]] || ((SECONDS >= deadline)); do
        sleep 0.2
    done
    server stats --json > "$work/stats.json"
    server status --json > "$work/status.json"
}

# Prints one sentence for everything that does not add up, and nothing when all does.
compare_books() {
    books_compare "$connections" $REQUEST_BYTES "$work/load.json" "$work/stats.json" "$work/status.json"
    jq -r 'if .bytes_per_connection then empty
        else "server, bytes per connection: it was never seen with a connection" end' "$work/most.json"
}

report() {
    local complaints
    complaints=$(compare_books)
    jq -n -r --slurpfile load "$work/load.json" --slurpfile stats "$work/stats.json" \
        --slurpfile most "$work/most.json" '
        $stats[0] as $stats | $most[0] as $most
        | "server       \($stats.conns_passive) accepted = \($stats.conns_closed) closed + \($stats.conns_open) open",
        "             \($stats.tcp_bytes_in) bytes in, \($stats.tcp_bytes_out) bytes out, \($stats.tcp_retransmitted) segments sent again",
        "             \($most.bytes_per_connection) bytes per connection with \($most.connections) of them, all included",
        "client       \($load[0].bytes_per_connection) bytes per connection with \($load[0].peak_open) of them, all included"'
    if [[ -n $json ]]; then
        jq -n --slurpfile load "$work/load.json" --slurpfile stats "$work/stats.json" \
            --slurpfile most "$work/most.json" \
            '{load: $load[0], server: {at_most: $most[0], stats: $stats[0]}}' > "$json"
    fi
    if [[ -n $complaints ]]; then
        while IFS= read -r complaint; do say "$complaint"; done <<< "$complaints"
        say "the books of the two sides do not agree"
        return 1
    fi
    echo "agreed       the books of both sides, to the byte"
}

stop_server() {
    server stop > /dev/null
    wait "$server_pid" || { say "the server ended badly; it says why above" && return 1; }
}

main() {
    parse "$@"
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    [[ -n $memory ]] || lab_need_root
    packages_need "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" || exit
    packages_need_rust "$ROOT/Cargo.toml" || exit
    if [[ -n $memory ]]; then
        run_in_memory
        return
    fi
    attend cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" \
        -p barewire-engine -p barewire-cli || { say "the build failed" && exit 3; }
    work=$(mktemp -d)
    lab_up "demo$$" "$queues" 1500
    start_server
    run_load
    take_stock
    report
    stop_server
    # Nothing is read from here on: an edit of this file does not disturb a run of it.
    exit
}

main "$@"
