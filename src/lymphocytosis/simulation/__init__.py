"""A simulated cohort: stained cells, patients and their clinical table."""
