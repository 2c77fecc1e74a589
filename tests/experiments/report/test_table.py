import csv
import io
from typing import Any

from recon.experiments.report.table import csv_table, markdown_notes, markdown_table, row_name


def row(variant: str, **more: Any) -> dict[str, Any]:
    return {
        "method": "joint",
        "variant": variant,
        "seeds": [0, 1],
        "metrics": {"digit": {"accuracy": {"mean": 0.91236, "std": 0.01}}},
        "delta_m": {"mean": 1.5, "std": None},
        "delta_m_per_metric": {"mean": -1.5, "std": None},
        "parameters": 1234567.0,
        "parameters_growth": 0.025,
        "flops": 2.5e9,
        "conflict_rate": {"mean": 0.4567, "std": 0.02},
        "conflict_rate_plain": 0.5,
        "over_tasks": {"accuracy": {"mean": 0.91236, "std": 0.01, "tasks": 1}},
        "flops_growth": 0.99,
        "seconds": 61.4,
        **more,
    }


SUMMARY = [
    row(
        "single",
        method="single",
        metrics={
            "digit": {"accuracy": {"mean": 0.9, "std": None}},
            "letter": {"accuracy": {"mean": 0.8, "std": None}},
        },
        delta_m=None,
        delta_m_per_metric=None,
        parameters_growth=None,
        conflict_rate=None,
        conflict_rate_plain=None,
        flops_growth=None,
    ),
    row("recon"),
]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_are_called_what_a_reader_expects() -> None:
    names = [row_name(row(variant)) for variant in ("single", "plain", "recon", "random", "first", "last")]
    assert names == [
        "single-task",
        "joint",
        "joint + Recon",
        "joint + random layers",
        "joint + first layers",
        "joint + last layers",
    ]


def test_the_markdown_table_has_a_column_a_metric_and_leaves_out_what_is_not_known() -> None:
    header, rule, single, recon = markdown_table(SUMMARY).splitlines()
    assert cells(header)[1:4] == ["digit accuracy", "letter accuracy", "delta-m %"]
    assert set("".join(cells(rule))) == {"-"}
    assert cells(single) == ["single-task", "0.9000", "0.8000", "", "1,234,567", "", "2.5e+09", "", "", "2"]
    assert cells(recon) == [
        "joint + Recon",
        "0.9124 ± 0.0100",
        "",
        "+1.50",
        "1,234,567",
        "+2.5%",
        "2.5e+09",
        "+99.0%",
        "0.500 -> 0.457 ± 0.020",
        "2",
    ]
    assert len({len(line) for line in (header, rule, single, recon)}) == 1


METRIC = {"mean": 0.5, "std": None}


def test_where_tasks_differ_in_their_numbers_of_metrics_both_delta_m_are_shown_and_labelled() -> None:
    metrics = {"digit": {"accuracy": METRIC}, "depth": {"absolute": METRIC, "relative": METRIC}}
    header, _, line = markdown_table([row("plain", metrics=metrics)]).splitlines()
    titles = ["delta-m % (by task, higher is better)", "Δm % (CAGrad's, lower is better)"]
    assert cells(header)[4:6] == titles
    assert cells(line)[4:6] == ["+1.50", "-1.50"]


def test_where_all_tasks_have_as_many_metrics_one_delta_m_is_shown() -> None:
    metrics = {task: {"absolute": METRIC, "relative": METRIC} for task in ("depth", "disparity")}
    header, _, _ = markdown_table([row("plain", metrics=metrics)]).splitlines()
    assert [title for title in cells(header) if "m %" in title] == ["delta-m %"]


def test_more_metrics_than_a_page_shows_are_means_over_tasks_and_in_csv_each_by_itself() -> None:
    metrics = {f"attribute_{number}": dict.fromkeys(("accuracy", "f1"), METRIC) for number in range(40)}
    means = {"accuracy": {"mean": 0.9, "std": None, "tasks": 40}, "f1": {"mean": 0.8, "std": 0.1, "tasks": 40}}
    summary = [row("plain", metrics=metrics, over_tasks=means)]
    header, _, line = markdown_table(summary).splitlines()
    assert cells(header)[1:3] == ["accuracy, mean of 40", "f1, mean of 40"]
    assert cells(line)[1:3] == ["0.9000", "0.8000 ± 0.1000"]
    assert len(cells(header)) == 10
    (complete,) = csv.DictReader(io.StringIO(csv_table(summary)))
    assert sum(name.startswith("attribute_") for name in complete) == 40 * 2 * 2


def test_the_csv_table_is_unrounded() -> None:
    single, recon = csv.DictReader(io.StringIO(csv_table(SUMMARY)))
    assert recon["digit/accuracy mean"] == "0.91236"
    assert recon["digit/accuracy std"] == "0.01"
    assert recon["letter/accuracy mean"] == ""
    assert (recon["delta_m mean"], recon["delta_m std"]) == ("1.5", "")
    assert recon["delta_m_per_metric mean"] == "-1.5"
    assert (recon["parameters_growth"], recon["flops_growth"], recon["seconds"]) == ("0.025", "0.99", "61.4")
    assert single["conflict_rate mean"] == ""


def test_notes_say_what_the_spread_is_and_which_control_is_far_from_its_price() -> None:
    near = row("random_parameters", over_recon={"parameters": 0.001, "flops": -0.5})
    far = row("wide_parameters", over_recon={"parameters": 0.108, "flops": 0.0})
    alone = row("wide_flops", over_recon=None)
    assert markdown_notes([*SUMMARY, near, far, alone]).splitlines() == [
        "± is the standard deviation over the seeds of a row; their number is in the column seeds.",
        "joint wider, equal parameters: no nearer to + Recon than +10.8% of + Recon's parameters.",
    ]


def test_notes_say_that_one_seed_has_no_interval_and_nothing_of_a_single_row() -> None:
    plain, recon = (row(variant, seeds=[3], over_recon=None) for variant in ("plain", "recon"))
    expected = "One seed a row, so neither spread nor interval: `seeds: 5` in the plan gives both.\n"
    assert markdown_notes([plain, recon]) == expected
    assert markdown_notes([plain]) == ""
