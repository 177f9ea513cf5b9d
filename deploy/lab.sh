#!/usr/bin/env bash
# The lab: two network namespaces joined by a veth pair with several queues. Nothing in it reaches
# the machine's own network. As a program it makes, uses and removes one lab; sourced, it gives the
# same as functions, and whoever sources it removes what it made (trap lab_down EXIT).
#
#   namespace barewire-NAME-server             namespace barewire-NAME-client
#   +-------------------------+                +-------------------------+
#   |                 server0 |   veth pair    | client0                 |
#   |                         |                |                         |
#   |                 queue 0 |<-------------->| queue 0                 |
#   |   engine        queue 1 |<-------------->| queue 1   engine        |
#   |   or kernel       ...   |<-------------->|   ...     or kernel     |
#   |                queue N-1|<-------------->|queue N-1                |
#   |                         |                |                         |
#   | lo                      |                |                      lo |
#   +-------------------------+                +-------------------------+
#
# An end belongs to an engine unless --kernel gives it to the kernel, which then has an address there
# and computes its own checksums, for AF_XDP on the other end sees them as they were sent.

LAB_USAGE="usage: lab.sh up [--names NAME] [--queues N] [--mtu M] [--kernel END=ADDR/LEN]...
       lab.sh exec [--names NAME] server|client COMMAND...
       lab.sh down [--names NAME]

  up      makes a lab and prints its name (default: the process number)
  exec    runs a command in one of its namespaces
  down    removes it, also when only a part of it exists

  --queues N             queues of each end, 1 to 64 (default 2)
  --mtu M                bytes of a packet, 576 to 3498 (default 1500)
  --kernel END=ADDR/LEN  gives the kernel an address on this end, and turns off the end's offloads
  --names NAME           which lab; exec and down need it only when there are several"

LAB_QUEUES_MAX=64
# Without fragments a native XDP program on veth takes frames of one page less its own overhead.
LAB_MTU_MAX=3498
LAB_CARRIER_SECONDS_MAX=5
# A daemon that ends well resets its connections first.
LAB_END_SECONDS_MAX=10

# The lab that this shell made or was told to use.
LAB_NAME=

lab_say() { echo "lab: $*" >&2; }

# Refuses what the user wrote: exit status 2.
lab_refuse() {
    lab_say "$*"
    exit 2
}

# Refuses what the machine is: exit status 3.
lab_need_root() {
    if [[ $(id -u) -ne 0 ]]; then
        lab_say "expected root, found $(id -un): network namespaces need it; run this with sudo"
        exit 3
    fi
}

lab_number() { # OPTION VALUE MIN MAX
    if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        lab_refuse "$1: expected a number from $3 to $4, found '$2'"
    fi
}

# Name of the namespace and of the interface of an end.
lab_namespace() { echo "barewire-$LAB_NAME-$1"; }
lab_interface() { echo "${1}0"; }

lab_check_end() {
    [[ $1 == server || $1 == client ]] || lab_refuse "expected server or client, found '$1'"
}

# Runs a command in the namespace of an end.
lab_exec() { # END COMMAND...
    local end=$1
    shift
    ip netns exec "$(lab_namespace "$end")" "$@"
}

# lab_up NAME QUEUES MTU: makes the lab, or nothing.
lab_up() {
    LAB_NAME=$1
    local queues=$2 mtu=$3 end
    if lab_list | grep -qx -- "$LAB_NAME"; then
        local name=$LAB_NAME
        LAB_NAME=
        lab_refuse "there is a lab '$name' already; choose another name, or: lab.sh down --names $name"
    fi
    if ! lab_make "$queues" "$mtu"; then
        lab_down
        lab_say "the lab could not be made; what is said above is the reason, nothing is left of it"
        return 3
    fi
}

lab_make() { # QUEUES MTU
    local queues="numrxqueues $1 numtxqueues $1" end
    for end in server client; do
        ip netns add "$(lab_namespace "$end")" || return
        lab_quieten "$end" || return
    done
    # shellcheck disable=SC2086 # the queues are several words
    ip -n "$(lab_namespace server)" link add server0 mtu "$2" $queues type veth \
        peer name client0 mtu "$2" $queues netns "$(lab_namespace client)" || return
    for end in server client; do
        ip -n "$(lab_namespace "$end")" link set lo up || return
        ip -n "$(lab_namespace "$end")" link set "${end}0" up || return
    done
    for end in server client; do
        lab_await_carrier "$end" || return
    done
}

# No IPv6: its discovery would send frames that no test asked for.
lab_quieten() { # END
    # shellcheck disable=SC2016 # the inner shell expands it, in the namespace
    lab_exec "$1" sh -c '
        for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do
            [ ! -e "$file" ] || echo 1 > "$file" || exit 1
        done'
}

lab_await_carrier() { # END
    local interface deadline=$((SECONDS + LAB_CARRIER_SECONDS_MAX))
    interface=$(lab_interface "$1")
    until ip -n "$(lab_namespace "$1")" link show dev "$interface" | grep -q LOWER_UP; do
        if ((SECONDS > deadline)); then
            lab_say "$interface has no carrier after $LAB_CARRIER_SECONDS_MAX s"
            return 1
        fi
        sleep 0.05
    done
}

