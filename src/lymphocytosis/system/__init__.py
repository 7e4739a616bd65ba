"""A trained system: everything from a patient's pictures to a decision."""
