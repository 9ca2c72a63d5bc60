"""The standard report of a finished sweep, and the calm view of a run."""

import os
import subprocess
import sys

from browser import browser, open_page
from conftest import HOUSE


def test_the_standard_report_opens_without_a_network(finished, tmp_path):
    result = finished.snakemake("--report", str(tmp_path / "report.html"))
    assert result.returncode == 0, result.stderr
    with browser() as opened:
        shown, wrong = open_page(opened, tmp_path / "report.html")
        shown.get_by_text("summary", exact=True).first.click()
        shown.get_by_text("pairs.csv", exact=True).wait_for()
        row = "xpath=//*[normalize-space(text())='{}']/following::a[1]"
        shown.click(row.format("picture"))
        shown.wait_for_function("[...document.images].some(i => i.naturalWidth > 100)")
        shown.click(row.format("pairs.csv"))
        table = shown.frame_locator("iframe").locator("table")
        table.locator("th").first.click()
        table.locator("th[aria-sort=ascending]").wait_for()
    assert [line for line in wrong if "tailwindcss" not in line] == []  # it advertises itself


def test_the_calm_view_says_a_line_for_each_job(house):
    (house.folder / "results/tiny/summary/topics.png").unlink()
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--logger", "calm"],
        cwd=house.folder,
        env=os.environ | {"PYTHONPATH": str(HOUSE / "plugins")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert lines[0].endswith("] summary  tiny, topics …") and "tiny, topics  " in lines[1]
    assert "rule summary" not in result.stderr
