"""The memories of an archive, and how labels become values and strengths."""
