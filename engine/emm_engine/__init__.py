"""The EMM engine: documents in, cited answers out, on memories that survive.

Purpose: the public face of `emm_engine`. Invariants: it uses public names of `emm` only; nothing crosses a
tenant; text is durable before anything is derived from it.
"""

from emm_engine.archive import Archive
from emm_engine.catalog.checks import Finding
from emm_engine.documents import Document, Label
from emm_engine.errors import CatalogError, EmbedderError, EmbedderUnavailable, ScopeError
from emm_engine.hierarchy import DOMAINS, Scope
from emm_engine.renewal.certificate import Certificate
from emm_engine.renewal.rebuilding import RebuildReport
from emm_engine.renewal.selection import Plan, Selection
from emm_engine.reports import IngestReport, LevelStatus, Progress, ReembedReport, RunStatus
from emm_engine.retrieval.answer import Answer, Association, Citation, Evidence
from emm_engine.sources import (
    Intake,
    Settings,
    debian_changelogs,
    documents_below,
    machine_documents,
    python_documentation,
    text_folder,
)

__all__ = [
    "DOMAINS",
    "Answer",
    "Archive",
    "Association",
    "CatalogError",
    "Certificate",
    "Citation",
    "Document",
    "EmbedderError",
    "EmbedderUnavailable",
    "Evidence",
    "Finding",
    "IngestReport",
    "Intake",
    "Label",
    "LevelStatus",
    "Plan",
    "Progress",
    "RebuildReport",
    "ReembedReport",
    "RunStatus",
    "Scope",
    "ScopeError",
    "Selection",
    "Settings",
    "debian_changelogs",
    "documents_below",
    "machine_documents",
    "python_documentation",
    "text_folder",
]
