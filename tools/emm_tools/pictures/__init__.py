"""Pictures of a memory: block map, singular spectrum, saturation and utilisation, history, heat map of M.

Purpose: what `emm-inspect --picture` writes and what its page shows. Invariants: nothing outside this package and
`growth_picture` imports matplotlib, always with the Agg or SVG canvas, so no display is needed; the same memory gives
the same bytes; nothing that came from a file is read as markup or mathematics.
"""

from emm_tools.pictures.sheet import PANELS, Sources, draw, gather, svgs

__all__ = ["PANELS", "Sources", "draw", "gather", "svgs"]
