"""Draw docs/results.svg from the tables of docs/results.md: `python docs/results_figure.py`."""

import re
from pathlib import Path

PAGE = Path(__file__).with_name("results.md")
ROW = r"^\| ([^|]+) \| (0\.\d+)(?: \((0\.\d+) to (0\.\d+)\))? \|"
TITLES = {
    "All 163 patients": "163 patients, nested cross-validation",
    "53 patients that nobody had looked at": "53 other patients, judged once",
}
LEFT, TOP, STEP, PER_POINT = 250, 62, 30, 780  # pixels


def draw(page: str) -> str:
    """Draw the balanced accuracies of the page's two tables, with their intervals.

    Args:
        page: the text of docs/results.md.

    Returns:
        An SVG of fixed colours on white, readable in grey.
    """
    parts = []
    y = TOP
    for heading, title in TITLES.items():
        section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
        parts.append(f'<text x="16" y="{y}" font-weight="bold">{title}</text>')
        for name, value, low, high in re.findall(ROW, section, re.MULTILINE):
            y += STEP
            at, control = _x(value), name.endswith("alone")
            colour = "#777777" if control else "#20408f"
            parts.append(f'<text x="{LEFT - 14}" y="{y + 5}" text-anchor="end">{name}</text>')
            if low:
                parts.append(
                    f'<path d="M{_x(low)} {y}H{_x(high)}" stroke="{colour}" stroke-width="3"/>'
                )
            fill = "white" if control else colour
            parts.append(
                f'<circle cx="{at}" cy="{y}" r="6" fill="{fill}" stroke="{colour}" '
                f'stroke-width="2"/><text x="660" y="{y + 5}">{value}</text>'
            )
        y += 44
    ticks = "".join(
        f'<path d="M{_x(tick)} 78V{y - 30}" stroke="#dddddd"/>'
        f'<text x="{_x(tick)}" y="{y - 12}" text-anchor="middle">{tick:.1f}</text>'
        for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y + 44}" font-size="15" '
        'font-family="system-ui, sans-serif" fill="#222222">\n'
        "<title>Balanced accuracy of age and count, of pictures, and of both</title>\n"
        f'<rect width="720" height="{y + 44}" fill="white"/>\n'
        '<text x="16" y="30" font-size="19" font-weight="bold">'
        "Do pictures add to age and lymphocyte count?</text>\n"
        + ticks
        + "\n"
        + "\n".join(parts)
        + f'\n<text x="{LEFT}" y="{y + 10}">balanced accuracy (0.5 is chance); bars: 95 % intervals'
        f'</text>\n<text x="{LEFT}" y="{y + 30}">hollow: traces without any medical meaning</text>'
        "\n</svg>\n"
    )


def _x(value: float | str) -> float:
    return round(LEFT + (float(value) - 0.5) * PER_POINT, 1)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.with_suffix(".svg").write_text(draw(page), encoding="utf-8")
