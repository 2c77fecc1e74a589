"""DSelect-k against the formulas of Hazimeh et al., NeurIPS 2021, and of the authors' code."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.models import MLP, DSelectK
from recon.models.architectures.dselect_k import SelectingGate, smooth_step


def sampled(gate: SelectingGate) -> SelectingGate:
    """The gate with codes on both sides of the smooth step, and inside it."""
    torch.manual_seed(3)
    nn.init.normal_(gate.code_weight, std=0.3)
    nn.init.normal_(gate.mix_weight)
    return gate.double()


def selectors(gate: SelectingGate, x: Tensor, experts: int) -> list[list[list[Tensor]]]:
    """Sample, selector, expert -> weight, as the paper writes it."""

    def step(t: Tensor) -> Tensor:
        if t <= -gate.gamma / 2:
            return t.new_zeros(())
        if t >= gate.gamma / 2:
            return t.new_ones(())
        return -2 / gate.gamma**3 * t**3 + 3 / (2 * gate.gamma) * t + 0.5

    bits = len(format(experts - 1, "b"))
    found = []
    for sample in x:
        found.append([])
        for selector in range(gate.k):
            rows = range(selector * bits, (selector + 1) * bits)
            code = [step(gate.code_weight[row] @ sample + gate.code_bias[row]) for row in rows]
            found[-1].append([])
            for expert in range(experts):
                weight = x.new_ones(())
                for number, digit in zip(code, format(expert, f"0{bits}b"), strict=True):
                    weight = weight * (number if digit == "1" else 1 - number)
                found[-1][-1].append(weight)
    return found


@pytest.mark.parametrize("experts", [4, 6])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_gate_weighs_experts_as_published(experts: int, gamma: float) -> None:
    gate = sampled(SelectingGate(5, experts, k=2, gamma=gamma, entropy=1e-6))
    x = torch.randn(7, 5, dtype=torch.float64)
    weights = gate(x)
    for sample, own, rows in zip(x, weights, selectors(gate, x, experts), strict=True):
        alphas = (gate.mix_weight @ sample + gate.mix_bias).exp()
        expected = sum(alphas[i] / alphas.sum() * torch.stack(rows[i]) for i in range(2))
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("experts", [4, 6])
def test_its_regulariser_is_the_entropy_and_keeps_to_codes_with_an_expert(experts: int) -> None:
    gate = sampled(SelectingGate(5, experts, k=2, gamma=1.0, entropy=0.01))
    x = torch.randn(7, 5, dtype=torch.float64)
    gate(x)
    expected = torch.zeros((), dtype=torch.float64)
    for row in (row for rows in selectors(gate, x, experts) for row in rows):
        expected = expected - 0.01 * sum(q * (q + 1e-6).log() for q in row)
        if experts == 6:
            expected = expected + 1 / sum(row)
    expected = expected / 7  # a mean over the samples
    term = gate.regulariser()
    torch.testing.assert_close(term, expected)
    grads = [torch.autograd.grad(value, gate.code_weight)[0] for value in (term, expected)]
    torch.testing.assert_close(*grads)


def test_the_regulariser_is_of_one_forward_in_training() -> None:
    gate = SelectingGate(5, 4, k=2, gamma=1.0, entropy=0.01)
    assert gate.regulariser() is None
    gate(torch.randn(3, 5))
    assert gate.regulariser() is not None
    assert gate.regulariser() is None
    with torch.no_grad():
        gate(torch.randn(3, 5))
    assert gate.regulariser() is None
    gate.eval()(torch.randn(3, 5))
    assert gate.regulariser() is None


def test_the_regulariser_of_a_batch_is_the_mean_of_those_of_its_micro_batches() -> None:
    gate = sampled(SelectingGate(5, 6, k=2, gamma=1.0, entropy=0.01))
    x = torch.randn(8, 5, dtype=torch.float64)

    def term(samples: Tensor) -> Tensor:
        gate(samples)
        found = gate.regulariser()
        assert found is not None
        return found

    torch.testing.assert_close(term(x), (3 * term(x[:3]) + 5 * term(x[3:])) / 8)
    torch.testing.assert_close(term(torch.cat([x, x])), term(x))


def test_a_selector_of_a_code_without_an_expert_leaves_the_regulariser_finite() -> None:
    gate = SelectingGate(5, 3, k=1, gamma=1.0, entropy=0.01)
    nn.init.ones_(gate.code_bias)  # code 11, of a fourth expert
    nn.init.zeros_(gate.code_weight)
    assert not gate(torch.randn(4, 5)).any()
    term = gate.regulariser()
    assert term is not None
    assert term.isfinite()
    term.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in gate.parameters())


def test_a_gate_can_be_copied_and_kept_after_a_forward() -> None:
    gate = SelectingGate(5, 4, k=2, gamma=1.0, entropy=0.01)
    gate(torch.randn(3, 5))
    for copied in (copy.deepcopy(gate), pickle.loads(pickle.dumps(gate))):
        assert copied.regulariser() is None
    assert gate.regulariser() is not None


def test_trained_codes_select_k_experts_at_most() -> None:
    gate = SelectingGate(5, 8, k=2, gamma=1.0, entropy=0.0)
    nn.init.normal_(gate.code_weight, std=1000)
    weights = gate(torch.randn(50, 5))
    assert ((weights > 0).sum(dim=1) <= 2).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(50))


def test_one_expert_has_the_whole_weight() -> None:
    gate = SelectingGate(5, 1, k=1, gamma=1.0, entropy=1e-6)
    assert torch.equal(gate(torch.randn(3, 5)), torch.ones(3, 1))


def test_it_starts_as_the_authors_code() -> None:
    gate = SelectingGate(100, 8, k=3, gamma=2.0, entropy=0.0)
    for parameters, bound in (((gate.code_weight, gate.code_bias), 0.02), ((gate.mix_weight, gate.mix_bias), 0.05)):
        largest = max(parameter.abs().max().item() for parameter in parameters)
        assert 0.9 * bound < largest <= bound


def test_its_parameters_are_those_of_the_formulas() -> None:
    network = DSelectK(lambda: MLP(6, [4]), experts=5, k=2, gate_inputs=6)
    net = recon.branch(network, network.task_specific_layers(), ["a", "b", "c"])
    gate = 2 * 3 * (6 + 1) + 2 * (6 + 1)  # codes of 3 bits for 5 experts, and the mix of 2 selectors
    assert sum(parameter.numel() for parameter in net.parameters()) == 5 * (6 * 4 + 4) + 3 * gate
    assert list(net.shared_layers()) == [f"experts.{i}.0" for i in range(5)]


def test_the_smooth_step_is_smooth() -> None:
    t = torch.tensor([-0.5, 0.5], dtype=torch.float64, requires_grad=True)
    smooth_step(t, 1.0).sum().backward()
    assert torch.equal(t.grad, torch.zeros(2, dtype=torch.float64))


def test_numbers_that_do_not_fit_are_refused() -> None:
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}; it must be from 1 to 4, the number of experts"):
            DSelectK(lambda: MLP(6, [4]), experts=4, k=k, gate_inputs=6)
    with pytest.raises(ValueError, match="gamma is 0"):
        DSelectK(lambda: MLP(6, [4]), experts=4, gamma=0, gate_inputs=6)
    with pytest.raises(ValueError, match="entropy is -1"):
        DSelectK(lambda: MLP(6, [4]), experts=4, entropy=-1, gate_inputs=6)
    with pytest.raises(ValueError, match="experts is 0"):
        DSelectK(lambda: MLP(6, [4]), experts=0, gate_inputs=6)
    with pytest.raises(ValueError, match="entropy is nan"):
        DSelectK(lambda: MLP(6, [4]), experts=4, entropy=float("nan"), gate_inputs=6)
