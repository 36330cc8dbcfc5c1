"""Which embedder a person names: `lsa`, `minilm`, `ollama:MODEL[@URL]`, `openai:MODEL[@URL]`.

Purpose: parse the name, and split it into what decides the vectors (kind and model: `identity`) and where they are
made (the URL, which may move). Invariants: a URL is http or https, with a host, without a user, a password, a query
or a fragment, so nothing secret can be stored with it; no part holds white space or control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from emm import InputError

LSA, MINILM, OLLAMA, OPENAI = "lsa", "minilm", "ollama", "openai"
URL_DEFAULTS = MappingProxyType({OLLAMA: "http://127.0.0.1:11434", OPENAI: "https://api.openai.com"})
FORM = "lsa, minilm, ollama:MODEL[@URL] or openai:MODEL[@URL]"
NAME_CHARS_MAX = 500
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_MODEL = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is: `scheme://host:port`, and the path before its own paths."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """`InputError` for anything that is not a plain http(s) URL."""
        if not _MODEL.fullmatch(url):
            raise _bad_url(url, "not an address")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _bad_url(url, "not an address") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _bad_url(url, "not an address")
        if _holds_more(parts, url):
            raise InputError("an address may hold no user, password, query or fragment: keys come from the environment")
        return cls(
            parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme] == self.port
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}{self.path}"

    @property
    def is_private(self) -> bool:
        """Whether what is sent there can be read by nobody on the way."""
        return self.scheme == "https" or self.host in LOOPBACK


@dataclass(frozen=True, slots=True)
class EmbedderChoice:
    """A kind, and for a service its model and address."""

    kind: str
    model: str = ""
    url: str = ""

    @classmethod
    def parse(cls, text: str) -> EmbedderChoice:
        """The embedder that a person named; `InputError` when it is not of a known form."""
        kind, colon, rest = text.partition(":")
        if len(text) <= NAME_CHARS_MAX:
            if kind in (LSA, MINILM) and not colon:
                return cls(kind)
            if kind in URL_DEFAULTS:
                model, url = _split(rest)
                if _MODEL.fullmatch(model):
                    return cls(kind, model, str(Endpoint.parse(url or URL_DEFAULTS[kind])))
        raise InputError("not an embedder", expected=FORM, found=repr(text[:80]))

    def __str__(self) -> str:
        return f"{self.identity}@{self.url}" if self.url else self.identity

    @property
    def identity(self) -> str:
        """What decides the vectors; the address does not."""
        return f"{self.kind}:{self.model}" if self.model else self.kind

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.url)


def _split(rest: str) -> tuple[str, str]:
    """(model, URL or empty): the last `@` before a scheme parts them, for a model's name may hold one."""
    for scheme in ("@http://", "@https://"):
        model, found, address = rest.rpartition(scheme)
        if found:
            return model, scheme[1:] + address
    return rest, ""


def _holds_more(parts: SplitResult, url: str) -> bool:
    return "@" in parts.netloc or "?" in url or "#" in url


def _bad_url(url: str, what: str) -> InputError:
    shown = "an address with a password" if "@" in url else repr(url[:80])
    return InputError(what, expected="http[s]://HOST[:PORT][/PATH]", found=shown)
