"""What is derived, checked and made anew from the catalog; what is forgotten, gone from every file."""
