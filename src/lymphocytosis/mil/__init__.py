"""Bags, aggregators, the patient classifier and its training."""
