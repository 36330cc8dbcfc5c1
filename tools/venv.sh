#!/bin/sh
# Make .venv and install this checkout into it, editable, with the given extras: tools/venv.sh demo | test | demo,test
#
# Does nothing when .venv already holds them for the same sources: the stamp names the interpreter, pyproject.toml and
# everything that takes part in the build. PYTHON chooses the interpreter; without it an existing .venv keeps its own.
# Quiet unless something fails.
set -eu
cd "$(dirname "$0")/.."
extras=${1:-demo}
venv=.venv

usable() { # is $1 a Python 3.11 or newer that can make virtual environments?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || { echo "PYTHON=$PYTHON is not a Python 3.11 or newer with the venv module." >&2; exit 1; }
elif [ -f "$venv/.interpreter" ] && usable "$(cat "$venv/.interpreter")"; then
    PYTHON=$(cat "$venv/.interpreter")
else
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if usable "$candidate"; then PYTHON=$candidate; break; fi
    done
    if [ -z "${PYTHON:-}" ]; then
        echo "No Python 3.11 or newer with the venv module was found (Debian: apt install python3-venv), or set PYTHON." >&2
        exit 1
    fi
fi

identity() { # of the interpreter and of this folder: .venv works for no other
    "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'
    pwd
}
wanted=$(
    {
        identity
        cat pyproject.toml
        # What the C extensions are built from: sources, headers and the in-tree build backend.
        find emm/kernel/c emm/codec/c engine/emm_engine/c tools -maxdepth 1 \
            \( -name '*.c' -o -name '*.h' -o -name '*build*.py' \) \
            -exec cksum {} + | sort
    } | cksum
)

fresh() { # does .venv work and hold extra $1 for these sources?
    [ -f "$venv/.stamp-$1" ] && [ "$(cat "$venv/.stamp-$1")" = "$wanted" ] || return 1
    "$venv/bin/python" -c '' 2>/dev/null || return 1
    while read -r built; do [ -f "$built" ] || return 1; done <"$venv/.built" # the compiled kernel may have been removed
}

missing=
for extra in $(echo "$extras" | tr ',' ' '); do
    fresh "$extra" || missing="$missing $extra"
done
[ -n "$missing" ] || exit 0

if ! [ -f "$venv/.identity" ] || [ "$(cat "$venv/.identity")" != "$(identity)" ] ||
    ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Making $venv with $("$PYTHON" -c 'import sys; print("Python", sys.version.split()[0])')." >&2
    rm -rf "$venv"
    "$PYTHON" -m venv "$venv"
    identity >"$venv/.identity"
    "$PYTHON" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' >"$venv/.interpreter"
fi

echo "Installing emm-format[$extras] into $venv (a minute or two the first time)." >&2
log=$venv/install.log
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -e ".[$extras]" >"$log" 2>&1; then
    cat "$log" >&2
    echo "pip could not install emm-format[$extras]; its output is above and in $log." >&2
    exit 1
fi
find emm -name '*.so' >"$venv/.built"
for extra in $(echo "$extras" | tr ',' ' '); do
    echo "$wanted" >"$venv/.stamp-$extra"
done
