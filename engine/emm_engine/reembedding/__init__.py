"""Everything of a domain embedded anew, while the old vectors go on answering."""
