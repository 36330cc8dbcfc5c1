"""Slack-style chat exports as documents: a folder with `channels.json`, `users.json` and a folder for each channel.

Purpose: the decisions that were only ever typed into a channel. A thread is a document; what nobody answered is one
document for each channel and day. Invariants: of a channel at most `BLOCK_BYTES` of day files are held at once, and
threads are cut between such blocks; a file that does not parse is reported and the others are read; names come from
`users.json`; nothing is followed out of the folder.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emm_engine.documents import Document, Label
from emm_engine.sources.changelog import Problem
from emm_engine.sources.conversation import Message, documents_of
from emm_engine.sources.files import Found, opened, walk
from emm_engine.sources.values import clean, moment_of, reason, version_key

BLOCK_BYTES = 64 << 20
FILE_BYTES_MAX = 64 << 20
TITLE_WORDS = 10
NAME_CHARS_MAX = 100

_DAY_FILE = re.compile(r"\d{4}-\d{2}-\d{2}\.json")
_REFERENCE = re.compile(r"<([@#!]?)([^<>|]{1,500})(?:\|([^<>]{0,500}))?>")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_SILENT = frozenset({"channel_join", "channel_leave", "channel_topic", "channel_purpose", "channel_name", "bot_add"})

Record = dict[str, Any]


def is_chat_export(folder: Path) -> bool:
    """Whether a folder is such an export."""
    return all(
        (folder / name).is_file() and not (folder / name).is_symlink() for name in ("channels.json", "users.json")
    )


def read_chat(found: Found, problem: Problem) -> Iterator[Document]:
    """The conversations of an export, channel by channel."""
    files = list(walk(found.path, problem))
    names = _names(next((file for file in files if file.source == "users.json"), None), problem)
    channels: dict[str, list[Found]] = defaultdict(list)
    for file in files:
        channel, _, name = file.source.rpartition("/")
        if channel and _DAY_FILE.fullmatch(name):
            channels[channel].append(file)
    for channel, days in sorted(channels.items()):
        for number, block in enumerate(_blocks(days)):
            yield from _conversations(found, channel, number, block, names, problem)


def _blocks(days: list[Found]) -> Iterator[list[Found]]:
    block: list[Found] = []
    n_bytes = 0
    for day in days:
        size = day.path.lstat().st_size
        if block and n_bytes + size > BLOCK_BYTES:
            yield block
            block, n_bytes = [], 0
        block.append(day)
        n_bytes += size
    if block:
        yield block


def _records(file: Found, problem: Problem) -> list[Record]:
    try:
        with opened(file) as source:
            records = json.loads(source.read_all(FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError) as error:
        problem(file.source, reason(error))
        return []
    if not isinstance(records, list):
        problem(file.source, "not a list of messages")
        return []
    return [record for record in records if isinstance(record, dict)]


def _names(file: Found | None, problem: Problem) -> dict[str, str]:
    """{user id: name that people know}."""
    names: dict[str, str] = {}
    for user in _records(file, problem) if file is not None else []:
        profile = user.get("profile")
        profile = profile if isinstance(profile, dict) else {}
        told = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name"))
        name = next((each for each in told if isinstance(each, str) and each.strip()), "")
        if name and isinstance(user.get("id"), str):
            names[user["id"]] = clean(name)[:NAME_CHARS_MAX]
    return names


def _conversations(
    export: Found, channel: str, number: int, days: list[Found], names: dict[str, str], problem: Problem
) -> Iterator[Document]:
    threads: dict[str, list[Message]] = {}
    daily: dict[str, list[Message]] = {}
    for day in days:
        for record in _records(day, problem):
            message = _message(record, names)
            if message is None:
                continue
            thread = record.get("thread_ts")
            if isinstance(thread, str) and (record.get("reply_count") or thread != record.get("ts")):
                threads.setdefault(thread, []).append(message)
            else:
                daily.setdefault(day.path.stem, []).append(message)
    source = f"{export.source}/{channel}"
    labels = [Label("channel", clean(channel))]
    block = f" block {number}" if number else ""
    for thread, messages in threads.items():
        messages.sort(key=lambda message: (message.moment is None, message.moment))
        title = f"#{clean(channel)}: {' '.join(messages[0].text.split()[:TITLE_WORDS])}"
        key = version_key(export.key, f"{channel}/{thread}{block}")
        yield from documents_of(messages, source, title, key, labels)
    for date, messages in daily.items():
        key = version_key(export.key, f"{channel}/{date}")
        yield from documents_of(messages, source, f"#{clean(channel)} {date}", key, labels)


def _message(record: Record, names: dict[str, str]) -> Message | None:
    """A message that somebody typed; None for joins, leaves and what has no text."""
    text = record.get("text")
    if record.get("type", "message") != "message" or record.get("subtype") in _SILENT:
        return None
    if not isinstance(text, str) or not text.strip():
        return None
    user = record.get("user")
    profile = record.get("user_profile")
    told = profile.get("real_name") if isinstance(profile, dict) else None
    sender = names.get(user, "") if isinstance(user, str) else ""
    named = next((each for each in (sender, told, record.get("username"), user) if isinstance(each, str) and each), "")
    return Message(named[:NAME_CHARS_MAX], moment_of(record.get("ts")), _own_words(text, names))


def _own_words(text: str, names: dict[str, str]) -> str:
    """A message as people read it: references by name, quoted lines dropped."""

    def reference(match: re.Match[str]) -> str:
        mark, target, label = match.groups()
        if mark == "@":
            return f"@{label or names.get(target, target)}"
        return f"{mark}{label or target}" if mark else (f"{label} ({target})" if label else target)

    said = _REFERENCE.sub(reference, text)
    lines = [line for line in said.split("\n") if not line.startswith(("&gt;", ">"))]
    kept = "\n".join(lines) if any(line.strip() for line in lines) else said
    for entity, mark in _ENTITIES.items():
        kept = kept.replace(entity, mark)
    return clean(kept)
