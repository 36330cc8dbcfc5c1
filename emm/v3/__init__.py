"""v3 files, the frozen predecessor: read, checked, and turned into v4 states (`spec/emm-v3.md`).

Purpose: one package for everything that knows v3. Invariants: nothing here writes a v3 file or changes one; bytes are
hostile until they are checked.
"""
