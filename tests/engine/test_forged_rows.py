"""A catalog from a stranger, opened as it is: no row of it leads out of the archive, or into another tenant.

Red when: a row that names a path makes a command read, move or remove what is not the archive's or the tenant's.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, Document, Scope, Selection

Make = Callable[..., list[Document]]
RUN, OTHER = Scope("lab", "code", "p", "r"), Scope("guest", "code", "p", "r")
TENANT = "INSERT INTO forgettings(tenant_id, state, begun, facts) SELECT tenant_id, 'tenant', '', '%s' FROM tenants"
RELOCATION = (
    "INSERT INTO relocations(scope_id, tenant_id, memory_from, vectors_from, named) SELECT scope_id, tenant_id, "
    "'memories/lab/code/p/r', '%s', 1 FROM scopes JOIN tenants USING(tenant_id) WHERE name = 'lab'"
)
FORGED = {
    "model": "UPDATE embedders SET fingerprint = '../../outside/model'",
    "vectors": "UPDATE embedders SET vectors_folder = '../../outside'",
    "tenant's path": TENANT % json.dumps({"tenant": "../../outside", "models": [], "purged": False}),
    "another tenant": TENANT % json.dumps({"tenant": "guest", "models": [], "purged": False}) + " WHERE name = 'lab'",
    "models": TENANT % json.dumps({"tenant": "lab", "models": ["../../outside/model"], "purged": False})
    + " WHERE name = 'lab'",
    "moved vectors": RELOCATION % "guest:code/p/r",
    "vectors moved in": RELOCATION % "../../../outside/lab",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    path = tmp_path_factory.mktemp("original") / "a"
    with Archive.create(path) as archive:
        archive.ingest(make_documents(12), RUN)
        archive.ingest(make_documents(9, seed=2), OTHER)
    return path


@pytest.mark.parametrize("forged", FORGED)
def test_no_row_leads_out_of_the_archive(forged: str, tmp_path: Path, original: Path, make_documents: Make) -> None:
    path, outside = tmp_path / "a", tmp_path / "outside"
    shutil.copytree(original, path)
    for file in ("model.npz", "lab.vec", "memory", "lab/code/p/r.vec", "vectors/lab/x"):
        (outside / file).parent.mkdir(parents=True, exist_ok=True)
        (outside / file).write_text("not yours")
    before = {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    theirs = {file: file.read_bytes() for file in path.rglob("guest/**/*") if file.is_file()}
    with sqlite3.connect(path / "catalog.sqlite") as connection:
        connection.execute(FORGED[forged])
    connection.close()

    def tried(act: Callable[[Archive], object]) -> None:
        try:
            with Archive.open(path) as archive:
                act(archive)
        except emm.EmmError:
            pass  # loud is well; silent is too, where nothing is lost

    for act in (
        lambda archive: archive.ask("pump", RUN),
        lambda archive: archive.ingest(make_documents(3, seed=7), RUN),
        lambda archive: archive.finish_forgetting(),
        lambda archive: archive.forget(Selection(queries=("pump",), scope=RUN), purge=True),
        lambda archive: archive.rebuild(RUN),
        lambda archive: archive.forget_tenant("lab", purge=True),
    ):
        tried(act)
        assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == before
        assert {file: file.read_bytes() for file in path.rglob("guest/**/*") if file.is_file()} == theirs
