"""How much of a branched network's accuracy is lost to running statistics that tasks share.

    python benchmarks/batch_statistics.py DIR [--variants '[random,recon]']

A BatchNorm that stays shared behind a branched layer sees one activation per task, in turn, and its
running mean and variance mix them. Training normalises each task's activation by its own batch;
evaluation normalises both by the mix. This evaluates the finished runs of a benchmark folder twice,
with running statistics (as the results report) and with those of each evaluation batch, from the
same weights.
"""

from pathlib import Path

import torch
import yaml
from jsonargparse import auto_cli
from torch import nn

from recon.training.command import TrainingCLI
from recon.training.module import MultiTaskModule


def main(out: Path, variants: tuple[str, ...] = ("random", "recon")) -> None:
    """Print the accuracy of each run under both kinds of statistics.

    Args:
        out: Folder of a finished benchmark.
        variants: Which of its runs.
    """
    for directory in sorted((out / "runs").iterdir()):
        if any(f"-{variant}-" in directory.name for variant in variants):
            module, loader = _load(directory)
            running = _metrics(module.eval(), loader)
            batch = _metrics(_with_batch_statistics(module), loader)
            print(f"{directory.name:28} running statistics: {running}   batch statistics: {batch}", flush=True)


def _load(directory: Path) -> tuple[MultiTaskModule, torch.utils.data.DataLoader]:
    configuration = yaml.safe_load((directory / "config.yaml").read_text())
    configuration["trainer"] |= {"logger": False, "enable_checkpointing": False}
    cli = TrainingCLI(args=configuration, run=False)
    weights = torch.load(directory / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    cli.model.load_state_dict(weights)
    cli.datamodule.setup("test")
    return cli.model, cli.datamodule.test_dataloader()


def _with_batch_statistics(module: MultiTaskModule) -> MultiTaskModule:
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.train()
            norm.momentum = 0.0  # the running statistics stay as they are
    return module


@torch.no_grad()
def _metrics(module: MultiTaskModule, loader: torch.utils.data.DataLoader) -> dict[str, float]:
    metrics = {task.name: task.metrics() for task in module.tasks}
    for inputs, targets in loader:
        predictions = module(inputs)
        for task, named in metrics.items():
            for metric in named.values():
                metric.update(predictions[task], targets[task])
    return {
        f"{task}/{name}": round(metric.compute().item(), 4)
        for task, named in metrics.items()
        for name, metric in named.items()
    }


if __name__ == "__main__":
    auto_cli(main)
