# shellcheck shell=bash
# What the guest of the VM lab boots: a kernel out of its Debian package, and an initramfs with
# busybox, the drivers, the engine and two tools. Sourced by vm.sh. Nothing is installed as this
# machine's kernel: the package is downloaded and unpacked into a directory of the build, which
# keeps it for the next time.

# The drivers of the guest's only devices; those that a kernel has built in are no files.
IMAGE_DRIVERS=(virtio_pci virtio_net)

IMAGE_FETCH_SECONDS_MAX=100

# The kernel that image_kernel found or fetched, and its version.
IMAGE_KERNEL=
IMAGE_KERNEL_VERSION=

# image_kernel PACKAGE DIRECTORY: the kernel of a package, unpacked below the directory.
image_kernel() {
    # The list of packages may be missing or old.
    image_obtain "$@" || {
        timeout $IMAGE_FETCH_SECONDS_MAX apt-get -q update >&2
        image_obtain "$@"
    } || {
        echo "expected a Debian package with a kernel, could not get $1; the reason is said above" >&2
        return 3
    }
    IMAGE_KERNEL_VERSION=${IMAGE_KERNEL##*/vmlinuz-}
}

image_obtain() { # PACKAGE DIRECTORY
    local package
    package=$(image_kernel_package "$1") && image_fetch "$package" "$2" || return
    IMAGE_KERNEL=$(echo "$2/$package"/boot/vmlinuz-*)
}

# A package such as linux-image-cloud-amd64 only depends on the one that holds the kernel.
image_kernel_package() { # PACKAGE
    if [[ $1 =~ ^linux-image-[0-9]+\.[0-9]+\. ]]; then
        echo "$1"
    else
        apt-cache depends "$1" | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | grep -m 1 .
    fi
}

# Does nothing when it was done before.
image_fetch() { # PACKAGE DIRECTORY
    local tree=$2/$1
    [[ ! -e $tree/complete ]] || return 0
    echo "fetching $1" >&2
    rm -rf "$tree"
    mkdir -p "$tree" || return
    (
        # apt says on standard error that its sandbox may not write here; its status is what counts.
        cd "$tree" && timeout $IMAGE_FETCH_SECONDS_MAX apt-get -q download "$1" &&
            dpkg -x ./*.deb . && rm -rf ./*.deb usr && depmod -b . "$(basename lib/modules/*)" &&
            touch complete
    ) >&2
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
