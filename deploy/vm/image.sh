# shellcheck shell=bash
# What the guest of the VM lab boots: a kernel out of its Debian package, and an initramfs with
# busybox, the drivers, the engine and two tools. Sourced by vm.sh. Nothing is installed as this
# machine's kernel: the package is downloaded and unpacked into a directory of the build, which
# keeps it for the next time.

# The drivers of the guest's only devices; those that a kernel has built in are no files.
IMAGE_DRIVERS=(virtio_pci virtio_net)

# The kernel that image_kernel found or fetched, and its version.
IMAGE_KERNEL=
IMAGE_KERNEL_VERSION=

# A package such as linux-image-cloud-amd64 only depends on the one that holds the kernel.
image_kernel_package() { # PACKAGE
    if [[ $1 =~ ^linux-image-[0-9]+\.[0-9]+\. ]]; then
        echo "$1"
    else
        apt-cache depends --no-recommends --no-suggests "$1" |
            sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1
    fi
}

# image_kernel PACKAGE DIRECTORY: the kernel of a package, unpacked below the directory.
image_kernel() {
    local package tree
    package=$(image_kernel_package "$1")
    if [[ -z $package ]]; then
        # A machine that is new knows no packages yet.
        apt-get -q update >&2 && package=$(image_kernel_package "$1")
    fi
    [[ -n $package ]] || {
        echo "expected $1 to be a package of a Debian kernel, found that apt knows no such" >&2
        return 3
    }
    tree=$2/$package
    [[ -e $tree/complete ]] || image_fetch "$package" "$tree" || return 3
    IMAGE_KERNEL=$(echo "$tree"/boot/vmlinuz-*)
    IMAGE_KERNEL_VERSION=${IMAGE_KERNEL##*/vmlinuz-}
}

image_fetch() { # PACKAGE TREE
    echo "fetching $1" >&2
    rm -rf "$2"
    mkdir -p "$2" || return
    (
        # Its sandbox may not write here, and it says so; the exit status is what counts.
        cd "$2" && { apt-get -q download "$1" || { apt-get -q update && apt-get -q download "$1"; }; } &&
            dpkg -x ./*.deb . && rm ./*.deb && rm -rf usr && depmod -b . "$(basename lib/modules/*)"
    ) > "$2.log" 2>&1 || {
        cat "$2.log" >&2
        echo "could not fetch the kernel package $1; what is said above is the reason" >&2
        return 3
    }
    rm "$2.log"
    touch "$2/complete"
}

# image_make PROGRAM... OUT: the initramfs with these programs.
image_make() {
    local programs=("${@:1:$#-1}") out=${!#} root
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,modules} &&
        cp /bin/busybox "$root/bin/" &&
        install -m 755 "$(dirname "${BASH_SOURCE[0]}")/init" "$root/init" &&
        image_modules "$root" &&
        image_programs "$root" "${programs[@]}" &&
        (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) > "$out"
    local status=$?
    rm -rf "$root"
    return $status
}

# The drivers, and the order in which each finds what it needs.
image_modules() { # ROOT
    local tree driver file
    tree=$(dirname "$(dirname "$IMAGE_KERNEL")")
    for driver in "${IMAGE_DRIVERS[@]}"; do
        modprobe -d "$tree" -S "$IMAGE_KERNEL_VERSION" --show-depends "$driver" || return
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > "$1/modules/files" || return
    while read -r file; do
        # Unpacked here, so that the guest needs nothing to read them.
        case $file in
            *.xz) xz -dc "$file" ;;
            *) cat "$file" ;;
        esac > "$1/modules/$(basename "${file%.xz}")" || return
        basename "${file%.xz}" >> "$1/modules/order"
    done < "$1/modules/files"
}

# Programs with the libraries they load, without their symbols.
image_programs() { # ROOT PROGRAM...
    local root=$1 program library
    shift
    for program in "$@"; do
        strip -o "$root/bin/$(basename "$program")" "$program" || return
        while read -r library; do
            mkdir -p "$root${library%/*}" && cp -L "$library" "$root$library" || return
        done < <(ldd "$program" | grep -o '/[^ ]*' | grep -v ':$')
    done
}
