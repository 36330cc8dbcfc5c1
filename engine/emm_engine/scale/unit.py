"""What a work unit is: a value, and a pure function of it.

Purpose: the contract between what is cut up and what runs it. Invariants: a unit's result is a function of the unit
alone, the same wherever and however often it runs, so a unit whose worker died is run again and one that ran twice is
counted once; a unit writes nothing that outlives it; its identity is a hash of its input; a worker that runs other
releases of what computes refuses it, for its bits might differ.
"""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar

from emm import EmmError
from emm_engine.errors import WorkError

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

COMPUTING = ("emm-format", "numpy", "scipy", "scikit-learn")  # what a result's bits come from
Releases = tuple[tuple[str, str], ...]


class Unit(Protocol[Result_co]):
    """A frozen dataclass; it and its result are pickled."""

    @property
    def identity(self) -> str:
        """`kind-` and 64 hex digits: SHA-256 of its input."""
        ...

    def run(self) -> Result_co:
        """The result. Raises `EmmError` where the input is at fault."""
        ...


def identity_of(kind: str, *parts: str | bytes) -> str:
    """The identity of a unit with this input: each part counts with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return f"{kind}-{digest.hexdigest()}"


def releases() -> Releases:
    """(package, release) of what computes here."""
    return tuple(_releases())


def _releases() -> Iterator[tuple[str, str]]:
    for package in COMPUTING:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "none"


def perform(unit: Unit[Result], expected: Releases) -> Result:
    """Run a unit here; whatever it raises is an `EmmError`, which survives the way back.

    `WorkError` where this worker computes with other releases than its client, and for a fault of ours.
    """
    found = releases()
    if found != expected:
        differing = [(ours, theirs) for ours, theirs in zip(expected, found, strict=True) if ours != theirs]
        raise WorkError(
            "a worker computes with other releases",
            expected=", ".join(" ".join(ours) for ours, _ in differing),
            found=", ".join(" ".join(theirs) for _, theirs in differing),
        )
    try:
        return unit.run()
    except EmmError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}, {last.name})"
        raise WorkError(f"{unit.identity} failed", found=where) from None
