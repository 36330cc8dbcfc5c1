"""Arithmetic of matrix memory on `emm.state` values: φ, write, unlearn, forget, expand, recall, merge.

Purpose: the one door to the kernel. Invariants: arithmetic is part of the format (spec, A-rules), so
every backend gives the same bits for any split of a batch; only `merge` and the measures are not
defined to the bit. See `dispatch` for the operations and the choice of backend.
"""

from __future__ import annotations

from emm.kernel.dispatch import backend, forget, inverse_gram, level, project, recall, unlearn, write
from emm.kernel.expand import expand
from emm.kernel.measures import (
    effective_rank,
    functional_utilisation,
    ridge_solution,
    saturation,
    spectrum,
    structural_utilisation,
)
from emm.kernel.merge import check_mergeable, merge
from emm.kernel.projection import check_parameters
from emm.kernel.thread_count import threads, use_threads

__all__ = [
    "backend",
    "check_mergeable",
    "check_parameters",
    "effective_rank",
    "expand",
    "forget",
    "functional_utilisation",
    "inverse_gram",
    "level",
    "merge",
    "project",
    "recall",
    "ridge_solution",
    "saturation",
    "spectrum",
    "structural_utilisation",
    "threads",
    "unlearn",
    "use_threads",
    "write",
]
