#!/usr/bin/env bash
# Requests per second of barewire's http against nginx over the kernel's TCP, driven by the same wrk over
# the same kind of veth pair, in turns: server on CPU 0, wrk on CPU 1, 64 connections, a body of 64
# bytes. nginx has all the offloads that the kernel gives a veth; the engine's peer does too. Prints the
# ratio of each round and their minimum, median and maximum; it judges nothing.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab.sh
source "$ROOT/deploy/lab.sh"
# shellcheck source=deploy/packages.sh
source "$ROOT/deploy/packages.sh"

ROUNDS=${1:-5}
SERVER=10.99.0.1
CLIENT=10.99.0.2

ENGINE_LAB=wrk-engine-$$
KERNEL_LAB=wrk-kernel-$$
work=$(mktemp -d)

leave() {
    local status=$?
    trap - EXIT
    for LAB_NAME in "$ENGINE_LAB" "$KERNEL_LAB"; do lab_down || true; done
    rm -rf "$work"
    exit $status
}

start_engine() {
    lab_up "$ENGINE_LAB" 1 1500
    ip -n "$(lab_namespace client)" addr add $CLIENT/24 dev client0
    lab_exec server "$ROOT/target/release/barewired" --dev server0 --queues 1 --cpus 0 \
        --addr $SERVER/24 --listen 80=http --control "$work/engine.sock" 2> "$work/engine.log" &
}

start_kernel() {
    lab_up "$KERNEL_LAB" 1 1500
    ip -n "$(lab_namespace server)" addr add $SERVER/24 dev server0
    ip -n "$(lab_namespace client)" addr add $CLIENT/24 dev client0
    cat > "$work/nginx.conf" <<'CONF'
daemon off;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    server {
        listen 80;
        location / { return 200 "0123456789012345678901234567890123456789012345678901234567890123"; }
    }
}
CONF
    lab_exec server taskset -c 0 nginx -p "$work" -e "$work/nginx.err" -c "$work/nginx.conf" \
        -g "pid $work/nginx.pid;" &
}

await() { # LAB
    LAB_NAME=$1
    local deadline=$((SECONDS + 10))
    until lab_exec client curl -s -o "$work/body" -m 1 "http://$SERVER/"; do
        ((SECONDS < deadline)) || { echo "wrk.sh: no server answers in lab $1" >&2; exit 3; }
        sleep 0.1
    done
}

requests_per_second() { # LAB
    LAB_NAME=$1
    lab_exec client taskset -c 1 wrk -t 1 -c 64 -d 2s "http://$SERVER:80/" > "$work/wrk"
    if grep -E "Socket errors|Non-2xx" "$work/wrk" >&2; then
        exit 1
    fi
    awk '/^Requests\/sec/ { print $2 }' "$work/wrk"
}

main() {
    lab_need_root
    lab_number ROUNDS "$ROUNDS" 1 100
    packages_need "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" curl nginx wrk || exit
    packages_need_rust "$ROOT/Cargo.toml" || exit
    cd "$ROOT"
    CARGO_TARGET_DIR="$ROOT/target" cargo build --release --locked -q -p barewire-engine
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    start_engine
    start_kernel
    await "$ENGINE_LAB"
    await "$KERNEL_LAB"
    local round engine kernel
    for ((round = 1; round <= ROUNDS; round++)); do
        engine=$(requests_per_second "$ENGINE_LAB")
        kernel=$(requests_per_second "$KERNEL_LAB")
        awk -v r="$round" -v a="$engine" -v b="$kernel" \
            'BEGIN { printf "round %d  barewire %.0f/s  nginx %.0f/s  ratio %.2f\n", r, a, b, a / b }'
    done | tee "$work/rounds"
    awk '{ print $NF }' "$work/rounds" | sort -n | awk '{ v[NR] = $1 }
        END { printf "ratio    min %.2f  median %.2f  max %.2f\n", v[1], v[int((NR + 1) / 2)], v[NR] }'
}

main
