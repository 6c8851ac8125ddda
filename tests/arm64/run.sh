#!/bin/sh
# The serving package on arm64, tested on an x86 machine: `make test-arm64`, as root. The first run takes a quarter of an
# hour, later ones half of it. Where emulation cannot be had, one line says why, and the status is 0.
#
# QEMU runs the programs of a small Debian 12 for arm64, which has Python 3.11. Everything is downloaded by the host's own
# apt and pip, as its mirrors and certificates are configured, and stays in .arm64:
#
#   tools    QEMU and debootstrap, unpacked from Debian's packages; nothing is installed on the host
#   wheels   a wheel of this checkout, and arm64 wheels of everything that it needs, by constraints.txt
#   root     Debian; its /opt/siglip-edge is the environment
#
# The one trace outside is a line in the kernel's table of binary formats, which is removed at the end.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python} mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
work=$PWD/.arm64 tools=$PWD/.arm64/tools wheels=$PWD/.arm64/wheels root=$PWD/.arm64/root
formats=/proc/sys/fs/binfmt_misc format=siglip-edge-arm64
model=quantized_models/emoji-siglip

# One processor per set of kernels that onnxruntime has: without 8-bit dot products (Raspberry Pi 4), with them
# (Raspberry Pi 5, Jetson Orin), with 8-bit matrix products and SVE (servers), with everything up to SME, which selects
# KleidiAI's kernels. The tests run on the second; `doctor` judges the model on each.
processors="cortex-a72 cortex-a76 neoverse-n2 max"
tested_on=cortex-a76
# The server from end to end, and the parts whose results depend on the processor or on compiled libraries. Left out:
# plain Python, comparisons with PyTorch and transformers, and the kernel's account of memory, which QEMU does not give.
tests="tests/server/test_shipped_model.py tests/server/test_end_to_end.py tests/server/faces/test_scores.py
    tests/runtime/images/test_containers.py tests/runtime/text/test_token_ids.py tests/runtime/text/test_vocabulary.py
    tests/runtime/test_model.py tests/runtime/test_scoring.py tests/runtime/test_shortening.py
    tests/runtime/checks/test_selftest.py tests/runtime/execution/test_tower.py"
# With what these tests import, so that an emulated pip installs less than the extra `test`.
packages="siglip-edge[cpu] onnx openai pytest"

say() {
    echo "test-arm64: $*"
}

skip() {
    say "skipped: $*"
    exit 0
}

