"""A reader of pages that is independent of what wrote them."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Collects what a test asks a page for.

    Attributes:
        tables: rows of cells' texts, by the table's id.
        tags: every tag's name and attributes.
        scripts: each script's attributes and text.
        styles: each style's text.
        texts: all text outside scripts and styles.
        faults: tags that close another than the last one opened.
    """

    def __init__(self, page):
        super().__init__()
        self.tables, self.tags, self.scripts, self.styles = {}, [], [], []
        self.texts, self.faults, self._open, self._table, self._cell = [], [], [], None, None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id", len(self.tables)), [])
        if tag == "tr" and self._table is not None:
            self._table.append([])
        if tag in ("td", "th") and self._table is not None:
            self._cell = []
        if tag == "script":
            self.scripts.append([attributes, ""])
        if tag == "style":
            self.styles.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts[-1][1] += data
        elif inside == "style":
            self.styles[-1] += data
        else:
            self.texts.append(data)
            if self._cell is not None:
                self._cell.append(data)

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.faults.append(tag)
        if tag in ("td", "th") and self._cell is not None:
            self._table[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        if tag == "table":
            self._table = None
