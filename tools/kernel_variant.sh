#!/bin/sh
# Build the compiled code in another way and run its tests on that build: tools/kernel_variant.sh sanitize | threads | neon
#
#   sanitize  AddressSanitizer and UndefinedBehaviorSanitizer, every level
#   threads   ThreadSanitizer over the tests of threads
#   neon      aarch64, under qemu-user: the interpreter is Debian's for arm64, numpy and cffi are their aarch64 wheels
#
# Everything lives in build/<variant>; nothing is installed into the system. "neon" needs Debian's packages qemu-user
# and gcc-aarch64-linux-gnu, and apt-get and dpkg-deb to fetch the interpreter. Further arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
variant=$1
shift
top=$(pwd)
home=$top/build/$variant
tree=$home/tree
flags="-std=c11 -ffp-contract=off -fno-fast-math -fvisibility=hidden -pthread -fPIC -shared -g -DPy_LIMITED_API=0x030b0000"

fresh_tree() { # the sources as they are now, without their compiled kernel
    rm -rf "$tree"
    mkdir -p "$tree"
    cp -R emm spec pyproject.toml "$tree"
    mkdir "$tree/tests"
    cp -R tests/kernel tests/conftest.py tests/allowed_skips.txt "$tree/tests"
    mkdir "$tree/tests/codec"
    cp tests/codec/test_digests.py "$tree/tests/codec"
    find "$tree" -name '*.so' -delete
    .venv/bin/python -c 'import sys; sys.path.insert(0, "tools"); import emm_build; emm_build.emit_glue()' >/dev/null
    cp emm/kernel/_native.c "$tree/emm/kernel"
    cp emm/codec/_blocks.c "$tree/emm/codec"
}

build() { # $1 the compiler, $2 where Python.h is, then more flags
    compiler=$1
    include=$2
    shift 2
    "$compiler" $flags "$@" -I"$include" -I"$tree/emm/kernel/c" "$tree"/emm/kernel/_native.c "$tree"/emm/kernel/c/*.c \
        -lm -o "$tree/emm/kernel/_native.abi3.so"
    "$compiler" $flags "$@" -I"$include" -I"$tree/emm/codec/c" "$tree"/emm/codec/_blocks.c "$tree"/emm/codec/c/*.c \
        -o "$tree/emm/codec/_blocks.abi3.so"
}

library() { # the file of a sanitizer's runtime
    gcc -print-file-name="$1"
}

include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
quick="not within_a_millisecond"
case $variant in
sanitize)
    fresh_tree
    build gcc "$include" -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
    cd "$tree"
    # Python allocates through malloc, so that every array has its own fence; its own leaks at exit are not ours.
    LD_PRELOAD="$(library libasan.so) $(library libubsan.so)" PYTHONMALLOC=malloc \
        ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        "$top/.venv/bin/python" -m pytest -q -p no:cacheprovider -k "$quick" tests/kernel tests/codec "$@"
    ;;
threads)
    fresh_tree
    build gcc "$include" -O1 -fno-omit-frame-pointer -fsanitize=thread
    cd "$tree"
    # A forked child of several threads is outside what this sanitizer follows.
    LD_PRELOAD="$(library libtsan.so)" TSAN_OPTIONS=halt_on_error=1:exitcode=66 OPENBLAS_NUM_THREADS=1 \
        "$top/.venv/bin/python" -m pytest -q -p no:cacheprovider -k "not forked" tests/kernel/test_threads.py "$@"
    ;;
neon)
    for tool in qemu-aarch64 aarch64-linux-gnu-gcc apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: apt install qemu-user gcc-aarch64-linux-gnu" >&2; exit 1; }
    done
    root=$home/root
    site=$home/site
    if ! [ -f "$home/.complete" ]; then
        rm -rf "$home"
        mkdir -p "$home/apt/lists/partial" "$home/apt/archives/partial" "$home/debs" "$root" "$site"
        : >"$home/apt/status"
        cat >"$home/apt.conf" <<END
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "root";
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt";
END
        export APT_CONFIG="$home/apt.conf"
        apt-get -qq update
        python=$(apt-cache depends python3-minimal:arm64 | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal.*/\1/p' | head -n 1)
        (cd "$home/debs" && apt-get -qq download "$python-minimal:arm64" "lib$python-minimal:arm64" \
            "lib$python-stdlib:arm64" libc6:arm64 zlib1g:arm64 libexpat1:arm64 libffi8:arm64 libssl3:arm64 \
            libbz2-1.0:arm64 liblzma5:arm64 libuuid1:arm64 libsqlite3-0:arm64 libgcc-s1:arm64 libstdc++6:arm64)
        unset APT_CONFIG
        for package in "$home"/debs/*.deb; do dpkg-deb -x "$package" "$root"; done
        # What the tests start as sys.executable: the same interpreter through the emulator.
        printf '#!/bin/sh\nexec qemu-aarch64 -L "%s" -0 "%s/usr/bin/python3" "%s/usr/bin/%s" "$@"\n' \
            "$root" "$root" "$root" "$python" >"$root/usr/bin/python3"
        chmod +x "$root/usr/bin/python3"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$site" --only-binary=:all: \
            --python-version "${python#python}" --implementation cp --platform manylinux_2_28_aarch64 \
            --platform manylinux2014_aarch64 numpy cffi pytest hypothesis fsspec click
        touch "$home/.complete"
    fi
    fresh_tree
    build aarch64-linux-gnu-gcc "$include" -O3 -Wall
    cd "$tree"
    # Left out: counting threads, of which the emulator has its own, and a library that only a native compiler makes.
    # OpenBLAS multiplies wrongly with the vector extension that the emulator offers it, so it is told to do without.
    PYTHONPATH="$site" OPENBLAS_CORETYPE=ARMV8 "$root/usr/bin/python3" -m pytest -q -p no:cacheprovider \
        -k "$quick and not forked and not inherit" tests/kernel/test_backends.py \
        tests/kernel/test_spec_twin.py tests/kernel/test_projection.py tests/kernel/test_self_test.py tests/kernel/test_threads.py "$@"
    ;;
*)
    echo "usage: tools/kernel_variant.sh sanitize | threads | neon [pytest arguments]" >&2
    exit 2
    ;;
esac
