#!/usr/bin/env bash
# Every check there is, in one run: format, lints, shell scripts, build, documentation, all tests,
# and a short demonstration over the lab and in memory. A failed check does not stop the others, and
# is the only one that prints all that it said. The last line sums what ran. Needs root, because half
# of the tests touch the kernel; a machine without it would not have been tested, so this fails there.

set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab.sh
source "$ROOT/deploy/lab.sh"
# shellcheck source=deploy/packages.sh
source "$ROOT/deploy/packages.sh"

# No check takes half of this on two slow cores; one that hangs must not take the day.
CHECK_TIME_MAX=15m
# It builds nothing and fetches a kernel at most.
VM_LAB_TIME_MAX=3m
# What a program exits with that counts only what this compiler made, and was given another.
OTHER_COMPILER=4

passed=0
failed=0
not_made=0
work=

# One check. A check that runs tests counts as so many; any other as one. A test that is left out has
# not passed, so it counts as failed.
check() { # NAME COMMAND...
    local name=$1 begun=$SECONDS status=0 n_passed n_failed n_ignored
    shift
    printf '%-44s' "$name"
    timeout --kill-after=30s $CHECK_TIME_MAX "$@" > "$work/log" 2>&1 < /dev/null &
    # A wait that a signal can interrupt.
    wait $! || status=$?
    read -r n_passed n_failed n_ignored < <(awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { print passed + 0, failed + 0, ignored + 0 }' "$work/log")
    if ((status == OTHER_COMPILER)); then
        not_made=$((not_made + 1))
        echo "NOT MADE: $(tail -n 1 "$work/log")"
        return
    fi
    if ((n_passed + n_failed + n_ignored == 0 && status == 0)); then
        n_passed=1
    elif ((n_failed == 0 && status != 0)); then
        n_failed=1
    fi
    passed=$((passed + n_passed))
    failed=$((failed + n_failed + n_ignored))
    if ((n_failed + n_ignored)); then
        echo "FAILED with status $status after $((SECONDS - begun)) s: $n_passed passed," \
            "$n_failed failed, $n_ignored left out"
        sed 's/^/    /' "$work/log"
    else
        echo "$n_passed passed in $((SECONDS - begun)) s"
    fi
}

# shellcheck disable=SC2317 # the trap calls it
leave() {
    local status=$? pid
    trap - EXIT
    trap '' INT TERM HUP
    for pid in $(jobs -pr); do
        # It is a timeout, which passes the signal on to all that it runs.
        kill -TERM "$pid" 2> /dev/null
        wait "$pid"
    done
    rm -rf "$work"
    exit "$status"
}

main() {
    [[ $# -eq 0 ]] || lab_refuse "expected no options, found '$1'"
    lab_need_root
    packages_need "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" "${PACKAGES_TEST[@]}" \
        "${PACKAGES_VM[@]}" || exit
    packages_need_rust "$ROOT/Cargo.toml" || exit
    cd "$ROOT" || exit 3
    work=$(mktemp -d)
    deploy/residue.sh > "$work/before"
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP

    check format cargo fmt --all --check
    check "shell scripts" shellcheck -x deploy/*.sh deploy/vm/* bench/*.sh .ci/run
    check build cargo build --locked --workspace --all-targets
    check lints cargo clippy --locked --workspace --all-targets -- -D warnings
    check documentation env RUSTDOCFLAGS="-D warnings" \
        cargo doc --locked --workspace --no-deps
    # One after the other: engines, kernels and a judge of their timing share two CPUs.
    check tests env RUST_TEST_THREADS=1 cargo test --locked --workspace --no-fail-fast
    check "planted faults" cargo test --locked -p barewire-stack --test twins
    check "release build" cargo build --release --locked --workspace
    check "instruction baseline" cargo run --release --locked -p barewire-bench --bin barewire-bench \
        -- baseline check
    check "simulator, 3000 seeds" cargo run --release --locked -p barewire-stack --bin sim -- \
        --seeds 3000
    check "demonstration" deploy/demo.sh --connections 20k --duration 2s
    check "demonstration in memory" deploy/demo.sh --connections 20k --duration 2s --memory
    check "VM lab, short form" timeout --kill-after=30s $VM_LAB_TIME_MAX deploy/vm.sh --quick
    check "nothing is left behind" deploy/residue.sh --since "$work/before"

    echo
    ((not_made)) && echo "$not_made not made, see above"
    echo "$passed passed, $failed failed"
    # Nothing is read from here on: an edit of this file does not disturb a run of it.
    exit $((failed > 0))
}

main "$@"
