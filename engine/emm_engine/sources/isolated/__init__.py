"""What runs in a process of its own, over bytes that nobody vouches for: the standard library and pypdf alone."""
