"""Work units over processes and over Dask: the same result as one process, whoever dies.

Red when: a worker's death loses or doubles a pair, or changes a bit or an answer; results come out of order, or are
taken from the source without bound; a unit that ends its workers is tried for ever or left out; an error of a unit is
swallowed; workers with other releases are believed; a worker outlives its client.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distributed import Client

from emm import InputError
from emm_engine import Archive, Document, Progress, RunStatus, Scope
from emm_engine.errors import WorkError
from emm_engine.scale import cluster
from emm_engine.scale.cluster import DaskWorkers
from emm_engine.scale.embedding import fanned
from emm_engine.scale.pool import LocalWorkers
from emm_engine.scale.unit import perform, releases
from emm_engine.scale.workers import WINDOW, Workers, open_workers
from tests.engine.scale_units import Echo, Failing, Fatal
from tests.engine.test_recovery import digest, spoken

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
N_DOCUMENTS = 150
CHUNK = 64  # passages: several commits
LIFE_SECONDS = 30.0  # what a busy machine may take


@pytest.fixture(scope="module", params=["2", "dask:2"], ids=["processes", "dask"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Each kind; the tests that end workers come last, for Dask takes its time to replace one."""
    if request.param == "2":
        yield request.getfixturevalue("local_workers")
        return
    with open_workers(request.param) as opened:
        yield opened


def pids(workers: Workers) -> list[int]:
    """The processes of the workers."""
    if isinstance(workers, LocalWorkers):
        return workers.pids
    assert isinstance(workers, DaskWorkers)
    with Client(workers.address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> tuple[str, list[str], list[RunStatus]]:
    """(digest of the matrix, answers, tree) of an archive that one process made."""
    with (
        Archive.create(tmp_path_factory.mktemp("alone") / "archive") as archive,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("emm_engine.ingest.pipeline.PASSAGES_PER_CHUNK", CHUNK)
        archive.ingest(make_documents(N_DOCUMENTS), RUN)
        return digest(archive), spoken(archive), archive.tree()


def test_results_come_in_order_and_no_more_than_a_window_is_under_way(workers: Workers) -> None:
    n_taken, most = 0, 0

    def units() -> Iterator[Echo]:
        nonlocal most
        for number in range(40):
            most = max(most, number + 1 - n_taken)
            yield Echo(number, 0.02 * (number % 3 == 0))

    for expected, found in enumerate(workers.results(units())):
        assert found == expected
        n_taken += 1
    assert n_taken == 40
    assert 2 <= most <= WINDOW * 2 + 1


def test_several_results_may_be_open_and_one_may_be_left(workers: Workers) -> None:
    left = workers.results(Echo(number) for number in range(100))
    assert next(left) == 0
    assert list(workers.results([Echo(7), Echo(8)])) == [7, 8]
    assert next(left) == 1
    left.close()  # type: ignore[attr-defined]
    assert list(workers.results([Echo(9)])) == [9]


def test_errors_of_a_unit_are_raised_here(workers: Workers) -> None:
    with pytest.raises(InputError, match="this input is refused") as refused:
        list(workers.results([Failing(True)]))
    assert (refused.value.expected, refused.value.found) == ("another", 1)
    with pytest.raises(WorkError, match="ZeroDivisionError"):
        list(workers.results([Failing(False)]))


def test_a_worker_is_killed_in_mid_run_and_the_archive_is_that_of_one_process(
    workers: Workers,
    tmp_path: Path,
    make_documents: Make,
    alone: tuple[str, list[str], list[RunStatus]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emm_engine.ingest.pipeline.PASSAGES_PER_CHUNK", CHUNK)
    monkeypatch.setattr("emm_engine.scale.embedding.TEXTS_PER_UNIT", 8)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        """Stop a worker, so that it has units and does nothing; then kill it."""
        if progress.phase == "absorbing" and not killed:
            killed.append(pids(workers)[0])
            os.kill(killed[0], signal.SIGSTOP)
            threading.Timer(0.3, os.kill, (killed[0], signal.SIGKILL)).start()

    with Archive.create(tmp_path / "archive") as archive:
        report = archive.ingest(
            make_documents(N_DOCUMENTS), RUN, kill_one, through=lambda model: fanned(model, workers)
        )
        assert killed and killed[0] not in pids(workers)
        assert report.pending == 0
        assert (digest(archive), spoken(archive), archive.tree()) == alone


def test_a_unit_that_ends_every_worker_is_an_error(workers: Workers) -> None:
    found = workers.results([Echo(1), Fatal()])
    assert next(found) == 1
    with pytest.raises(WorkError, match=r"fatal-\w+ ended 3 workers"):
        next(found)
    if isinstance(workers, LocalWorkers):
        assert list(workers.results(map(Echo, range(5)))) == [0, 1, 2, 3, 4]


def test_a_worker_with_other_releases_refuses() -> None:
    assert perform(Echo(3), releases()) == 3
    others = tuple((package, "0.0" if package == "numpy" else release) for package, release in releases())
    with pytest.raises(WorkError, match="other releases") as refused:
        perform(Echo(3), others)
    assert refused.value.expected == "numpy 0.0"


@pytest.mark.parametrize("text", ["", "0", "257", "-1", "dask:0", "dask:999999999", "four", "http://host:1", "tcp://"])
def test_what_names_no_workers_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        open_workers(text)


def test_no_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    with pytest.raises(WorkError, match="no scheduler answers"):
        open_workers("tcp://127.0.0.1:1")


HELD = """
import sys, time
from emm_engine.scale.pool import LocalWorkers
from tests.engine.scale_units import Echo

if __name__ == "__main__":
    workers = LocalWorkers(2)
    list(workers.results(map(Echo, range(2))))
    print(*workers.pids, flush=True)
    time.sleep(60)
"""


def test_workers_end_when_their_client_is_killed(tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(HELD)
    command = [sys.executable, str(tmp_path / "held.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}) as client:
        assert client.stdout is not None
        left = [int(word) for word in client.stdout.readline().split()]
        assert len(left) > 0
        client.kill()
    deadline = time.monotonic() + LIFE_SECONDS
    while any(map(_lives, left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, left))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
