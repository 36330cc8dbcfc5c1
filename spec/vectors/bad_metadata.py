"""Metadata that is not the one canonical spelling of a harmless object (M-1 to M-5), under a valid SHA-256."""

from __future__ import annotations

from collections.abc import Iterator

from . import forge
from .bad_snapshot import BOTH, NAME
from .case import LOSS, Case, Expected, Recipes
from .life import Life


def cases() -> list[Case]:
    made = Recipes()
    data = bytes(Life(metadata={"name": "x"}).files[NAME])
    for name, shows, text, rule in _texts():
        edited = forge.metadata(data, text)
        also = ("M-1", "M-3", "M-4", "M-5")
        expected = Expected(LOSS, BOTH, rule, NAME, also=tuple(each for each in also if each != rule))
        made.file(name, f"metadata: {shows}", edited, expected, NAME)
    return made.cases


def _texts() -> Iterator[tuple[str, str, bytes, str]]:
    yield "m1-order", "keys out of order", b'{"b":1,"a":2}', "M-1"
    yield "m1-space", "a space", b'{"a": 1}', "M-1"
    yield "m1-escape", "a letter escaped that needs none", b'{"a":"\\u0041"}', "M-1"
    yield "m1-slash", "an escaped slash", b'{"a":"b\\/c"}', "M-1"
    yield "m1-upper-hex", "an escape in upper case", b'{"a":"\\u001F"}', "M-1"
    yield "m1-duplicate", "a key twice", b'{"a":1,"a":1}', "M-1"
    yield "m1-duplicate-deep", "a key twice, two levels down", b'{"a":[{"b":1,"b":2}]}', "M-1"
    yield "m1-array", "not an object", b"[1]", "M-1"
    yield "m1-surrogate", "a lone surrogate, escaped", b'{"a":"\\ud800"}', "M-1"
    yield "m1-surrogate-raw", "a lone surrogate as three bytes", b'{"a":"\xed\xa0\x80"}', "M-1"
    yield "m1-utf8", "bytes that are not UTF-8", b'{"a":"\xff"}', "M-1"
    yield "m1-bom", "a byte order mark", b'\xef\xbb\xbf{"a":1}', "M-1"
    yield "m1-trailing", "something behind the object", b'{"a":1}{}', "M-1"
    yield "m1-control", "a control character that is not escaped", b'{"a":"\x01"}', "M-1"
    yield "m1-minus-zero", "minus zero", b'{"a":-0}', "M-1"
    yield "m1-leading-zero", "a leading zero", b'{"a":01}', "M-1"
    yield "m1-nan", "NaN", b'{"a":NaN}', "M-1"
    yield "m3-seventeen", "seventeen levels", b'{"a":' * 17 + b"1" + b"}" * 17, "M-3"
    yield "m3-brackets", "eight thousand brackets", b'{"a":' + b"[" * 8000, "M-3"
    yield "m4-beyond", "2⁵³ + 1", b'{"a":9007199254740993}', "M-4"
    yield "m4-digits", "an integer of sixteen thousand digits", b'{"a":' + b"9" * 16000 + b"}", "M-4"
    yield "m4-float", "a float", b'{"a":1.5}', "M-4"
    yield "m4-exponent", "an exponent", b'{"a":1e2}', "M-4"
    for name, text in (
        ("root", "/etc/passwd"),
        ("url", "see https://x.example"),
        ("home", "~/x"),
        ("up", "../x"),
        ("share", "\\\\\\\\x\\\\y"),
    ):
        yield f"m5-{name}", f"a string like a path or URL ({name})", b'{"a":"' + text.encode() + b'"}', "M-5"
    yield "m5-key", "a key like a path", b'{"/dev/zero":1}', "M-5"
