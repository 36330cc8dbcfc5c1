"""Inspection: what is in a memory, told without changing, locking or repairing anything.

    found = emm.inspect("labs/chemistry", state=True, health=True)     # the whole memory at a glance
    emm.inspection.rows("labs/chemistry", 0, 9)                        # and views of one thing each

Every view takes a memory directory or one of its files, works on damaged ones as far as it goes, and says in `problem`
and `exit_code` where it stopped.
"""

from emm.inspection.blocks import BlocksView, blocks
from emm.inspection.difference import Difference, diff
from emm.inspection.headers import HeaderView, header
from emm.inspection.heat import HeatMap, heat_map
from emm.inspection.matrix import Matrix, newest_matrix
from emm.inspection.overview import inspect
from emm.inspection.place import Place, opened
from emm.inspection.rows import RowsView, rows
from emm.inspection.spectrum import Spectrum, spectrum_of
from emm.inspection.spectrum_view import SpectrumView, spectrum
from emm.inspection.v3 import matrix_at
from emm.inspection.values import Health, Inspection, plain

__all__ = [
    "BlocksView",
    "Difference",
    "HeaderView",
    "Health",
    "HeatMap",
    "Inspection",
    "Matrix",
    "Place",
    "RowsView",
    "Spectrum",
    "SpectrumView",
    "blocks",
    "diff",
    "header",
    "heat_map",
    "inspect",
    "matrix_at",
    "newest_matrix",
    "opened",
    "plain",
    "rows",
    "spectrum",
    "spectrum_of",
]
