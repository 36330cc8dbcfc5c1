"""What a keeper does to scopes as a whole: look at them, close, move and export them."""
