"""The payload: arithmetic state ↔ bytes, region by region; and the digest of a state.

Purpose: lay M, P̄, U, the scalars and the normaliser out in 64 KiB blocks (P-1) and read them back, checked.
Invariants: decoding copies nothing (arrays are views of the buffer given) and refuses every state
that the arithmetic could not have produced (P-4 to P-7).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator

import numpy as np

from emm.codec.header import payload_regions
from emm.errors import FormatError
from emm.layout import BLOCK_BYTES, DEFERRED_MAX, GAIN_SCALARS, READ_SCALARS, Flag, Rule
from emm.state import Float32Array, GainState, MatrixState, Normaliser, Parameters

DIGEST_PREFIX = b"EMMDIGEST4\0"
_DIGEST_FIELDS = struct.Struct("<QIIIBB2xQf")
_FLOAT = np.dtype("<f4")
FLOOR_MIN, FLOOR_MAX = 2.0**-1022, 2.0**980  # times the length of a query still finite
LEAK_SLACK = 1 + 2.0**-20  # b tends to P₀ from either side, by rounding


def encode_scalars(gain: GainState) -> bytes:
    return GAIN_SCALARS.pack(
        {
            "scale": gain.scale,
            "leak": gain.leak,
            "count": gain.count,
            "signs": gain.signs,
            "gram_trace": gain.gram_trace,
        }
    )


def encode_read_scalars(normaliser: Normaliser) -> bytes:
    return READ_SCALARS.pack({"floor": normaliser.floor, "query_length": int(normaliser.query_length)})


def payload_parts(state: MatrixState) -> Iterator[bytes | memoryview]:
    """The unpadded payload, in order, without copying the arrays."""
    arrays = [state.matrix] if state.gain is None else [state.matrix, state.gain.pbar, state.gain.u]
    for array in arrays:
        yield np.ascontiguousarray(array, _FLOAT).reshape(-1).view(np.uint8).data
    if state.gain is not None:
        yield encode_scalars(state.gain)
    if state.normaliser is not None:
        yield np.ascontiguousarray(state.normaliser.vector, _FLOAT).view(np.uint8).data
        yield encode_read_scalars(state.normaliser)


def encode_payload(state: MatrixState) -> bytearray:
    """The payload, zero-padded to whole blocks."""
    parts = list(payload_parts(state))
    size = sum(len(part) for part in parts)
    payload = bytearray(-(-size // BLOCK_BYTES) * BLOCK_BYTES)
    position = 0
    for part in parts:
        payload[position : position + len(part)] = part
        position += len(part)
    return payload


def decode_payload(payload: bytes | bytearray | memoryview, parameters: Parameters, flags: Flag) -> MatrixState:
    """The state in an unpadded or padded payload; arrays are read-only views of it."""
    view = memoryview(payload).toreadonly()
    arrays: dict[str, Float32Array] = {}
    regions = payload_regions(parameters, flags)
    places = {region.name: region.offset for region in regions}
    for region in regions:
        if region.name not in ("scalars", "reading"):
            flat = np.frombuffer(view, _FLOAT, region.size // 4, region.offset)
            arrays[region.name] = flat.reshape(region.n_rows, parameters.rank)
    end = regions[-1].offset + regions[-1].size
    if np.asarray(view[end:]).any():
        raise FormatError("the payload's padding is not zero", rule="P-2", offset=end)
    gain = None
    if parameters.rule is Rule.PRECONDITIONED:
        gain = decode_scalars(view[places["scalars"] :], parameters)
        gain.pbar, gain.u = arrays["P"], arrays["U"]
        if np.any(gain.u[gain.count :].view(np.uint32)):
            raise FormatError("an unused row of U is not zero", rule="P-6", offset=places["U"])
    normaliser = None
    if "normaliser" in places:
        normaliser = decode_normaliser(view[places["normaliser"] :], parameters)
    return MatrixState(parameters, arrays["M"], gain, flags, normaliser)


def decode_normaliser(data: bytes | memoryview, parameters: Parameters) -> Normaliser:
    """The normaliser and what follows it, checked against P-7; the array is a view of `data`."""
    vector = np.frombuffer(data, _FLOAT, parameters.rank)
    values = READ_SCALARS.unpack(data, 4 * parameters.rank)
    normaliser = Normaliser(vector, values["floor"], bool(values["query_length"]))
    fault = normaliser_fault(normaliser, parameters)
    if fault is None and (values["query_length"] > 1 or READ_SCALARS.reserved_violation(values) is not None):
        fault = "query_length is 0 or 1, and the reserved bytes are zero"
    if fault is not None:
        raise FormatError(f"the normaliser is out of range: {fault}", rule="P-7")
    return normaliser


def normaliser_fault(normaliser: Normaliser, parameters: Parameters) -> str | None:
    """Why P-7 does not allow this normaliser, or None."""
    vector = normaliser.vector
    if vector.shape != (parameters.rank,) or vector.dtype != np.float32:
        return f"it must be ({parameters.rank},) float32, not {vector.shape} {vector.dtype}"
    if not np.isfinite(vector).all() or np.any(vector[parameters.key_dim :].view(np.uint32)):
        return "its numbers are finite, and +0 from key_dim on"
    if not FLOOR_MIN <= normaliser.floor <= FLOOR_MAX:
        return f"floor must be 2^-1022 to 2^980, not {normaliser.floor}"
    return None


def decode_scalars(data: bytes | memoryview, parameters: Parameters) -> GainState:
    """The gain state without its arrays, checked against P-4."""
    values = GAIN_SCALARS.unpack(data)
    prior = float(np.float32(1.0) / np.float32(parameters.ridge))
    count, signs = values["count"], values["signs"]
    scale, leak, trace = values["scale"], values["leak"], values["gram_trace"]
    if GAIN_SCALARS.reserved_violation(values) is not None:
        raise FormatError("a reserved byte of the scalars is not zero", rule="P-4", expected=0)
    if count >= DEFERRED_MAX or signs >> count:
        raise FormatError(
            "the deferred rows are out of range",
            rule="P-4",
            expected="count 0 to 15, signs below bit count",
            found=f"count {count}, signs {signs:#x}",
        )
    if not (0.0 <= scale <= 1.0 and 0.0 <= leak <= prior * LEAK_SLACK and math.isfinite(trace) and trace >= 0.0):
        raise FormatError(
            "a scalar of P is out of range",
            rule="P-4",
            expected=f"a in [0, 1], b in [0, {prior}], trace ≥ 0",
            found=f"a {scale}, b {leak}, trace {trace}",
        )
    empty = np.empty((0, 0), np.float32)
    return GainState(empty, empty, signs, count, scale, leak, trace)


def state_digest(state: MatrixState, lsn: int) -> bytes:
    """SHA-256 of a state in canonical form: equal states, equal digests, whatever the file (spec A-rules)."""
    parameters = state.parameters
    digest = hashlib.sha256(DIGEST_PREFIX)
    digest.update(
        _DIGEST_FIELDS.pack(
            lsn,
            parameters.dim,
            parameters.key_dim,
            parameters.rank,
            int(parameters.rule),
            int(parameters.projection),
            parameters.seed,
            parameters.ridge,
        )
    )
    for part in payload_parts(state):
        digest.update(part)
    return digest.digest()
