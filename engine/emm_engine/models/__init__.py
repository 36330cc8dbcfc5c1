"""A domain's embedder with its vectors, and the keys of passages made with both."""
