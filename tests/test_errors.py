from lymphocytosis.errors import brief, causes, listed, one_line, some


def test_the_first_line_of_a_message_is_quoted():
    assert brief(ValueError("bad\nlong story")) == "ValueError: bad"


def test_an_error_without_a_message_is_quoted_by_its_kind():
    assert brief(EOFError()) == "EOFError"


def test_few_faults_are_listed_whole():
    assert listed(["a", "b"]) == "2 fault(s).\n  - a\n  - b"


def test_of_many_faults_the_first_twenty_are_listed_and_all_are_counted():
    text = listed([f"fault {i}" for i in range(23)])
    assert text.startswith("23 fault(s).")
    assert "fault 19\n" in text
    assert "fault 20" not in text
    assert text.endswith("... and 3 more")


def test_a_long_fault_is_shown_by_its_ends():
    text = listed([f"line 1: X is '{'x' * 100_000}'; expected a number"])
    assert len(text) < 600
    assert "line 1: X is 'xxx" in text
    assert text.endswith("xxx'; expected a number")


def test_a_few_names_are_shown_in_full():
    assert some(["a", "b"]) == "a, b"
    assert some([]) == ""


def test_of_many_names_the_first_ten_are_shown_and_the_rest_counted():
    assert some([f"c{n}" for n in range(300_000)]) == (
        "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 299990 more"
    )


def test_a_long_name_is_shown_by_its_ends():
    told = some(["a" + "b" * 100_000 + "c", "d"])
    assert len(told) < 100
    assert told.startswith("abb")
    assert told.endswith("bbc, d")


def test_causes_start_at_the_error_and_come_once_each():
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    assert list(causes(first)) == [first, second, third]


class TestOneLine:
    def test_a_single_place_keeps_its_own_words(self):
        assert one_line(["A is odd."], "are odd", ["A"]) == ["A is odd."]
        assert one_line([], "are odd", []) == []

    def test_many_places_are_counted_and_the_first_named(self):
        names = [f"P{n}" for n in range(12)]
        (told,) = one_line([f"{name} is odd." for name in names], "patients are odd", names)
        assert told == f"12 patients are odd: {', '.join(names[:10])} and 2 more."
