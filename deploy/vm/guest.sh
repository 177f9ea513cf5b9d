# shellcheck shell=bash
# The guest of the VM lab: started, asked to run commands, turned off. Sourced by vm.sh. The machine
# is emulated, so this needs no help of the processor's. Commands go over the guest's second serial
# port and are answered by deploy/vm/init; its console goes to a file. Nothing here waits without an
# end.

# Memory: the umem of each worker and the initramfs are most of it.
GUEST_MEMORY_MIB=1024
GUEST_CPUS=4
# The network device can have this many queue pairs. Native XDP needs a transmit queue for each CPU
# beyond those in use, and the driver has them only if the device does.
GUEST_QUEUES_MAX=8
GUEST_BOOT_SECONDS_MAX=90
GUEST_COMMAND_SECONDS_MAX=30
GUEST_HALT_SECONDS_MAX=20

# Set while it runs: its process, the seconds its start took by its own clock, the two ends of the
# serial line and the file with its console.
GUEST_PID=
GUEST_BOOT_SECONDS=
GUEST_IN=
GUEST_OUT=
GUEST_CONSOLE=

guest_say() { echo "guest: $*" >&2; }

# guest_boot NAMESPACE TAP KERNEL INITRAMFS DIRECTORY: starts it on a tap of a namespace. The serial
# line and the console are files in the directory.
guest_boot() {
    local namespace=$1 tap=$2 kernel=$3 initramfs=$4 line=$5/serial
    GUEST_CONSOLE=$5/console
    mkfifo "$line.in" "$line.out" || return
    # RSS in software, and no kernel thread for the device: neither depends on this machine.
    local device="virtio-net-pci,netdev=tap,mq=on,rss=on,rx_queue_size=1024,vectors=$((2 * GUEST_QUEUES_MAX + 2))"
    setsid ip netns exec "$namespace" qemu-system-x86_64 -nodefaults -no-user-config -display none \
        -machine pc -accel tcg,thread=multi -cpu max -smp $GUEST_CPUS -m $GUEST_MEMORY_MIB \
        -no-reboot -kernel "$kernel" -initrd "$initramfs" \
        -append "console=ttyS0 panic=-1 loglevel=5 quiet" \
        -serial "file:$GUEST_CONSOLE" -chardev "pipe,id=line,path=$line" -serial chardev:line \
        -netdev "tap,id=tap,ifname=$tap,script=no,downscript=no,vhost=off,queues=$GUEST_QUEUES_MAX" \
        -device "$device" < /dev/null > "$5/qemu" 2>&1 &
    GUEST_PID=$!
    # Opened for both, for a pipe that only one side has open blocks.
    exec {GUEST_IN}<> "$line.in" {GUEST_OUT}<> "$line.out"
    guest_answer $GUEST_BOOT_SECONDS_MAX > "$5/booted" || return
    # shellcheck disable=SC2034 # for whoever sources this
    GUEST_BOOT_SECONDS=$(head -n 1 "$5/booted")
}

# guest COMMAND: runs a line of shell in the guest, prints what it printed, and returns its status.
# Its errors go to the console. Takes at most GUEST_COMMAND_SECONDS_MAX.
guest() {
    printf '%s\n' "$*" >&"$GUEST_IN"
    guest_answer $GUEST_COMMAND_SECONDS_MAX
}

# Prints what comes until the line with the status, without empty lines.
guest_answer() { # SECONDS
    local deadline=$((SECONDS + $1)) line='' part
    while ((SECONDS < deadline)); do
        # A line that is not whole after a second stays in `part`.
        if IFS= read -r -t 1 part <&"$GUEST_OUT"; then
            line+=$part
            if [[ $line =~ ^status\ ([0-9]+)$ ]]; then
                return "${BASH_REMATCH[1]}"
            fi
            [[ -z $line ]] || printf '%s\n' "$line"
            line=
        else
            line+=$part
            kill -0 "$GUEST_PID" 2> /dev/null || {
                guest_say "it is not on any more"
                break
            }
        fi
    done
    guest_say "expected an answer in $1 s, found none; its console ends so, and then what QEMU said:"
    tail -n 30 "$GUEST_CONSOLE" "$(dirname "$GUEST_CONSOLE")/qemu" >&2
    return 124
}

# Turns it off, and waits until it is.
guest_halt() {
    local deadline=$((SECONDS + GUEST_HALT_SECONDS_MAX))
    printf 'poweroff -f\n' >&"$GUEST_IN"
    while kill -0 "$GUEST_PID" 2> /dev/null; do
        if ((SECONDS >= deadline)); then
            guest_say "it was still on after $GUEST_HALT_SECONDS_MAX s"
            return 1
        fi
        sleep 0.1
    done
    wait "$GUEST_PID"
}
