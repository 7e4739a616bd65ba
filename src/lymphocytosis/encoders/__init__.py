"""What an encoder is: architecture, weights, fingerprint, and how it embeds."""
