"""Encoders: architecture, weights, fingerprint, and embedding."""
