import pytest
from some_runs import run

from recon.experiments.report.prices import delta_m_against_prices, priced
from recon.experiments.report.summary import summarise


def rows(*parameters: int) -> list[dict[str, object]]:
    variants = ("plain", "recon", "random", "norms", "least")
    runs = [
        run(variant, seed, parameters=count, flops=10 * count, delta_m=float(seed))
        for variant, count in zip(variants, parameters, strict=False)
        for seed in range(3)
    ]
    return summarise(runs)


def test_a_figure_needs_four_prices_of_the_network_of_plain_training() -> None:
    assert [row["variant"] for row in priced(rows(100, 110, 120, 130))] == ["plain", "recon", "random", "norms"]
    assert priced(rows(100, 110, 120)) == priced(rows(100, 110, 110, 120)) == []
    other = summarise([run("plain", method="wide", parameters=300, parameters_base=300, delta_m=1.0)])
    assert len(priced([*rows(100, 110, 120, 130), *other])) == 4


def test_each_row_stands_at_its_price_with_the_interval_of_its_mean() -> None:
    flops, parameters = delta_m_against_prices(priced(rows(100, 110, 120, 130))).axes
    for axes in (flops, parameters):
        points = [container.lines[0].get_xydata()[0] for container in axes.containers]
        assert [x for x, _ in points] == pytest.approx([0, 10, 20, 30])
        assert [y for _, y in points] == pytest.approx([1, 1, 1, 1])
        [low, high] = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((1 - 2.4841, 1 + 2.4841), abs=1e-3)  # t(0.975, 2) / sqrt(3)
