"""`python -m emm_tools emm-verify PATH`: the three commands where the console scripts are not installed."""

from __future__ import annotations

import sys

from emm_tools import entry

PROGRAMS = {"emm": entry.emm, "emm-verify": entry.emm_verify, "emm-inspect": entry.emm_inspect}

if __name__ == "__main__":
    program = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if program not in PROGRAMS:
        print(f"usage: python -m emm_tools {{{' | '.join(PROGRAMS)}}} …", file=sys.stderr)
        sys.exit(2)
    PROGRAMS[program]()
