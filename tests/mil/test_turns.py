from threading import Barrier, Event, Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphocytosis.mil.turns import run_in_turns


class Jobs:
    """Jobs of so many turns each, and what was seen of them."""

    def __init__(self, turns):
        self.turns, self.lock = turns, Lock()
        self.begun, self.at_work, self.most_at_work, self.ended = [], set(), 0, []
        self.begun_before_the_end_of = {}

    def job(self, place):
        for turn in range(self.turns[place]):
            with self.lock:
                assert place not in self.at_work
                self.at_work.add(place)
                self.most_at_work = max(self.most_at_work, len(self.at_work))
                if turn == 0:
                    self.begun.append(place)
            with self.lock:
                self.at_work.remove(place)
            if turn < self.turns[place] - 1:
                yield
        with self.lock:
            self.begun_before_the_end_of[place] = len(self.begun)
            self.ended.append(place)
        return 10 * place

    def run(self, at_once):
        return dict(run_in_turns([self.job(p) for p in range(len(self.turns))], at_once))


class TestTurns:
    @given(st.lists(st.integers(1, 9), max_size=9), st.integers(1, 5))
    def test_each_job_runs_to_its_end_one_turn_at_a_time(self, turns, at_once):
        jobs = Jobs(turns)
        assert jobs.run(at_once) == {place: 10 * place for place in range(len(turns))}
        assert sorted(jobs.ended) == list(range(len(turns)))
        assert jobs.most_at_work <= at_once

    @given(st.integers(1, 12), st.integers(1, 5))
    def test_fewer_than_twice_as_many_as_threads_are_under_way(self, count, at_once):
        jobs = Jobs([3] * count)
        jobs.run(at_once)
        for done, place in enumerate(jobs.ended):
            assert jobs.begun_before_the_end_of[place] - done < 2 * at_once

    def test_on_one_thread_jobs_follow_each_other(self):
        jobs = Jobs([4, 2, 3])
        jobs.run(1)
        assert jobs.ended == [0, 1, 2]

    def test_the_last_jobs_take_turns(self):
        third_began = Event()

        def waiting():
            yield
            assert third_began.wait(timeout=30)

        def third():
            third_began.set()
            return
            yield

        # One after the other, both threads would wait for a job that begins when one is done.
        assert len(list(run_in_turns([waiting(), waiting(), third()], 2))) == 3

    def test_as_many_work_at_once_as_there_are_threads(self):
        together = Barrier(3, timeout=30)

        def job():
            together.wait()
            return
            yield

        assert len(list(run_in_turns([job() for _ in range(3)], 3))) == 3

    def test_each_thread_is_prepared(self):
        prepared = []
        list(run_in_turns([Jobs([1]).job(0)], 1, initializer=lambda: prepared.append(1)))
        assert prepared == [1]

    def test_an_error_is_raised_and_ends_the_others(self):
        def endless():
            while True:
                yield

        def bad():
            yield
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            list(run_in_turns([endless(), bad()], 2))
