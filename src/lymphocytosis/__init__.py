"""Diagnosis of lymphocytosis from bags of blood-cell pictures."""

__version__ = "0.1.0"
