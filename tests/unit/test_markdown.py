"""Texts of others stay texts in Markdown, by a reader that would let HTML through."""

import html
import re

import markdown_it
import pytest

from quern import markdown

NASTY = [
    "<img src=x onerror=alert(1)> | *Model* <b>",
    "[here](https://x.example) ![i](u) [x]: y",
    "Q8_0 _x_ __y__ a_b_c ~~s~~",
    "`code` \\` &lt; &amp; <!-- ",
    "# h",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_cell_of_a_table_stays_a_cell(text):
    page = f"| a | b |\n| --- | --- |\n| x {markdown.escaped(text)} | y |\n"
    reader = markdown_it.MarkdownIt("commonmark", {"html": True})
    cells = re.findall("<td>(.*?)</td>", reader.enable(["table", "strikethrough"]).render(page))
    assert [html.unescape(cell) for cell in cells] == [f"x {text.strip()}", "y"]
    assert "<" not in cells[0]


def test_one_line_that_can_be_seen():
    assert markdown.line(" a\n---\r\n\u2028b\x1b[31m\u202ec\x00 ") == "a --- b[31mc"
    assert markdown.escaped("Llama 3.2 1B (v1), Q4_K_M") == "Llama 3.2 1B (v1), Q4_K_M"
