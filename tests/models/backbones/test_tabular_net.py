import pytest
import torch
from torch import nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import MLP, ColumnEmbedding, MMoE, TabularNet

ROWS = torch.tensor([[0.0, 4.0, 0.5, -1.0], [2.0, 0.0, 1.5, 3.0]])
"""Two rows with places of 3 and of 5, and two numbers."""


def test_each_column_has_vectors_of_its_own_for_its_places() -> None:
    embedding = ColumnEmbedding([3, 5], numbers=2, size=4)
    assert embedding.weight is not None
    columns = [nn.Embedding.from_pretrained(part) for part in embedding.weight.split([3, 5])]
    expected = torch.cat([columns[0](ROWS[:, 0].long()), columns[1](ROWS[:, 1].long()), ROWS[:, 2:]], dim=1)
    torch.testing.assert_close(embedding(ROWS), expected)


def test_features_are_those_of_linear_layers_with_relu() -> None:
    net = TabularNet([3, 5], numbers=2, embedding=4, widths=[6, 3])
    x = net.embedding(ROWS)
    for layer in net.layers:
        x = (x @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(net(ROWS), x)
    assert net.num_features == 3


def test_its_layers_are_the_embedding_and_the_linear_ones() -> None:
    net = TabularNet([3, 5], numbers=2, widths=[6, 3])
    assert list(shared_layers(net)) == ["embedding", "layers.0", "layers.1"]
    numbers_alone = TabularNet(numbers=4, widths=[6, 3])
    assert list(shared_layers(numbers_alone)) == ["layers.0", "layers.1"]
    branched = recon.branch(numbers_alone, ["layers.0"], ["a", "b"])
    torch.testing.assert_close(branched(ROWS)["b"], numbers_alone(ROWS))


@pytest.mark.parametrize("layers", [["embedding"], ["layers.0"], ["embedding", "layers.0", "layers.1"]])
def test_it_can_be_branched(layers: list[str]) -> None:
    net = TabularNet([3, 5], numbers=2, widths=[6, 3])
    branched = recon.branch(net, layers, ["a", "b"])
    for features in branched(ROWS).values():
        torch.testing.assert_close(features, net(ROWS))


def test_a_table_of_numbers_alone_and_one_of_categories_alone_will_do() -> None:
    assert TabularNet(numbers=4, widths=[5])(ROWS).shape == (2, 5)
    assert TabularNet([3, 5, 2, 2], widths=[5])(ROWS.abs().floor().clamp(max=1)).shape == (2, 5)


def test_dropout_is_for_training_alone() -> None:
    net = TabularNet(numbers=4, widths=[64], dropout=0.5)
    assert not torch.equal(net(ROWS), net(ROWS))
    net.eval()
    torch.testing.assert_close(net(ROWS), net(ROWS))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows of shape \(2, 4\) do not fit 2 columns of categories and 3 of numbers"):
        TabularNet([3, 5], numbers=3)(ROWS)


@pytest.mark.parametrize(
    "options", [{}, {"numbers": -1}, {"categories": [0]}, {"numbers": 1, "embedding": 0}, {"numbers": 1, "widths": []}]
)
def test_sizes_that_make_no_network_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="give "):
        TabularNet(**options)


def test_columns_can_be_the_input_layer_of_experts() -> None:
    columns = ColumnEmbedding([3, 5], numbers=2, size=4)
    network = MMoE(lambda: MLP(columns.num_features, [6, 3]), experts=2, input_layer=columns)
    branched = recon.branch(network, network.task_specific_layers(), ["a", "b"])
    engine = recon.Engine(branched, ["a", "b"], "pcgrad")
    engine.backward({task: features.square().mean() for task, features in branched(ROWS).items()})
    trained = {name for name, parameter in branched.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in branched.named_parameters()}
