"""Whose results a folder holds: a plan's, on data known by what they hold."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningDataModule

from recon.branching.task_tree import TaskTree, TreeStage
from recon.experiments import Plan
from recon.experiments.contents import content_of
from recon.experiments.fit import Fit
from recon.experiments.folder import Identity, ResultsFolder

PlanFactory = Callable[..., Plan]


class Files(LightningDataModule):
    """Data of two files."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def files_read(self) -> dict[str, Path]:
        return {name: self.root / name for name in ("images", "labels")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").write_bytes(bytes(1000))
    (root / "labels").write_bytes(b"0123456789")
    return root


@dataclass(frozen=True)
class Given(Fit):
    """A fit on data that no configuration names."""

    given: LightningDataModule = field(default_factory=LightningDataModule)

    def data(self) -> LightningDataModule:
        return self.given


def hold(plan: Plan, root: str | None, data: LightningDataModule, out: Path) -> None:
    with ResultsFolder(out).held(Identity.of(plan, Given(plan.fit, root, data))):
        pass


def claim(plan: Plan, root: Path | None, out: Path) -> None:
    if root is None:
        hold(plan, None, LightningDataModule(), out)
    else:
        hold(plan, str(root), Files(root), out)


def test_the_same_data_elsewhere_are_the_same(root: Path, tiny: PlanFactory, tmp_path: Path) -> None:
    claim(tiny(), root, tmp_path / "out")
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    (root / "labels").unlink()
    claim(tiny(), elsewhere, tmp_path / "out")


def test_a_changed_label_makes_other_data_even_with_its_time_set_back(
    root: Path, tiny: PlanFactory, tmp_path: Path
) -> None:
    claim(tiny(), root, tmp_path / "out")
    before = (root / "labels").stat()
    (root / "labels").write_bytes(b"0123456780")
    os.utime(root / "labels", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="holds the results of this plan on other data; give another --out"):
        claim(tiny(), root, tmp_path / "out")


def test_files_that_change_places_make_other_data(root: Path) -> None:
    before = content_of(Files(root))
    for name, other in (("images", "third"), ("labels", "images"), ("third", "labels")):
        (root / name).rename(root / other)
    assert content_of(Files(root)) != before


def test_only_what_has_changed_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content_of(Files(root))
    monkeypatch.setattr("hashlib.file_digest", pytest.fail)
    assert content_of(Files(root)) == first


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: "{}", lambda text: text.replace("sha256", "sha257")])
def test_damaged_checksums_are_made_again(damage: Callable[[str], str], root: Path, tmp_path: Path) -> None:
    first = content_of(Files(root))
    (kept,) = (tmp_path / "cache/recon/checksums").iterdir()
    kept.write_text(damage(kept.read_text()))
    assert content_of(Files(root)) == first


def test_the_folder_that_the_plan_names_does_not_count_either(root: Path, tiny: PlanFactory, tmp_path: Path) -> None:
    def on(folder: Path) -> Plan:
        fit = tiny().fit
        arguments = {**fit["data"]["init_args"], "root": str(folder)}
        return tiny(fit={**fit, "data": {**fit["data"], "init_args": arguments}})

    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    for folder in (root, elsewhere):
        hold(on(folder), None, Files(folder), tmp_path / "out")


def test_a_folder_that_knows_its_data_by_path_goes_on_and_knows_them_by_content_then(
    root: Path, tiny: PlanFactory, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    record: dict[str, Any] = {**tiny().to_dict(), "data": str(root), "map_sha256": {}}
    for entry in record["methods"]:
        del entry["at"], entry["model"], entry["tree"]  # of an earlier version still
    (out / "plan.json").write_text(json.dumps(record))
    claim(tiny(), root, out)
    (root / "labels").write_bytes(b"0000000000")
    with pytest.raises(ValueError, match="on other data"):
        claim(tiny(), root, out)


def test_another_task_tree_of_the_same_name_is_refused(tiny: PlanFactory, tmp_path: Path) -> None:
    stage = TreeStage("conv1", (("digit",), ("letter",)), ("conv1",))
    for seed, refusal in ((0, nullcontext()), (1, pytest.raises(ValueError, match="results of another plan"))):
        TaskTree(("digit", "letter"), (stage,), provenance={"seed": seed}).save(tmp_path / "tree.json")
        entry = {"method": "joint", "name": "bmtas", "tree": str(tmp_path / "tree.json"), "variants": ["plain"]}
        with refusal:
            hold(tiny(methods=[entry]), None, LightningDataModule(), tmp_path / "out")


def test_a_folder_begun_under_the_old_name_of_a_class_goes_on_under_the_new_one(
    tiny: PlanFactory, tmp_path: Path
) -> None:
    def rooms(name: str) -> Plan:
        return tiny(fit={**tiny().fit, "data": {"class_path": f"recon.data.{name}"}})

    (tmp_path / "plan.json").write_text(json.dumps({**rooms("Scenes").to_dict(), "data": None, "map_sha256": {}}))
    hold(rooms("Rooms"), None, LightningDataModule(), tmp_path)
    hold(rooms("Scenes"), None, LightningDataModule(), tmp_path)


def test_data_that_do_not_say_what_they_read_are_known_by_their_folder(
    root: Path, tiny: PlanFactory, tmp_path: Path
) -> None:
    def on(folder: str) -> None:
        hold(tiny(), folder, LightningDataModule(), tmp_path / "out")

    on(str(root))
    on(str(root))
    with pytest.raises(ValueError, match="on other data"):
        on(str(tmp_path))


def test_another_plan_is_refused(tiny: PlanFactory, tmp_path: Path) -> None:
    claim(tiny(), None, tmp_path)
    with pytest.raises(ValueError, match=r"another plan, 'tiny' \(what differs: top\)"):
        claim(tiny(top=1), None, tmp_path)


def test_what_killed_processes_had_begun_to_write_is_removed(tiny: PlanFactory, tmp_path: Path) -> None:
    claim(tiny(), None, tmp_path)
    run = tmp_path / "runs" / "joint-plain-seed0"
    run.mkdir(parents=True)
    killed = [folder / f".{name}.{'0f' * 8}.tmp" for folder, name in ((tmp_path, "results.json"), (run, "last.ckpt"))]
    for path in (*killed, run / "last.ckpt", run / "mine.tmp"):
        path.touch()
    claim(tiny(), None, tmp_path)
    assert {path.name for path in run.iterdir()} == {"last.ckpt", "mine.tmp"}
    assert not any(path.exists() for path in killed)
