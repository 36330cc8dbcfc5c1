"""From the name of an embedder to the provider behind it.

Purpose: the one place that knows all kinds. Invariants: a kind's library is imported when that kind is used, so
`emm --help` does not wait for scikit-learn and nobody needs the wheel of another kind.
"""

from __future__ import annotations

import os
import random

from emm_engine.embeddings.backoff import Clock, Patience, SystemClock
from emm_engine.embeddings.choice import LSA, MINILM, EmbedderChoice
from emm_engine.embeddings.provider import Provider


def provider_of(choice: EmbedderChoice, patience: Patience, clock: Clock | None = None) -> Provider:
    """The provider of a choice, for a caller of that patience."""
    if choice.kind == LSA:
        from emm_engine.embeddings.lsa import LsaProvider

        return LsaProvider()
    from emm_engine.embeddings.pretrained import PretrainedProvider

    if choice.kind == MINILM:
        from emm_engine.embeddings.minilm import MiniLmEncoder

        return PretrainedProvider(MiniLmEncoder())
    from emm_engine.embeddings.http_service import HttpEncoder

    chance = random.Random()
    return PretrainedProvider(HttpEncoder(choice, patience, clock or SystemClock(), chance, os.environ))
