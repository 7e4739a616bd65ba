"""Encoders, the autoencoder, pretext training and embedding."""
