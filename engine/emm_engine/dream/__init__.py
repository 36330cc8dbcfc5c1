"""Consolidation in idle time: cycles of six phases that keep what the matrix holds in step with what is known."""
