"""Forget passages, documents or a whole tenant, in every place, and be able to prove it.

Purpose: (1) nobody else writes the runs; (2) vectors go; (3) one transaction removes the text with all that the catalog
made of it, and leaves a note of what is still to do; (4) the matrices unlearn the pairs exactly; a purge instead makes
the memories (and the embedder, where it was fitted on the text) anew from what remains, so that no journal, snapshot or
vocabulary holds anything of it, compacts vectors and catalog, and searches every file. Invariants: after (3) no answer
shows the text, wherever the process dies; (4) is done by the next `finish`, whoever calls it; what is told afterwards
has no content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

import emm
from emm import InputError, Memory, MissingError
from emm_engine.catalog.cycles import settle_swap
from emm_engine.catalog.derived import forget_dreams, forget_phrases, refill_fulltext
from emm_engine.catalog.embedders import folder_of
from emm_engine.catalog.forgotten import REMOVED, REWRITING, TENANT, Forgetting, Forgettings, ForgottenPairs
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.removal import refill_damaged_words, remove_passages, remove_tenant
from emm_engine.catalog.store import Run
from emm_engine.documents import utc_text
from emm_engine.embeddings.backoff import FOR_INGEST
from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import CatalogError, EmbedderError, EmbedderUnavailable
from emm_engine.files import remove_tree_durably
from emm_engine.hierarchy import Scope, Tenant
from emm_engine.matrices.labels import value
from emm_engine.models.keys import key_namespace
from emm_engine.renewal.certificate import Certificate, Matrix
from emm_engine.renewal.rebuilding import Rebuilding, Workshop
from emm_engine.renewal.selection import ABSORBED_OF, Chosen
from emm_engine.renewal.trace import Trace, pieces_of, search

DREAMS = "dreams"  # the folder of the dreams' own files
UNLEARNED, REWRITTEN = "unlearned", "rewritten"
COUNTED = ("when", "purged", "documents", "passages", "pairs", "labels", "revived", "blocked")
PASSAGE_TEXTS = "SELECT substr(text, start + 1, end - start) FROM passages JOIN documents USING(document_id) WHERE"


class Forgetter:
    """Forgets in an open archive."""

    def __init__(self, workshop: Workshop, rebuilding: Rebuilding) -> None:
        self._workshop = workshop
        self._catalog = workshop.catalog
        self._rebuilding = rebuilding
        self._noted = Forgettings(self._catalog)

    # --- passages and documents ------------------------------------------------------------------

    def forget(self, chosen: Chosen, *, purge: bool, block: bool) -> Certificate:
        """Forget what was chosen, after finishing what was interrupted earlier.

        `FencedError` when somebody writes one of the runs, and nothing has changed.
        """
        tenants = {run.tenant_id for run in chosen.runs}
        if len(tenants) != 1:
            raise InputError("one tenant at a time", expected="a scope of one tenant", found=f"{len(tenants)} tenants")
        self.finish()
        pieces = pieces_of(list(self._texts(chosen))) if purge else []
        forgetting_id = self._remove(chosen, tenants.pop(), purge=purge, block=block)
        self.finish()
        trace = self._search(pieces) if purge else None
        return self.certificate(forgetting_id, trace)

    def _remove(self, chosen: Chosen, tenant_id: int, *, purge: bool, block: bool) -> int:
        """Steps 1 to 3; the forgetting's id."""
        every = sorted(identity for ids in chosen.passages.values() for identity in ids)
        with self._rebuilding.held(chosen.runs) as memories:
            rewritten = purge
            pairs: list[tuple[Run, Float32Array, Float32Array]] = []
            for run in chosen.runs:
                memory = memories[run.scope_id]
                if memory is not None and memory.uuid == run.memory_uuid and not purge:
                    settle_swap(self._catalog, run, memory)
                    PairLedger(self._catalog, run).reconcile(memory.write_count, memory.lsn)
                    found = self._pairs_of(run, memory, chosen.passages[run.scope_id])
                    rewritten = rewritten or found is None
                    pairs += [] if found is None else [(run, *found)]
                elif run.memory_uuid is not None:
                    rewritten = True
            for run in chosen.runs:
                for store in self._workshop.models.holders_of(run):
                    for namespace in (str(run.scope), key_namespace(run)):
                        store.remove(namespace, np.asarray(chosen.passages[run.scope_id], np.int64))
            facts = self._facts(chosen, every, purge=purge, block=block)
            with self._catalog.transaction():
                forget_dreams(self._catalog, chosen.runs)
                forget_phrases(self._catalog, chosen.runs)
                removed = remove_passages(self._catalog, tenant_id, every, block=block)
                if not rewritten:
                    for run, keys, values in pairs:
                        ForgottenPairs(self._catalog, run).add(keys, values)
                facts |= {"labels": removed.labels, "revived": removed.revived}
                state = REWRITING if rewritten else REMOVED
                return self._noted.begin(tenant_id, state, facts["when"], facts)

    def _pairs_of(self, run: Run, memory: Memory, ids: Sequence[int]) -> tuple[Float32Array, Float32Array] | None:
        """(keys, values) of those passages' pairs that the matrix holds; None where nobody can tell them any more."""
        held = [row[0] for row in self._catalog.query_among(ABSORBED_OF, ids)]
        if not held:
            return np.zeros((0, memory.key_dim), np.float32), np.zeros((0, memory.dim), np.float32)
        try:
            keys = self._workshop.keys_of(run, held)
        except (EmbedderError, EmbedderUnavailable):
            return None
        kept = PairLedger(self._catalog, run).kept(held)
        return keys, np.stack([value(kept[identity], memory.dim) for identity in held])

    def _facts(self, chosen: Chosen, ids: Sequence[int], *, purge: bool, block: bool) -> dict[str, Any]:
        documents = [document.document_id for document in chosen.plan.documents]
        digests = self._catalog.query_among(
            "SELECT content_sha256 FROM documents WHERE document_id IN (…) ORDER BY document_id", documents
        )
        hashes = self._catalog.query_among(
            "SELECT text_hash FROM passages WHERE passage_id IN (…) ORDER BY passage_id", ids
        )
        return {
            "when": utc_text(datetime.now(UTC)),
            "purged": purge,
            "blocked": block,
            "matrices": [],
            "documents": sum(document.whole for document in chosen.plan.documents),
            "passages": len(ids),
            "oldest": ids[0],
            "pairs": chosen.plan.absorbed,
            "content_sha256": [bytes(row[0]).hex() for row in digests],
            "passage_sha256": [int(row[0]).to_bytes(8, "little", signed=True).hex() for row in hashes],
            "scopes": [run.scope_id for run in chosen.runs],
        }

    # --- what is left to do ----------------------------------------------------------------------

    def finish(self) -> int:
        """Finish every forgetting that was interrupted; how many."""
        unfinished = self._noted.unfinished()
        for forgetting in unfinished:
            if forgetting.state == TENANT:
                self._finish_tenant(forgetting)
            else:
                self._finish_passages(forgetting)
        compacted = self._noted.compact()
        return len(unfinished) or int(compacted)

    def _finish_passages(self, forgetting: Forgetting) -> None:
        facts, tenant_id = dict(forgetting.facts), forgetting.tenant_id
        runs = [run for run in self._catalog.all_runs() if run.scope_id in facts["scopes"]]
        if forgetting.state == REWRITING:
            if "models" not in facts:  # decided once: a later look would see what has been made anew already
                facts |= self._decide(tenant_id, runs, facts)
                self._noted.note(forgetting.forgetting_id, facts)
            facts["matrices"] = self._rewrite(tenant_id, runs, facts)
            refill_fulltext(self._catalog, tenant_id)
        else:
            assert forgetting.state == REMOVED
            refill_damaged_words(self._catalog, tenant_id)
            facts["matrices"] = [self._unlearn(run) for run in runs]
        self._noted.done(forgetting.forgetting_id, facts, compact=facts["purged"])

    def _unlearn(self, run: Run) -> dict[str, object]:
        """Take what is noted out of a run's matrix; where it refuses, make it anew."""
        how = UNLEARNED
        self._workshop.absorb(run)
        if ForgottenPairs(self._catalog, run).count():
            how = REWRITTEN
            self._rebuilding.strip([run], vectors=False)
            self._workshop.absorb(run)
        return self._matrix(run, how)

    def _matrix(self, run: Run, how: str) -> dict[str, object]:
        self._workshop.shelf.settle(self._catalog.runs(run.scope)[0])
        with emm.open(str(self._workshop.shelf.path(run))) as memory:
            return asdict(Matrix(str(run.scope), how, memory.write_count, memory.digest))

    def _decide(self, tenant_id: int, runs: Sequence[Run], facts: dict[str, Any]) -> dict[str, object]:
        """The domains whose models were fitted on what went, which have to be made anew as a whole; and the models."""
        domains, fingerprints = [], []
        for domain in sorted({run.scope.domain for run in runs}):
            fitted = self._catalog.query(
                "SELECT through FROM fits WHERE tenant_id = ? AND domain = ?", (tenant_id, domain)
            )
            first = next(run for run in runs if run.scope.domain == domain)
            model = self._catalog.embedder(first.scope.tenant, domain)
            if model is None or (fitted and facts["oldest"] > fitted[0][0]):
                continue
            if self._workshop.models.changes(first, FOR_INGEST):
                domains.append(f"{first.scope.tenant}:{domain}")
                fingerprints.append(model[1])
        return {"models": domains, "fingerprints": fingerprints}

    def _rewrite(self, tenant_id: int, runs: Sequence[Run], facts: dict[str, Any]) -> list[dict[str, object]]:
        """Make the memories anew from what remains, and with them each model that was fitted on what went."""
        self._drop_dreams()
        domains = [Scope.parse(each) for each in facts["models"]]
        for domain, fingerprint in zip(domains, facts["fingerprints"], strict=True):
            folder = self._workshop.root / "vectors" / folder_of(fingerprint)
            remove_tree_durably(folder / domain.tenant / domain.domain)
        anew = [run for run in self._catalog.all_runs() if any(domain.contains(run.scope) for domain in domains)]
        kept = [run for run in runs if run not in anew]
        self._rebuilding.strip(kept, vectors=False)
        self._rebuilding.strip(anew, [(domain.tenant, domain.domain) for domain in domains])
        changed = sorted([*kept, *anew], key=lambda run: run.scope)
        for run in changed:
            self._workshop.absorb(run)
        for run in kept:
            for store in self._workshop.models.holders_of(run):
                for namespace in (str(run.scope), key_namespace(run)):
                    store.compact(namespace)
        self._rebuilding.remove_models(facts["fingerprints"])
        return [self._matrix(run, REWRITTEN) for run in changed]

    def _drop_dreams(self) -> None:
        """What dreams have tried out holds pairs: the folders of all cycles go, and who runs one begins anew."""
        for folder in sorted((self._workshop.root / DREAMS).glob("[0-9]*")):
            remove_tree_durably(folder)

    # --- a tenant --------------------------------------------------------------------------------

    def forget_tenant(self, name: str, *, purge: bool) -> Certificate:
        """Forget everything of a tenant, its name included; other tenants' files are not touched.

        `MissingError` where there is no such tenant; `FencedError` when somebody writes one of its runs.
        """
        self.finish()
        tenant_id = self._catalog.tenant_id(name)
        if tenant_id is None:
            raise MissingError("there is no such tenant", found=name)
        runs = [run for run in self._catalog.all_runs() if run.tenant_id == tenant_id]
        ((documents, passages, pairs, labels),) = self._catalog.query(
            "SELECT (SELECT count(*) FROM documents WHERE tenant_id = ?), (SELECT count(*) FROM passages "
            "WHERE tenant_id = ?), (SELECT count(*) FROM pairs WHERE tenant_id = ? AND written_by IS NOT NULL "
            "AND unlearned_by IS NULL), (SELECT count(*) FROM labels WHERE tenant_id = ?)",
            (tenant_id,) * 4,
        )
        known = self._catalog.query("SELECT fingerprint FROM embedders WHERE tenant_id = ?", (tenant_id,))
        models = [row[0] for row in known]
        texts = (row[0] for row in self._catalog.query(f"{PASSAGE_TEXTS} passages.tenant_id = ?", (tenant_id,)))
        pieces = pieces_of(list(texts)) if purge else []
        when = utc_text(datetime.now(UTC))
        with self._rebuilding.held(runs):
            for run in runs:
                self._workshop.models.drop_vectors(run, self._workshop.models.store_of(run))
            with self._catalog.transaction():
                remove_tenant(self._catalog, tenant_id, keep=("tenants",))
                self._noted.begin(tenant_id, TENANT, when, {"models": models, "purged": purge, "tenant": name})
        self.finish()
        trace = self._search(pieces) if purge else None
        return Certificate(0, when, purge, documents, passages, pairs, labels, revived=0, trace=trace)

    def _finish_tenant(self, forgetting: Forgetting) -> None:
        facts = forgetting.facts
        self._drop_dreams()
        root = self._workshop.root
        name = Tenant(facts["tenant"]).tenant  # never a path: a catalog may come from elsewhere
        if self._catalog.tenant_id(name) != forgetting.tenant_id:
            raise CatalogError("another tenant is to be forgotten than its note says", found=name)
        for part in (root / "memories", root / "vectors", *sorted((root / "vectors").glob("_*"))):
            remove_tree_durably(part / name)
        self._rebuilding.remove_models(facts["models"])
        self._noted.tenant_done(forgetting.tenant_id, compact=facts["purged"])

    # --- proof -----------------------------------------------------------------------------------

    def certificate(self, forgetting_id: int, trace: Trace | None = None) -> Certificate:
        """What a forgetting that is through did; `MissingError` where there is none."""
        facts = self._noted.facts(forgetting_id)
        if facts is None:
            raise MissingError("there is no such forgetting", found=forgetting_id)
        told = {name: facts[name] for name in COUNTED}
        return Certificate(
            forgetting_id,
            **told,
            content_sha256=tuple(facts["content_sha256"]),
            passage_sha256=tuple(facts["passage_sha256"]),
            matrices=tuple(Matrix(**each) for each in facts.get("matrices", [])),
            models=tuple(facts.get("models", [])),
            trace=trace,
        )

    def _texts(self, chosen: Chosen) -> Iterator[str]:
        for ids in chosen.passages.values():
            for (text,) in self._catalog.query_among(f"{PASSAGE_TEXTS} passage_id IN (…)", ids):
                yield text

    def _search(self, pieces: Sequence[str]) -> Trace:
        """Every file of the archive, for what no remaining text says."""
        said = "SELECT 1 FROM documents WHERE replace(text, ?, '') <> text LIMIT 1"
        return search(self._workshop.root, [piece for piece in pieces if not self._catalog.query(said, (piece,))])
