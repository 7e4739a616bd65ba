"""Pictures: decoding, the image store, views."""
