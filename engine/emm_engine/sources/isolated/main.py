"""The loop of the process that reads hostile documents.

Purpose: one request after the other on stdin (a line of JSON `{"format", "bytes", "cpu_seconds"}` and the bytes), for
each any number of lines of JSON on stdout and a last one `{"end": …}`. Invariants: memory and processor time are
limited by the system, so whatever the bytes are, this process fails and no other; nothing is written but answers.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Iterator

from .html_text import html_text
from .pdf_pages import pdf_pages

MEMORY_BYTES_MAX = 2 << 30
PROBLEM_CHARS_MAX = 500


def answers(kind: str, data: bytes) -> Iterator[dict[str, object]]:
    if kind == "html":
        yield html_text(data.decode("utf-8", "replace"))
    else:
        yield from pdf_pages(data)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        data = sys.stdin.buffer.read(request["bytes"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(used.ru_utime + used.ru_stime + request["cpu_seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        end: dict[str, object] = {"end": ""}
        try:
            for answer in answers(request["format"], data):
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()  # what was read before the limit counts
        except ImportError as error:
            end = {"end": f"needs `pip install emm-format[documents]` ({error})"}
        except Exception as error:  # whatever a parser of foreign bytes may raise
            why = str(error)
            if type(error) is not ValueError:
                why = f"not readable as {request['format'].upper()} ({type(error).__name__}: {error})"
            end = {"end": why[:PROBLEM_CHARS_MAX]}
        sys.stdout.write(json.dumps(end) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
