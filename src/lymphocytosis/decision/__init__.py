"""From a patient's predictions to a decision, and from decisions to a table of results."""
