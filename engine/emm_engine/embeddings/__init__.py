"""Text to vectors: the provider interface, and the providers behind it."""
