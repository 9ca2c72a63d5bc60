"""Sums of a plan, by hand."""

from quern.cost import plan
from quern.cost.plan import Job

# Two models, each made and compared; the first is removed in between.
JOBS = [
    Job("briefly", 8, 0, 3600, 4e9, 40e9, ("model",), ("one.gguf", "one.json")),
    Job("compare", 8, 1, 1800, 9e9, 1e9, ("one.gguf",), ("one.h5",)),
    Job("quantize", 8, 0, 3600, 4e9, 30e9, ("model",), ("two.gguf", "two.json")),
    Job("compare", 8, 2, 1800, 8e9, 1e9, ("two.gguf",), ("two.h5",)),
    Job("table", 1, 0, 36, 1e9, 0, ("one.h5", "two.h5"), ("table.csv",)),
]


def test_jobs_add_up():
    found = plan.plan_of(JOBS, local={"table"}, temporary={"briefly"})
    assert list(found.stages) == ["briefly", "compare", "quantize", "table"]
    compare = found.stages["compare"]
    assert (compare.jobs, compare.submitted) == (2, 2)
    assert (compare.core_hours, compare.gpu_hours, compare.longest) == (8, 1.5, 1800)
    assert (compare.memory, compare.disk) == (9e9, 2e9)
    assert (found.total.jobs, found.total.submitted) == (5, 4)
    assert found.total.core_hours == 24.01


def test_what_is_removed_counts_until_its_last_reader_is_done():
    found = plan.plan_of(JOBS, temporary={"briefly"})
    assert (found.peak, found.kept) == (41e9, 32e9)
    whole = plan.plan_of(JOBS)
    assert whole.peak == whole.kept == 72e9


def test_what_lies_there_meanwhile_counts_at_its_peak_alone():
    mix = Job("mix", disk=3e9, scratch=2e9)
    found = plan.plan_of([Job("damage", disk=1e9), mix, mix])
    assert (found.peak, found.kept) == (5e9, 3e9)


def test_the_table_has_a_line_for_each_stage():
    lines = plan.text(plan.plan_of(JOBS, ["table"], ["briefly"]), ["One more thing."]).splitlines()
    assert [line.split("  ")[0] for line in lines[:6]] == [
        *("stage", "briefly", "compare", "quantize", "table", "in all"),
    ]
    assert lines[2].split() == [
        "compare",
        "2",
        "2",
        "8.00",
        "1.50",
        "30",
        "min",
        "9",
        "GB",
        "2",
        "GB",
    ]
    assert lines[-1] == "One more thing."
    assert plan.text(plan.plan_of([])) == "Nothing is left to be done."
