# shellcheck shell=bash disable=SC2034 # the lists are for whoever sources this
# What the machine must have, sourced by demo.sh, vm.sh and test.sh: Debian packages, installed when
# they are missing, and a Rust that is new enough, which only its user can install.

# clang compiles the XDP program, and libelf and zlib are linked into the daemon.
PACKAGES_BUILD=(build-essential ca-certificates clang libelf-dev linux-libc-dev pkg-config zlib1g-dev)
# The lab, and reading reports.
PACKAGES_DEMO=(ethtool iproute2 jq)
# The kernel's side of the end-to-end tests.
PACKAGES_TEST=(bpftool curl iputils-ping nftables nginx nmap procps shellcheck tcpdump tshark valgrind
    wrk)
# The VM lab: the emulator, what its initramfs is made of, and what reads the kernel's modules. The
# kernel itself is fetched by deploy/vm/image.sh, for it is not to be installed here.
PACKAGES_VM=(busybox-static cpio kmod qemu-system-x86 xz-utils)
# Whose kernel the guest boots.
PACKAGES_VM_KERNEL=linux-image-cloud-amd64

packages_need() { # PACKAGE...
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ! command -v apt-get > /dev/null; then
        echo "expected Debian, found no apt-get; install by hand what these packages hold: ${missing[*]}" >&2
        return 3
    fi
    if [[ $(id -u) -ne 0 ]]; then
        echo "these packages are missing: ${missing[*]}; install them, or run this as root" >&2
        return 3
    fi
    echo "installing ${missing[*]}"
    packages_install "${missing[@]}" || {
        echo "apt-get could not install ${missing[*]}; what it says above is the reason" >&2
        return 3
    }
}

# A package such as nginx starts its service when it is installed; nobody asked for a service.
packages_install() { # PACKAGE...
    local policy=/usr/sbin/policy-rc.d ours='' status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && ours=1
    fi
    {
        apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"
    } < /dev/null || status=$?
    [[ -z $ours ]] || rm -f $policy
    return $status
}

# packages_need_rust CARGO_TOML: the version that the workspace asks for, or newer.
packages_need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$1")
    if ! command -v cargo > /dev/null; then
        echo "expected cargo $wanted or newer, found none in PATH; install Rust from https://rustup.rs," \
            "or keep your PATH: sudo env PATH=\"\$PATH\" $0" >&2
        return 3
    fi
    found=$(cargo --version | awk '{print $2}')
    if [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) != "$wanted" ]]; then
        echo "expected cargo $wanted or newer, found $found; run: rustup update stable" >&2
        return 3
    fi
}
