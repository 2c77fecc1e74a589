import copy
import io
import pickle

import pytest
import torch
from torch import Tensor

from recon.methods import GramianMethod, Method, RandomMethod, create_method

RANDOM = ["pcgrad", "graddrop"]


def draws(method: Method, times: int = 3) -> list[list[float]]:
    jacobian = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return [method.combine(jacobian).tolist() for _ in range(times)]


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_is_reproduced_by_seed_and_reseed(name: str) -> None:
    first, method = draws(create_method(name, seed=5)), create_method(name)
    assert first[0] != first[1]
    assert draws(method) != first
    method.reseed(5)
    assert draws(method) == first


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_continues_from_a_checkpoint(name: str) -> None:
    method = create_method(name, seed=5)
    draws(method)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = draws(method)
    file.seek(0)
    resumed = create_method(name)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert draws(resumed) == expected


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda method: pickle.loads(pickle.dumps(method))])
def test_a_copy_draws_on_its_own(name: str, copied: type) -> None:
    method = create_method(name, seed=5)
    twin = copied(method)
    assert draws(twin) == draws(method)


@pytest.mark.parametrize("name", RANDOM)
def test_neither_reads_nor_moves_the_global_generator(name: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draws(create_method(name))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_randomness_on_an_accelerator_continues_from_a_checkpoint() -> None:
    method, jacobian = create_method("graddrop"), torch.randn(3, 100, device="cuda")
    method.cuda().combine(jacobian)
    state = copy.deepcopy(method.state_dict())
    expected = method.combine(jacobian)
    resumed = create_method("graddrop", seed=9)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.combine(jacobian), expected)


def test_a_random_method_is_written_like_any_other() -> None:
    class Coin(RandomMethod, GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.rand(len(gramian), generator=self.generator, dtype=torch.float64)

    assert torch.equal(Coin(seed=1).weights(torch.eye(2)), Coin(seed=1).weights(torch.eye(2)))
    assert repr(Coin(seed=1)) == "Coin(seed=1)"
