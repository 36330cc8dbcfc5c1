"""Expand the conformance vectors, or bring the committed manifest up to date.

    python spec/vectors/generate.py --out DIR     # every case into DIR/<name>/
    python spec/vectors/generate.py --check       # exit 1 when recipes and manifest differ
    python spec/vectors/generate.py --write       # write manifest.json, arithmetic.json and v3.json

Purpose: commit recipes instead of megabytes. Invariants: the same bytes on every machine (the manifest states the
SHA-256 of each file); needs the library, whose codec and arithmetic the recipes use.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, whose modules are no top-level ones

from spec.vectors.catalog import (  # noqa: E402
    ARITHMETIC,
    MANIFEST,
    V3_MANIFEST,
    all_cases,
    arithmetic_text,
    differences,
    expand,
    manifest_text,
    v3_manifest_text,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Expand the conformance vectors of EMM v4.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write every case into DIR/<name>/")
    parser.add_argument("--check", action="store_true", help="compare the recipes with the committed manifest")
    parser.add_argument("--write", action="store_true", help="write manifest.json, arithmetic.json and v3.json")
    options = parser.parse_args()
    if not (options.out or options.check or options.write):
        parser.error("choose --out, --check or --write")
    cases = all_cases()
    if options.write:
        MANIFEST.write_text(manifest_text(cases), encoding="utf-8")
        ARITHMETIC.write_text(arithmetic_text(), encoding="utf-8")
        V3_MANIFEST.write_text(v3_manifest_text(), encoding="utf-8")
    if options.out:
        expand(cases, options.out)
    found = differences(cases) if options.check else []
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
