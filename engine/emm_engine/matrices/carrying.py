"""The files of a run follow its name.

Purpose: what the catalog says of a run's place is the truth; its memory directory and its vectors are brought there.
Invariants: every step is a rename that may be done again, so whoever opens a run for writing ends what a killed process
left; one process at a time works in a domain, held together by locks that die with it; until a memory has followed,
readers find it where it was.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import emm
from emm_engine.catalog.relocations import Relocation, Relocations
from emm_engine.catalog.store import Catalog, Run
from emm_engine.files import alone, make_folder, rename_durably
from emm_engine.hierarchy import ROLLUP, Scope

RenameVectors = Callable[[Run, str], None]  # a run's vectors out of the namespace that they were in


class Carrying:
    """Ends what is recorded in `relocations`."""

    def __init__(self, root: Path, catalog: Catalog, rename_vectors: RenameVectors) -> None:
        self._root = root
        self._catalog = catalog
        self._relocations = Relocations(catalog)
        self._rename_vectors = rename_vectors

    def path(self, run: Run) -> Path:
        """Where a run's memory lies."""
        path = self._root / run.scope.memory_path
        if not path.exists() and (record := self._relocations.of(run)) is not None:
            former = self._root / record.memory_from
            return former if former.exists() else path
        return path

    def settle(self, scope: Scope) -> None:
        """End what was left in the domain, before a run there is written; `FencedError` while it is being moved."""
        if self._relocations.in_domain(scope):
            try:
                with self.alone_in(scope):
                    self.end(self._relocations.in_domain(scope))
            except emm.FencedError:
                if self._relocations.touching(scope):
                    raise

    def require_settled(self, run: Run) -> None:
        """`FencedError` when the run is on its way, or was given another name since it was read."""
        if self._relocations.touching(run.scope) or not self._relocations.is_called(run):
            raise emm.FencedError(f"{run.scope} is being moved", expected="nobody else at work on it")

    @contextlib.contextmanager
    def alone_in(self, scope: Scope, *projects: Scope) -> Iterator[None]:
        """No other process moves anything in the scope's domain, or rolls up what is moved here."""
        domain = self._root / Scope(scope.tenant, scope.domain).memory_path.parent
        make_folder(domain)
        records = self._relocations.in_domain(scope)
        paths = [each.memory_from for each in records] + [each.run.scope.memory_path for each in records]
        folders = {self._root / each.parent for each in (*paths, *(project.memory_path for project in projects))}
        try:
            with alone(domain, *sorted(each for each in folders if each.is_dir())):
                yield
        except BlockingIOError:
            raise emm.FencedError(f"another process is moving or rolling up in {scope.tenant}:{scope.domain}") from None

    def end(self, records: Iterable[Relocation]) -> None:
        """Let the files of named runs follow, and drop what was only intended; the domain is ours."""
        for record in records:
            if record.named:
                self._follow(record)
            self._relocations.end([record])

    def _follow(self, record: Relocation) -> None:
        rename_durably(self._root / record.memory_from, self._root / record.run.scope.memory_path)
        if record.vectors_from:
            self._rename_vectors(record.run, record.vectors_from)
        self._tidy(record.memory_from.parent)

    def _tidy(self, folder: PurePosixPath) -> None:
        """Remove the folder of a project that has no run any more, with its roll-up."""
        if len(folder.parts) == 4 and not self._catalog.runs(Scope(*folder.parts[1:])):
            shutil.rmtree(self._root / folder / ROLLUP, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty
            (self._root / folder).rmdir()
