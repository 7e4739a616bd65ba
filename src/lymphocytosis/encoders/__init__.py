"""Encoders, pretext tasks, their training, and embedding."""
