"""Kedro datasets for what Kedro has none for."""
