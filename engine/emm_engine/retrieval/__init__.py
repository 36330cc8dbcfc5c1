"""A question to an answer: lexical, vector and matrix recall, fused, cited, and under a token budget."""
