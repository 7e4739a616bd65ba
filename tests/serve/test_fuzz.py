"""A short form of `tests/fuzz_http.py`, on a system that decodes pictures and has no model."""

import os

from tests.fuzz_http import fuzz

from .conftest import StandIn


def test_damaged_requests_get_answers_and_the_service_lives(serving):
    # `make fuzz` sends ten thousand to a real one.
    port = serving(StandIn(), header_seconds=0.3, pause_seconds=0.3, drain_seconds=0.1)
    assert fuzz(port, os.getpid(), requests=150, seed=1) == []
