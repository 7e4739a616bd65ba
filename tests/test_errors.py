from lymphocytosis.errors import brief, listed


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
