from lymphocytosis.errors import brief


def test_the_first_line_of_a_message_is_quoted():
    assert brief(ValueError("bad\nlong story")) == "ValueError: bad"


def test_an_error_without_a_message_is_quoted_by_its_kind():
    assert brief(EOFError()) == "EOFError"
