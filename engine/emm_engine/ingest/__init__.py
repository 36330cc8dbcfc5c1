"""Documents into an archive: text first, then what is derived from it."""