# Gives an end to the kernel. Unfinished checksums and segments larger than a frame are what a veth
# passes on between kernels; an AF_XDP socket on the other end must not get them.
lab_kernel() { # END ADDR/LEN
    local namespace interface
    namespace=$(lab_namespace "$1")
    interface=$(lab_interface "$1")
    ip -n "$namespace" addr add "$2" dev "$interface" || return
    lab_exec "$1" ethtool -K "$interface" tx off rx off tso off gso off gro off > /dev/null
}

# Ends what still runs in the lab, and waits for it: asks once, for a daemon that is asked twice does
# not end in order, and kills after a while.
lab_end_processes() {
    local signal pids deadline
    for signal in TERM KILL; do
        pids=$(lab_pids)
        [[ -n $pids ]] || return 0
        # One that has just ended by itself is no failure.
        # shellcheck disable=SC2086 # one word for each process
        kill -$signal $pids 2> /dev/null
        deadline=$((SECONDS + LAB_END_SECONDS_MAX))
        while [[ -n $(lab_pids) ]] && ((SECONDS < deadline)); do
            sleep 0.1
        done
    done
}

lab_pids() {
    local end namespace
    for end in server client; do
        namespace=$(lab_namespace "$end")
        [[ ! -e /run/netns/$namespace ]] || ip netns pids "$namespace"
    done
}

# Removes the lab, whatever there is of it. Nothing to remove is no failure.
lab_down() {
    [[ -n $LAB_NAME ]] || return 0
    local end namespace status=0
    lab_end_processes
    # The pair first: a namespace lives on for as long as somebody holds a socket in it.
    for end in server client; do
        ip -n "$(lab_namespace "$end")" link del "${end}0" 2> /dev/null
    done
    for end in server client; do
        namespace=$(lab_namespace "$end")
        if [[ -e /run/netns/$namespace ]]; then
            ip netns del "$namespace" || status=3
        fi
    done
    LAB_NAME=
    return $status
}

# The names of the labs that exist, half made ones too.
lab_list() {
    local path
    for path in /run/netns/barewire-*-server /run/netns/barewire-*-client; do
        [[ ! -e $path ]] || basename "$path"
    done | sed -E 's/^barewire-(.*)-(server|client)$/\1/' | sort -u
}

# Sets LAB_NAME to the lab that is meant.
lab_find() { # NAME, or nothing for the only one
    local labs
    mapfile -t labs < <(lab_list)
    if [[ -n $1 ]]; then
        LAB_NAME=$1
        [[ " ${labs[*]} " == *" $1 "* ]] ||
            lab_refuse "there is no lab '$1'; found: ${labs[*]:-none}"
    elif ((${#labs[@]} == 1)); then
        LAB_NAME=${labs[0]}
    else
        lab_refuse "expected one lab, found: ${labs[*]:-none}; say which with --names, or make one with lab.sh up"
    fi
}

lab_main() {
    local command=${1:-} name='' queues=2 mtu=1500 kernel=() entry
    [[ $command == up || $command == down || $command == exec ]] || lab_refuse "$LAB_USAGE"
    shift
    while [[ ${1:-} == --* ]]; do
        [[ $# -ge 2 ]] || lab_refuse "$1: expected a value"
        case $1 in
            --names)
                # Two namespaces are named after it, and the kernel wants short file names.
                [[ $2 =~ ^[A-Za-z0-9_.-]{1,64}$ ]] ||
                    lab_refuse "--names: expected letters, digits, _ . and -, found '$2'"
                name=$2
                ;;
            --queues) lab_number "$1" "$2" 1 $LAB_QUEUES_MAX && queues=$((10#$2)) ;;
            --mtu) lab_number "$1" "$2" 576 $LAB_MTU_MAX && mtu=$((10#$2)) ;;
            --kernel)
                [[ $2 == server=*/* || $2 == client=*/* ]] ||
                    lab_refuse "--kernel: expected END=ADDR/LEN such as client=10.99.0.1/24, found '$2'"
                kernel+=("$2")
                ;;
            *) lab_refuse "expected an option that is known, found '$1'"$'\n'"$LAB_USAGE" ;;
        esac
        shift 2
    done
    lab_need_root
    case $command in
        up)
            [[ $# -eq 0 ]] || lab_refuse "up: expected only options, found '$1'"
            # Interrupted half way, it takes back what it has made.
            trap 'lab_down; exit 130' INT TERM HUP
            lab_up "${name:-$$}" "$queues" "$mtu" || exit 3
            for entry in "${kernel[@]}"; do
                lab_kernel "${entry%%=*}" "${entry#*=}" || {
                    lab_down
                    exit 3
                }
            done
            echo "$LAB_NAME"
            ;;
        exec)
            [[ $# -ge 2 ]] || lab_refuse "exec: expected server|client COMMAND..."
            lab_check_end "$1"
            lab_find "$name"
            local namespace
            namespace=$(lab_namespace "$1")
            shift
            exec ip netns exec "$namespace" "$@"
            ;;
        down)
            [[ $# -eq 0 ]] || lab_refuse "down: expected only options, found '$1'"
            lab_find "$name"
            lab_down || exit
            ;;
    esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -u
    lab_main "$@"
fi
