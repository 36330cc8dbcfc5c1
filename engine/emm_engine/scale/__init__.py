"""Work units over many processes and machines: what one process does, cut up, with the same result."""
