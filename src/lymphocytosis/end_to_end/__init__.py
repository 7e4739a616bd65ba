"""Encoder and classifier trained as one, from pictures to diagnosis."""
