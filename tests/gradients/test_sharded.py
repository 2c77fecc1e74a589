"""Task gradients of several processes, beside the sum of all in one."""

from collections.abc import Sequence

import pytest
import torch
from in_threads import Board, ThreadProcesses
from torch import Tensor, nn

from recon.gradients.buffer import TaskGradients
from recon.gradients.processes import Processes
from recon.gradients.sharded import ShardedGradients, SummedGradients, gradients_for

Layers = dict[str, list[nn.Parameter]]


def layers_of(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype = torch.float64) -> Layers:
    return {str(i): [nn.Parameter(torch.zeros(shape, dtype=dtype))] for i, shape in enumerate(shapes)}


def fill(layers: Layers, gradients: TaskGradients | ShardedGradients, row: int, seed: int, skip: str = "") -> None:
    for name, (parameter,) in layers.items():
        if name != skip:
            draw = torch.Generator().manual_seed(100 * seed + int(name))
            parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter.dtype)
    gradients.fill_row(row)


def in_threads(number: int, function: object) -> list[object]:
    import threading

    board, results = Board(number), [None] * number

    def one(rank: int) -> None:
        try:
            results[rank] = function(ThreadProcesses(board, rank))  # type: ignore[operator]
        except Exception as error:
            results[rank] = error  # type: ignore[call-overload]
        finally:
            board.end(rank)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("whole_rows", [False, True])
@pytest.mark.parametrize("shapes", [[(3, 4), (5,)], [(2,), (1,), (7, 3)], [(1,)], [(2,)]])
@pytest.mark.parametrize("number", [2, 3])
def test_rows_gramians_norms_and_updates_are_those_of_the_summed_gradients(
    number: int, shapes: list[tuple[int, ...]], whole_rows: bool
) -> None:
    tasks, weights = 3, torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    layers = layers_of(shapes)
    expected = TaskGradients(layers, tasks)
    parts = []
    for rank in range(number):
        for task in range(tasks):
            fill(layers, expected, task, 10 * rank + task)
        parts.append(expected.jacobian.clone())
    jacobian = torch.stack(parts).sum(0)
    expected.rows[:, : expected.size] = jacobian
    update = weights @ jacobian
    expected.add_to_grad(update)

    def one(processes: ThreadProcesses) -> None:
        layers = layers_of(shapes)
        gradients = gradients_for(layers, tasks, processes, whole_rows)
        assert type(gradients) is (SummedGradients if whole_rows else ShardedGradients)
        for _ in range(2):
            for task in range(tasks):
                fill(layers, gradients, task, 10 * processes.rank + task)
                gradients.send_row(task)
            gradients.complete(range(tasks))
        columns = gradients.columns
        torch.testing.assert_close(gradients.jacobian, jacobian[:, columns])
        torch.testing.assert_close(gradients.layer_gramians(), expected.layer_gramians())
        torch.testing.assert_close(gradients.norm(update[columns]), update.norm())
        gradients.add_to_grad(weights @ gradients.jacobian)
        for (parameter,), (other,) in zip(layers.values(), expected.by_layer.values(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)

    assert in_threads(number, one) == [None] * number


@pytest.mark.parametrize("whole_rows", [False, True])
def test_a_row_without_gradients_here_forgets_those_of_others_from_the_step_before(whole_rows: bool) -> None:
    def one(processes: ThreadProcesses) -> Tensor:
        layers = layers_of([(4,), (3,)])
        gradients = gradients_for(layers, 2, processes, whole_rows)
        for _ in range(3):
            for task in range(2):
                if processes.rank == 0:
                    fill(layers, gradients, task, task)
                else:
                    gradients.fill_row(task)
                gradients.send_row(task)
            gradients.complete([0, 1])
        return gradients.layer_gramians()

    layers = layers_of([(4,), (3,)])
    alone = TaskGradients(layers, 2)
    for task in range(2):
        fill(layers, alone, task, task)
    for found in in_threads(2, one):
        torch.testing.assert_close(found, alone.layer_gramians())


@pytest.mark.parametrize("whole_rows", [False, True])
def test_rows_of_some_tasks_move_to_the_top_and_unreached_parameters_keep_no_grad(whole_rows: bool) -> None:
    def one(processes: ThreadProcesses) -> tuple[Tensor, list[Tensor | None]]:
        layers = layers_of([(4,), (3,), (2,)])
        gradients = gradients_for(layers, 3, processes, whole_rows)
        for task in (1, 2):
            fill(layers, gradients, task, task, skip="1")
            gradients.send_row(task)
        gradients.complete([1, 2])
        gradients.add_to_grad(gradients.jacobian.sum(0))
        return gradients.layer_gramians(), [own[0].grad for own in layers.values()]

    (first, grads), (second, _) = in_threads(2, one)
    torch.testing.assert_close(first, second)
    assert first.shape == (3, 2, 2)
    assert not first[1].any()
    assert [grad is None for grad in grads] == [False, True, False]


@pytest.mark.parametrize("whole_rows", [False, True])
def test_held_rows_are_added_to_and_summed(whole_rows: bool) -> None:
    def one(processes: ThreadProcesses) -> Tensor:
        layers = layers_of([(4,), (3,)])
        gradients = gradients_for(layers, 2, processes, whole_rows)
        gradients.hold_rows()
        for task in range(2):
            fill(layers, gradients, task, task)
        for task in range(2):
            gradients.scale_row(task, 0.5)
            layers["0"][0].grad = torch.ones(4, dtype=torch.float64)
            gradients.add_row(task)
            gradients.send_row(task)
        gradients.complete([0, 1])
        update = gradients.jacobian.sum(0)
        gradients.add_to_grad(update)
        return torch.cat([own[0].grad for own in layers.values()])  # type: ignore[misc]

    layers = layers_of([(4,), (3,)])
    alone = TaskGradients(layers, 2)
    for task in range(2):
        fill(layers, alone, task, task)
    expected = 2 * (alone.jacobian * 0.5 + torch.cat([torch.ones(4), torch.zeros(3)])).sum(0)
    for found in in_threads(2, one):
        torch.testing.assert_close(found, expected)


def test_one_process_takes_the_plain_buffer() -> None:
    assert type(gradients_for(layers_of([(2,)]), 2, Processes(), whole_rows=True)) is TaskGradients
