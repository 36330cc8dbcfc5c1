"""Protocol bugs, planted one at a time, and the proof that the harness finds each.

A harness that lets a bug live proves nothing. `python -m emm_fuzz.mutants` plants each and names its killer.
"""
