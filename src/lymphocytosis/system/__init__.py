"""A trained system: all that leads from a patient's pictures to a decision."""
