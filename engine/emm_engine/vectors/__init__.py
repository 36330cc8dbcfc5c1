"""Vectors by id in tenant namespaces: the interface, and the stores behind it."""
