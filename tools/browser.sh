#!/bin/sh
# Print the path of a Chromium for the browser tests, after installing one where there is none.
#
# Taken in this order: $EMM_CHROMIUM, a chromium or Chrome on the PATH, Debian's package (as root, or with sudo where that
# asks no password), a build that playwright downloads. Says what is missing and fails when none can be had.
set -eu
cd "$(dirname "$0")/.."

works() { [ -n "$1" ] && "$1" --version >/dev/null 2>&1; }

found() {
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        candidate=$(command -v "$name" || true)
        if works "$candidate"; then echo "$candidate"; return 0; fi
    done
    return 1
}

if [ -n "${EMM_CHROMIUM:-}" ]; then
    works "$EMM_CHROMIUM" || { echo "EMM_CHROMIUM=$EMM_CHROMIUM does not start." >&2; exit 1; }
    echo "$EMM_CHROMIUM"
    exit 0
fi
found && exit 0

if command -v apt-get >/dev/null 2>&1; then
    run=
    [ "$(id -u)" = 0 ] || run="sudo -n"
    echo "Installing Debian's chromium (a minute or two, once)." >&2
    { $run apt-get update -q && $run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; } >.venv/browser.log 2>&1 || true
    found && exit 0
fi

echo "Trying playwright's own Chromium." >&2
if .venv/bin/python -m playwright install chromium >>.venv/browser.log 2>&1; then
    .venv/bin/python -c '
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)'
    exit 0
fi
echo "No Chromium could be had: install one and name it in EMM_CHROMIUM (what was tried is in .venv/browser.log)." >&2
exit 1
