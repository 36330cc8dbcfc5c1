"""The key for a service, from the environment and from nowhere else.

Purpose: find the key that a person meant for this very host. Invariants: a variable's name holds the host, so an
archive that came from elsewhere cannot name an address and be sent the key of another; a key never leaves over plain
http for another machine; a key is never part of a message, a stored model or the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from emm_engine.embeddings.choice import Endpoint
from emm_engine.errors import EmbedderUnavailable

PREFIX = "EMM_EMBEDDER_KEY_"
OPENAI_HOST, OPENAI_VARIABLE = "api.openai.com", "OPENAI_API_KEY"

_KEY = re.compile(r"[!-~]{1,4096}")


def variable_of(endpoint: Endpoint) -> str:
    """`EMM_EMBEDDER_KEY_` and the host in capitals, with `_` for what a name cannot hold."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", endpoint.host.upper())


def key_for(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    """The host's key, or None; `EmbedderUnavailable` for one that may not be sent."""
    names = [variable_of(endpoint), *([OPENAI_VARIABLE] if endpoint.host == OPENAI_HOST else [])]
    name = next((name for name in names if environment.get(name)), None)
    if name is None:
        return None
    key = environment[name].strip()
    if not _KEY.fullmatch(key):
        raise EmbedderUnavailable(f"{name} holds something else than a key").permanent()
    if not endpoint.is_private:
        raise EmbedderUnavailable(f"{name} is set, but a key goes over https or to this machine only").permanent()
    return key
