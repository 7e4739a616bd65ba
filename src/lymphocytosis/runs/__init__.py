"""Runs as things: what each was made from and what it made; comparing and removing them."""
