"""Searches for conflict maps that keep every cosine, for the benchmarks of maps.

A search of the library keeps sums. A benchmark asks how the ranking grows with the steps, and at
which severity, so a recorded search keeps the cosine of each task pair in each layer at each step.
One file a search; a finished search is read, not repeated.
"""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import recon
from recon.experiments.cost import flops_of_sample
from recon.files.atomic import atomic_path
from recon.training import MultiTaskModule


@dataclass(frozen=True)
class Case:
    """A network on a data set.

    Attributes:
        title: Its name in tables.
        backbone: From a width, as text, to a new network; all widths have the same layer names.
        data: From the folder of data sets and a batch size to the data module.
        optimizer: From parameters to an optimizer.
        widths: The widths to search at, the narrowest first; the last is the long search.
        batch: Samples of a step.
        steps: Steps of the recorded searches, by width.
        top: Layers to select.
        severity: Severity of the scores.
        whole: What a whole search is: its width, and the samples that it sees.
        published: Name of the ranking that was published for it; ``None`` if there is none.
    """

    title: str
    backbone: Callable[[str], nn.Module]
    data: Callable[[Path, int], pl.LightningDataModule]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    widths: tuple[str, ...]
    batch: int
    steps: dict[str, int]
    top: int
    severity: float
    whole: tuple[str, int]
    published: str | None = None


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


CASES = {
    "resnet18": Case(
        title="ResNet-18, Multi-Fashion+MNIST",
        backbone=lambda width: recon.models.ResNet18(width=int(width)),
        data=lambda root, batch: recon.data.MultiFashionMNIST(
            str(root), train_size=20_000, test_size=100, batch_size=batch
        ),
        optimizer=_sgd,
        widths=("4", "8", "16"),
        batch=128,
        steps={"4": 312, "8": 468, "16": 156},
        top=25,
        severity=-0.1,
        whole=("64", 40 * 120_000),
        published="multi-fashion-mnist-resnet18",
    ),
    "segnet": Case(
        title="SegNet, built-in rooms",
        backbone=lambda width: recon.models.SegNet(width=int(width)),
        data=lambda root, batch: recon.data.Rooms(train_size=1000, val_size=2, height=48, width=64, batch_size=batch),
        optimizer=_adam,
        widths=("2", "4", "8"),
        batch=8,
        steps={"2": 120, "4": 240, "8": 240},
        top=20,
        severity=0.0,
        whole=("64", 16 * 1000),
    ),
    "lcnet": Case(
        title="timm's LCNet, glyphs",
        backbone=lambda width: recon.models.timm_backbone(f"lcnet_{width}"),
        data=lambda root, batch: recon.data.Glyphs(train_size=10_000, test_size=100, batch_size=batch),
        optimizer=_adam,
        widths=("035", "100"),
        batch=32,
        steps={"035": 160, "100": 160},
        top=25,
        severity=-0.1,
        whole=("100", 40 * 10_000),
    ),
}


@dataclass(frozen=True)
class Search:
    """A search to record.

    Attributes:
        network: Its name in ``CASES``.
        width: Width of the network.
        batch: Samples of a step.
        method: Method that trains.
        seed: Seed of weights and order.
        steps: Number of steps, all observed.
    """

    network: str
    width: str
    batch: int
    method: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.network}-width{self.width}-batch{self.batch}-{self.method}-seed{self.seed}-steps{self.steps}"

    @property
    def case(self) -> Case:
        """The network on its data set."""
        return CASES[self.network]


@dataclass(frozen=True)
class Record:
    """What a search has seen.

    Attributes:
        layers: The L layers, in forward order.
        cosines: (T, L, P) cosines of the task pairs, NaN where a pair had none.
        flops: Operations of a forward pass of the backbone for one sample.
        tasks: Number of tasks.
        seconds: Processor time of the training.
    """

    layers: tuple[str, ...]
    cosines: NDArray[np.float32]
    flops: int
    tasks: int
    seconds: float

    def scores(self, severity: float, steps: slice = slice(None)) -> NDArray[np.int64]:
        """(L,): the S-conflict scores over some of the steps."""
        return (self.cosines[steps] < severity).sum(axis=(0, 2))

    def operations(self, batch: int, steps: int, every: int = 1) -> float:
        """Operations of a search of joint training in so many steps; a backward is two forwards.

        A step that is observed has one backward a task, and any other step one.
        """
        observed = -(-steps // every)
        return self.flops * batch * (observed * (1 + 2 * self.tasks) + (steps - observed) * 3)


class _Stopwatch(pl.Callback):
    """Processor time of the training alone: data sets may be rendered before it."""

    began = ended = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.process_time()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = time.process_time()


@dataclass
class Recorder:
    """Adds the recording of cosines to an analyzer's ``observe``."""

    cosines: list[Tensor] = field(default_factory=list)

    def attach(self, analyzer: recon.ConflictAnalyzer) -> recon.ConflictAnalyzer:
        observe = analyzer.observe

        def recorded(gramians: Tensor) -> None:
            observe(gramians)
            norms = gramians.double().diagonal(dim1=1, dim2=2).sqrt()
            cosines = gramians.double() / (norms[:, :, None] * norms[:, None, :])
            first, second = torch.triu_indices(*gramians.shape[1:], offset=1)
            self.cosines.append(cosines[:, first, second].float().cpu())

        analyzer.observe = recorded  # type: ignore[method-assign]
        return analyzer


def quiet(threads: int) -> None:
    """Give torch its threads, and silence Lightning, whose comments concern choices made here."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def record(search: Search, data: Path, out: Path) -> Record:
    """Carry out a search, or read its file in ``out``."""
    path = out / f"{search.name}.npz"
    if not path.exists():
        found = _train(search, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                layers=np.array(found.layers),
                cosines=found.cosines,
                numbers=np.array([found.flops, found.tasks, found.seconds], dtype=np.float64),
            )
    with np.load(path) as file:
        flops, tasks, seconds = file["numbers"].tolist()
        return Record(tuple(file["layers"].tolist()), file["cosines"], int(flops), int(tasks), seconds)


def flops_at(network: str, width: str, data: Path) -> int:
    """Operations of a forward pass of a case's network at some width, for one sample."""
    case = CASES[network]
    return flops_of_sample(case.backbone(width), case.data(data, 1))


def _train(search: Search, data: Path) -> Record:
    case = search.case
    pl.seed_everything(search.seed, verbose=False)
    loader = case.data(data, search.batch)
    module = MultiTaskModule(case.backbone(search.width), loader.tasks, method=search.method, optimizer=case.optimizer)
    recorder = Recorder()
    module.analyzer = recorder.attach(recon.ConflictAnalyzer(module.backbone, module.task_names))
    trainer = pl.Trainer(
        max_steps=search.steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[stopwatch := _Stopwatch()],
    )
    trainer.fit(module, datamodule=loader)
    return Record(
        module.analyzer.layers,
        torch.stack(recorder.cosines).numpy(),
        flops_of_sample(module.backbone, loader),
        len(module.tasks),
        stopwatch.ended - stopwatch.began,
    )
