"""One process of a group on a GPU: three steps of CAGrad with its part of the samples."""

import os
import sys

import torch
import torch.distributed as dist
from three_heads import TASKS, ThreeHeads, samples, values
from torch import Tensor

import recon


def trained(x: Tensor) -> Tensor:
    """Parameters after the steps."""
    net = ThreeHeads(torch.float64).to(x.device)
    engine = recon.Engine(net.backbone, TASKS, "cagrad", recon.ConflictAnalyzer(net.backbone, TASKS))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(3):
        engine.step(lambda batch=None: net.losses(x), optimizer)
    return values(net).cpu()


def main(backend: str, rank: int, ranks: int) -> None:
    """Write the parameters into the working folder."""
    dist.init_process_group(backend, init_method=f"file://{os.getcwd()}/store", rank=rank, world_size=ranks)
    torch.save(trained(samples(8).tensor_split(ranks)[rank].cuda()), f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
