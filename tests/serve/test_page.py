"""The page's files, without a browser."""

import re
from html.parser import HTMLParser

import pytest

from lymphocytosis.serve.app import PAGE

VOID = {"meta", "link", "img", "input", "br"}
HTML = (PAGE / "index.html").read_text(encoding="utf-8")
SCRIPT = (PAGE / "page.js").read_text(encoding="utf-8")
STYLE = (PAGE / "page.css").read_text(encoding="utf-8")


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.attributes, self.faults = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


@pytest.fixture(scope="module")
def read():
    reader = _Reader()
    reader.feed(HTML)
    return reader


def test_tags_are_closed_and_ids_are_there_once(read):
    assert read.faults == []
    assert read.open == []
    assert len(set(read.ids)) == len(read.ids)


def test_what_refers_to_an_id_finds_it(read):
    named = {
        word
        for _, name, value in read.attributes
        if name in ("for", "aria-labelledby", "aria-describedby")
        for word in value.split()
    }
    assert named <= set(read.ids)
    used = set(re.findall(r'\bid\("([\w-]+)"\)', SCRIPT))
    used |= set(re.findall(r'\blist\("([\w-]+)"', SCRIPT))
    assert len(used) > 20
    assert used <= set(read.ids)


def test_every_input_has_a_label(read):
    inputs = {value for tag, name, value in read.attributes if tag == "input" and name == "id"}
    labels = {value for tag, name, value in read.attributes if tag == "label" and name == "for"}
    assert inputs == labels


def test_nothing_from_outside_and_nothing_inline(read):
    for text in (HTML, SCRIPT, STYLE):
        assert not re.search(r"https?://|//[a-z]+\.", text)
    assert not [name for _, name, _ in read.attributes if name.startswith("on") or name == "style"]
    assert "innerHTML" not in SCRIPT
    assert "eval" not in SCRIPT


def test_the_files_it_names_are_served(client, read):
    named = {v for _, n, v in read.attributes if n in ("src", "href") and v.startswith("/")}
    assert {"/page/page.js", "/page/page.css", "/page/icon.svg"} <= named
    for path in named:
        assert client.get(path).status_code == 200, path
    assert client.get("/page/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/").text == HTML


def test_every_advice_has_words():
    for advice in ("refer", "do not refer", "look again"):
        assert re.search(rf'["\s]{advice}"?: \[', SCRIPT)


def test_the_not_a_device_words_are_the_cards_alone():
    assert "medical device" not in HTML
