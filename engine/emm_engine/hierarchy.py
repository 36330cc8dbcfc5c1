"""Where a memory lives: tenant / domain / project / run, and the shape each domain starts with.

Purpose: turn names given by people into validated scopes and relative memory paths, and hold the
seven domain defaults as data. Invariants: a name is lower-case, begins with a letter or
digit and never contains a separator, so a scope's path stays inside the archive on every file system;
names that begin with an underscore are the engine's own; a scope with a run has a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from emm import InputError
from emm_engine.errors import ScopeError

NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9_-])?")
KEY_DIM_MIN = 256  # numbers in a key; a power of two, so φ pads nothing
ROLLUP = "_rollup"  # the matrix of a project or domain beside those of its children
RANK_STEP = 16
RANK_MAX = 4096
DIM_MIN, DIM_MAX = 64, 8192  # fewer numbers do not tell labels apart
RIDGE = 1.0  # λ: labels of text are noisy and many-to-one, so the prior weighs as much as a pair


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a new memory: M is (dim, rank), a key has key_dim numbers."""

    rank: int
    dim: int

    def __post_init__(self) -> None:
        if self.rank % RANK_STEP or not RANK_STEP <= self.rank <= RANK_MAX:
            expected = f"a multiple of {RANK_STEP}, at most {RANK_MAX}"
            raise InputError("not a rank a memory can start with", expected=expected, found=self.rank)
        if not DIM_MIN <= self.dim <= DIM_MAX:
            raise InputError("not a dim a memory can have", expected=f"{DIM_MIN} to {DIM_MAX}", found=self.dim)

    @property
    def key_dim(self) -> int:
        return max(KEY_DIM_MIN, self.rank)

    def __str__(self) -> str:
        return f"rank {self.rank}, dim {self.dim}"


DOMAIN_DEFAULT = "general"
DOMAINS = MappingProxyType(
    {
        "chat": Shape(64, 768),
        "code": Shape(128, 768),
        "particle_physics": Shape(512, 1024),
        "genomics": Shape(256, 1024),
        "seismic": Shape(256, 768),
        "robotics": Shape(128, 512),
        "general": Shape(64, 768),
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """A place in the hierarchy. Without `run` (or `project`) it means everything below that level."""

    tenant: str = "local"
    domain: str = DOMAIN_DEFAULT
    project: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if self.run is not None and self.project is None:
            raise ScopeError("a run needs a project", expected="project/run", found=f"run {self.run!r} alone")
        for level in ("tenant", "domain", "project", "run"):
            name = getattr(self, level)
            if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
                raise ScopeError(
                    f"{level} is not a valid name",
                    expected="1 to 64 of a-z 0-9 _ . -, beginning with a letter or digit, not ending in a dot",
                    found=repr(name),
                )

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope written as `[tenant:]domain[/project[/run]]`."""
        tenant, colon, rest = text.rpartition(":")
        parts = rest.split("/")
        if len(parts) > 3 or (colon and not tenant):
            raise ScopeError("cannot read the scope", expected="[tenant:]domain[/project[/run]]", found=repr(text))
        padded: list[str | None] = [*parts, *[None] * (3 - len(parts))]
        return cls(tenant if colon else "local", parts[0], padded[1], padded[2])

    def __str__(self) -> str:
        return f"{self.tenant}:" + "/".join(part for part in (self.domain, self.project, self.run) if part)

    @property
    def is_run(self) -> bool:
        return self.run is not None

    def require_run(self) -> Scope:
        """This scope, or `ScopeError` when it does not name one run: writes land in runs only."""
        if self.run is None:
            raise ScopeError("writing needs a run", expected="tenant:domain/project/run", found=str(self))
        return self

    def ancestors(self) -> Iterator[Scope]:
        """Project and domain above this scope, nearest first."""
        if self.run is not None:
            yield Scope(self.tenant, self.domain, self.project)
        if self.project is not None:
            yield Scope(self.tenant, self.domain)

    def contains(self, other: Scope) -> bool:
        """Whether `other` is this scope or below it. Never true across tenants."""
        return (
            self.tenant == other.tenant
            and self.domain == other.domain
            and self.project in (None, other.project)
            and self.run in (None, other.run)
        )

    @property
    def memory_path(self) -> PurePosixPath:
        """The memory directory relative to the archive; a project's or domain's own lies in `_rollup`."""
        parts = [part for part in (self.domain, self.project, self.run) if part is not None]
        return PurePosixPath("memories", self.tenant, *parts, *([] if self.is_run else [ROLLUP]))


@dataclass(frozen=True, slots=True, order=True)
class Tenant:
    """A whole tenant, written `name:`."""

    tenant: str

    def __post_init__(self) -> None:
        Scope(self.tenant)  # the same rule for its name

    def __str__(self) -> str:
        return f"{self.tenant}:"

    def contains(self, other: Scope) -> bool:
        """Whether `other` is this tenant's."""
        return self.tenant == other.tenant


Place = Scope | Tenant


def parse_place(text: str) -> Place:
    """A scope, or a tenant written as `name:`."""
    return Tenant(text[:-1]) if text.endswith(":") else Scope.parse(text)


def level_of(place: Place) -> str:
    """tenant, domain, project or run."""
    if isinstance(place, Tenant):
        return "tenant"
    return "run" if place.is_run else "domain" if place.project is None else "project"


def renamed(scope: Scope, source: Place, target: Place) -> Scope:
    """What a scope at or below `source` is called below `target`, a place of the same level."""
    assert source.contains(scope)
    return Scope.parse(str(target) + str(scope)[len(str(source)) :])


def chain_of(place: Place) -> tuple[Place, ...]:
    """The place and what is above it, nearest first: run, project, domain, tenant."""
    if isinstance(place, Tenant):
        return (place,)
    return (place, *place.ancestors(), Tenant(place.tenant))
