"""What an open memory says about itself, and the door through which every call reaches its session.

Purpose: the read-only half of `Memory`. Invariants: nothing here changes a memory; arrays given out cannot be written;
a closed memory still says what it was, but gives out no state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from emm import kernel
from emm.codec.metadata import Metadata
from emm.codec.payload import state_digest
from emm.layout import Flag, Rule
from emm.state import Float32Array, MatrixState
from emm.storage.session import Session

RULE_NAMES = {
    "outer-product": Rule.OUTER_PRODUCT,
    "gated-delta": Rule.GATED_DELTA,
    "preconditioned": Rule.PRECONDITIONED,
}


class Facts:
    """The properties of an open memory."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mutex = threading.RLock()

    @property
    def url(self) -> str:
        """Where the memory lies."""
        return self._session.directory.url

    @property
    def dim(self) -> int:
        """Numbers in a value; rows of M."""
        return self._session.parameters.dim

    @property
    def key_dim(self) -> int:
        """Numbers in a key."""
        return self._session.parameters.key_dim

    @property
    def rank(self) -> int:
        """Columns of M."""
        return self._session.parameters.rank

    @property
    def rule(self) -> str:
        """ "outer-product", "gated-delta" or "preconditioned"."""
        return next(name for name, rule in RULE_NAMES.items() if rule is self._session.parameters.rule)

    @property
    def ridge(self) -> float:
        """λ of rule 2."""
        return self._session.parameters.ridge

    @property
    def generation(self) -> int:
        """The newest snapshot this handle has read or published."""
        return self._session.snapshot.generation

    @property
    def lsn(self) -> int:
        """Number of the last commit contained; 0 = none."""
        return self._session.lsn

    @property
    def uuid(self) -> str:
        """The memory's identity, 32 hexadecimal digits."""
        return self._session.snapshot.uuid.hex()

    @property
    def digest(self) -> str:
        """SHA-256 of the state in canonical form: equal states have equal digests (spec A-rules)."""
        with self._open_session() as session:
            return state_digest(session.state, session.lsn).hex()

    @property
    def flags(self) -> Flag:
        """What the memory's past rules out (decay, bare expansion, forgetting, foreign pairs)."""
        return self._session.state.flags

    @property
    def write_count(self) -> int:
        """Pairs written minus pairs unlearned."""
        return self._session.replayer.write_count

    @property
    def expand_at(self) -> float:
        """Saturation above which the rank doubles by re-solving; 0 = never."""
        return self._session.replayer.expand_at

    @property
    def replayed(self) -> int:
        """Commits replayed from the journal when this handle was opened."""
        return self._session.replayed

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know: a torn tail, a snapshot passed over, an expansion that did not happen."""
        return tuple(self._session.notices)

    @property
    def metadata(self) -> Metadata:
        """The JSON object given at creation (a copy)."""
        return deepcopy(self._session.snapshot.metadata)

    @property
    def matrix(self) -> Float32Array:
        """M, (dim, rank) float32: a read-only view that the next write may change."""
        with self._open_session() as session:
            return _read_only(session.state.matrix)

    @property
    def inverse_gram(self) -> Float32Array | None:
        """P, (rank, rank) float32, read-only, with the deferred part applied; None for rules without it."""
        with self._open_session() as session:
            return None if session.state.gain is None else _read_only(kernel.inverse_gram(session.state))

    @property
    def saturation(self) -> float:
        """Effective degrees of freedom in use, 0 to 1 (spec A-rules)."""
        with self._open_session() as session:
            return kernel.saturation(session.state)

    def state(self) -> MatrixState:
        """A copy of the arithmetic state, for other stores.

        As bytes: `emm.encode_snapshot(emm.Snapshot(memory.state(), 1, memory.lsn, bytes.fromhex(memory.uuid)))`;
        `emm.decode_snapshot` gives it back, and the `digest` (bytes) of both is `memory.digest` (hexadecimal).
        """
        with self._open_session() as session:
            return session.state.copy()

    def __repr__(self) -> str:
        mode = self._session.mode
        return f"<emm.Memory {self.url!r} {self.dim}×{self.rank} {self.rule} lsn {self.lsn} mode {mode}>"

    @contextmanager
    def _open_session(self) -> Iterator[Session]:
        self._session.require_open()  # in a forked child the mutex may be held by a thread that is not there
        with self._mutex:
            self._session.require_open()
            yield self._session


def _read_only(array: Float32Array) -> Float32Array:
    view = array.view()
    view.flags.writeable = False
    return view