check_host() {
    [ "$(uname -m)" = x86_64 ] || skip "emulation is for x86-64; on an arm64 machine run make test"
    [ "$(id -u)" = 0 ] || skip "only root can register an emulator and enter another Debian"
    for program in apt-get dpkg-deb unshare flock; do
        command -v "$program" >/dev/null || skip "$program is missing (Debian or Ubuntu have it)"
    done
    [ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats 2>/dev/null ||
        skip "the kernel runs no foreign binary formats here (binfmt_misc)"
    unshare --mount true 2>/dev/null || skip "mounts of its own are not granted here"
}

# onnxruntime 1.31.1 crashes at import under Debian 12's QEMU 7.2, so QEMU is Debian 13's. It also shows programs an arm64
# /proc/cpuinfo, where the server reads the instruction sets.
fetch_tools() {
    [ ! -x "$tools/usr/bin/qemu-aarch64" ] || return 0
    say "downloading QEMU and debootstrap"
    mkdir -p "$tools/lists/partial"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $mirror trixie main" >"$tools/sources.list"
    set -- -qq -o Dir::Etc::SourceList="$tools/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$tools/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root
    apt-get "$@" update && (cd "$tools" && apt-get "$@" download qemu-user debootstrap) || skip "no packages from $mirror"
    for package in "$tools"/*.deb; do
        dpkg-deb -x "$package" "$tools"
    done
}

# The kernel starts arm64 programs with QEMU. F: the file is opened now, so that it need not be in the root; P: programs
# see the name by which they were called.
register_emulator() {
    unregister_emulator
    trap unregister_emulator EXIT
    trap 'exit 130' INT TERM HUP
    head='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf %s ":$format:M::$head:$mask:$tools/usr/bin/qemu-aarch64:PF" 2>/dev/null >$formats/register ||
        skip "the kernel takes no emulator here"
}

unregister_emulator() {
    [ ! -e $formats/$format ] || echo -1 >$formats/$format
}

# Run a program in the root. Its mounts end with it; of this checkout it sees tests and models, not the package, so that
# the installed one is tested.
inside() {
    unshare --mount sh -euc '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount --bind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t tmpfs tmpfs "$root/tmp"
        for folder in .arm64/wheels tests quantized_models demo; do
            mkdir -p "$root/checkout/$folder"
            mount --bind -o ro "$folder" "$root/checkout/$folder"
        done
        cp pyproject.toml "$root/checkout"
        exec env -i HOME=/root PATH=/opt/siglip-edge/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
            PYTHONDONTWRITEBYTECODE=1 chroot "$root" "$@"' inside "$root" "$@"
}

make_root() {
    [ ! -f "$root/finished" ] || return 0
    say "making a Debian 12 for arm64"
    rm -rf "$root"
    DEBOOTSTRAP_DIR=$tools/usr/share/debootstrap "$tools/usr/sbin/debootstrap" --foreign --arch=arm64 --variant=minbase \
        --include=python3-venv bookworm "$root" "$mirror" >"$work/debootstrap.log" ||
        skip "debootstrap failed: $work/debootstrap.log says why"
    mkdir -p "$wheels"
    inside /debootstrap/debootstrap --second-stage >>"$work/debootstrap.log"
    inside python3 -m venv /opt/siglip-edge
    touch "$root/finished"
}

make_wheel() {
    rm -rf "$work/source"
    mkdir -p "$work/source"
    cp -r pyproject.toml README.md LICENSE cli exporter runtime server siglip_edge "$work/source"
    "$python" -m pip wheel -qq --no-deps -w "$wheels" "$work/source"
}

# Dependencies, again when pyproject.toml or constraints.txt change; the package itself every time.
install_package() {
    pip="inside python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-index
        --find-links /checkout/.arm64/wheels"
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    if [ "$wanted" != "$(cat "$root/installed" 2>/dev/null)" ]; then
        say "downloading and installing arm64 wheels"
        rm -rf "$wheels"
        mkdir -p "$wheels"
        make_wheel
        # Published as source only. It is plain Python: a wheel that is made here serves there.
        "$python" -m pip wheel -qq --no-deps -c constraints.txt -w "$wheels" openapi-ui-bundles
        # glibc is 2.36 in Debian 12.
        "$python" -m pip download -qq --only-binary=:all: --implementation cp --python-version 3.11 \
            --platform manylinux2014_aarch64 $(seq -f "--platform=manylinux_2_%.0f_aarch64" 17 36) \
            -c constraints.txt --find-links "$wheels" -d "$wheels" $packages
        $pip $packages
        echo "$wanted" >"$root/installed"
    else
        make_wheel
        $pip --no-deps siglip-edge
    fi
}

# `doctor` keeps its findings, so that the server of the tests and the next run start at once. On the processor of the
# tests it compares batches of every size with rows alone, as a server does; that takes minutes, so on the others batches
# of two.
judge() {
    [ "$1" = $tested_on ] || set -- "$1" BATCH_SIZE=2
    inside env QEMU_CPU="$1" CACHE_DIR="/var/cache/siglip-edge/$1" ${2:-} siglip-edge doctor --device cpu "/checkout/$model"
}

run_tests() {
    inside env QEMU_CPU=$tested_on CACHE_DIR=/var/cache/siglip-edge/$tested_on sh -c \
        'cd /checkout && python -m pytest -q -p no:cacheprovider --durations 5 "$@"' tests $tests
}

check_host
mkdir -p "$work"
exec 9>"$work/lock"
flock 9
started=$(date +%s)
fetch_tools
register_emulator
make_root
install_package
status=0
for processor in $processors; do
    say "doctor on $processor"
    judge "$processor" || status=1
done
say "tests on $tested_on"
run_tests || status=1
inside python -c 'import platform, onnxruntime; print(platform.machine(), "Python", platform.python_version(), "onnxruntime", onnxruntime.__version__)' 
say "$([ $status = 0 ] && echo passed || echo FAILED) in $((($(date +%s) - started) / 60)) minutes"
exit $status
