from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from recon.experiments.loggers import loggers_of
from recon.experiments.run import trainer_of


def test_each_run_has_loggers_with_its_own_folder_and_name(tmp_path: Path) -> None:
    asked = [
        {"class_path": "WandbLogger", "init_args": {"project": "mine", "offline": True}},
        "pytorch_lightning.loggers.CSVLogger",
        {"class_path": "pytorch_lightning.loggers.TensorBoardLogger"},
    ]
    for run in ("joint-plain-seed0", "cagrad-plain-seed0"):
        first, wandb, board = loggers_of(asked, tmp_path / run, run)
        assert isinstance(first, CSVLogger) and Path(first.log_dir) == tmp_path / run / "logs" / "version_0"
        assert isinstance(wandb, WandbLogger) and wandb._wandb_init["name"] == run
        assert (wandb._wandb_init["project"], wandb.save_dir) == ("mine", str(tmp_path / run))
        assert isinstance(board, TensorBoardLogger)
        assert Path(board.log_dir) == tmp_path / run / "tensorboard" / "version_0"


def test_a_trainer_of_a_run_has_them(tmp_path: Path) -> None:
    options = {"max_epochs": 1, "accelerator": "cpu", "logger": {"class_path": "TensorBoardLogger"}}
    kinds = [type(logger) for logger in trainer_of(options, tmp_path / "joint-plain-seed0", []).loggers]
    assert kinds == [CSVLogger, TensorBoardLogger]


@pytest.mark.parametrize("nothing", [None, True, False, []])
def test_the_csv_file_is_always_there(nothing: Any, tmp_path: Path) -> None:
    assert [type(logger) for logger in loggers_of(nothing, tmp_path, "joint")] == [CSVLogger]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"class_path": "WandLogger"},
            r"fit.trainer.logger is \{'class_path': 'WandLogger'\}, which is no logger; give",
        ),
        ({"class_path": "torch.nn.Linear"}, "which is no logger; give class_path, such as TensorBoardLogger"),
        (3, "fit.trainer.logger is 3, which is no logger"),
        (
            {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "here"}},
            "fit.trainer.logger.init_args.save_dir is set by the benchmark, run by run; leave it out",
        ),
    ],
)
def test_what_is_no_logger_is_refused(asked: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        loggers_of(asked, tmp_path, "joint")
