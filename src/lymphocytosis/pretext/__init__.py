"""How an encoder is trained without labels: a file a pretext task, and what all tasks share."""
