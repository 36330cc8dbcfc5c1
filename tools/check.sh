#!/bin/sh
# Everything that must hold before a commit lands: ruff, mypy --strict, import contracts, pytest (last, so that its
# closing line ends the output). Runs all of them even when an early one fails; arguments go to pytest.
set -u
cd "$(dirname "$0")/.."
PATH=$(pwd)/.venv/bin:$PATH
export PATH
failed=

step() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        printf '%-16s ok\n' "$name"
    else
        printf '%-16s FAILED: %s\n%s\n' "$name" "$*" "$output"
        failed="$failed $name"
    fi
}

step "ruff" ruff check --quiet .
step "ruff format" ruff format --check --quiet .
step "mypy --strict" mypy
step "import contracts" lint-imports

[ -z "$failed" ] || printf 'Failed before the tests:%s\n' "$failed"
# Two workers halve the time on two cores; a module stays on one, because its fixtures are made once for each worker.
python -m pytest -q -n "${PYTEST_WORKERS:-2}" --dist loadscope "$@" || exit 1
[ -z "$failed" ]
