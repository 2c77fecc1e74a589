"""What a benchmark says of Recon, in sentences that are computed from its numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

from recon.errors import number_of
from recon.experiments.report.differences import Difference
from recon.plot.rows import row_name

Row = Mapping[str, Any]


def verdict(summary: Iterable[Row], found: Iterable[Difference]) -> str:
    """Sentences on each entry with plain runs and + Recon: gain, price, and its controls.

    Args:
        summary: The rows, see :func:`recon.experiments.report.summary.summarise`.
        found: The paired differences of :func:`recon.experiments.report.differences.differences`.

    Returns:
        A paragraph an entry; empty if no entry has both rows.
    """
    rows = {row_name(row): row for row in summary if row["delta_m"] is not None}
    pairs = {(one.first, one.second): one for one in found}
    entries = [row["method"] for row in rows.values() if row["variant"] == "recon"]
    return "\n\n".join(_of_entry(entry, rows, pairs) for entry in entries if (f"{entry} + Recon", entry) in pairs)


def _of_entry(entry: str, rows: Mapping[str, Row], pairs: Mapping[tuple[str, str], Difference]) -> str:
    plain, recon = rows[entry], f"{entry} + Recon"
    sentences = [_gain(plain, rows[recon], pairs[recon, entry])]
    for control in rows.values():
        name = row_name(control)
        if control["method"] == entry and name != entry and (recon, name) in pairs:
            sentences.append(_beside(control, plain, pairs[recon, name]))
    return "\n".join(sentences)


def _gain(plain: Row, recon: Row, gap: Difference) -> str:
    lost = -plain["delta_m"]["mean"]
    points = f"the {lost:.1f} points that {plain['method']} loses to single-task networks"
    if lost <= 0 or gap.mean <= 0:
        of_lost = " points"
    else:
        of_lost = f" points, more than {points}" if round(gap.mean, 1) > round(lost, 1) else f" of {points}"
    return f"{row_name(recon)} {_changes(gap.mean)}{of_lost}, for {_price(recon)}: {_certainty(gap)}."


def _beside(control: Row, plain: Row, gap: Difference) -> str:
    gain = control["delta_m"]["mean"] - plain["delta_m"]["mean"]
    over = round(gap.mean, 1) + 0.0  # no -0.0
    return (
        f"{row_name(control)} {_changes(gain)}, for {_price(control)}; + Recon over it {over:+.1f}: {_certainty(gap)}."
    )


def _changes(points: float) -> str:
    return f"{'loses' if round(points, 1) < 0 else 'gains'} {abs(points):.1f}"


def _price(row: Row) -> str:
    growths = {"parameters": row["parameters_growth"], "FLOPs": row["flops_growth"]}
    return " and ".join(f"{growth:+.0%} {name}" for name, growth in growths.items() if growth is not None)


def _certainty(gap: Difference) -> str:
    if gap.interval is None:
        return "one seed, so nothing is distinguishable"
    low, high = gap.interval
    return f"{gap.verdict} ({low:+.1f} to {high:+.1f}, better in {gap.wins} of {number_of(len(gap.seeds), 'seed')})"
