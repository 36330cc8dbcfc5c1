"""EMM: matrix memory as a durable object.

    import emm

    with emm.create("labs/chemistry", dim=768, rank=64, key_dim=384) as memory:
        memory.write(keys, values)          # (n, 384), (n, 768) float32: atomic, durable when it returns
        answers = memory.recall(queries)    # (n, 384) → (n, 768)

The names below are the whole public face. The format is specified in `spec/emm-v4.md`.
"""

from emm._distribution import refuse_unrelated_distribution

refuse_unrelated_distribution()

from emm.codec.snapshot import Snapshot, decode_snapshot, encode_snapshot  # noqa: E402
from emm.errors import (  # noqa: E402
    ChecksumError,
    ClosedError,
    CorruptionError,
    EmmError,
    ExistsError,
    FencedError,
    FormatError,
    GateError,
    HistoryError,
    InputError,
    LimitError,
    MissingError,
    StorageError,
    UnsupportedError,
)
from emm.inspection.overview import inspect  # noqa: E402
from emm.inspection.values import Inspection  # noqa: E402
from emm.memory.memory import Memory  # noqa: E402
from emm.memory.opening import create, merge, open  # noqa: E402
from emm.verify.report import Report, verify  # noqa: E402

__all__ = [
    "ChecksumError",
    "ClosedError",
    "CorruptionError",
    "EmmError",
    "ExistsError",
    "FencedError",
    "FormatError",
    "GateError",
    "HistoryError",
    "InputError",
    "Inspection",
    "LimitError",
    "Memory",
    "MissingError",
    "Report",
    "Snapshot",
    "StorageError",
    "UnsupportedError",
    "create",
    "decode_snapshot",
    "encode_snapshot",
    "inspect",
    "merge",
    "open",
    "verify",
]
