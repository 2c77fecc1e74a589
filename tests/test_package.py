"""What `import recon` costs and gives, and what an editable install finds."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

import recon

HEAVY = (
    "pytorch_lightning",
    "lightning",
    "wandb",
    "timm",
    "matplotlib",
    "torchvision",
    "torchmetrics",
    "jsonargparse",
    "torchjd",
    "h5py",
    "torch._dynamo",
)


SUBMODULES = ("branching", "conflict", "methods", "metrics", "tasks")
"""Light ones; the table of imports in tests/test_pages.py holds the others in a process of its own too."""


def test_import_recon_takes_nothing_that_a_plain_training_loop_does_not_need_and_has_its_submodules() -> None:
    code = (
        f"import sys, recon; print(*(name for name in {HEAVY} if name in sys.modules));"
        f"print(*(getattr(recon, name).__name__ for name in {SUBMODULES}))"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy, names = process.stdout.splitlines()
    assert heavy == ""
    assert names.split() == [f"recon.{name}" for name in SUBMODULES]


def test_the_lightning_module_is_loaded_when_asked_for() -> None:
    from recon.training import MultiTaskModule

    assert recon.MultiTaskModule is MultiTaskModule


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(recon, name) is not None for name in recon.__all__)
    with pytest.raises(AttributeError, match="module 'recon' has no attribute 'MultitaskModule'"):
        _ = recon.MultitaskModule


def test_dir_lists_what_there_is() -> None:
    assert "MultiTaskModule" in dir(recon)
    assert all(getattr(recon, name) is not None for name in dir(recon))


CHECKOUT = Path(__file__).parents[1]

TYPED_SCRIPT = """\
import recon
from recon.version import __version__

reveal_type(__version__)
"""

ONLY_RECON = """\
[mypy]
follow_imports = skip

[mypy-recon.*]
follow_imports = silent
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in a folder of the package's own name."""
    clone = tmp_path / "recon"
    clone.mkdir()
    for name in ("recon", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (clone / name).symlink_to(CHECKOUT / name)
    return clone


def built(kind: str, clone: Path, out: Path) -> zipfile.ZipFile:
    """What `pip install .` (kind "wheel") or `pip install -e .` ("editable") would unpack into site-packages."""
    build = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    out.mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (wheel,) = out.iterdir()
    return zipfile.ZipFile(wheel)


def test_an_install_has_every_file_of_the_package_and_no_other(clone: Path, tmp_path: Path) -> None:
    package = CHECKOUT / "recon"
    files = {path.relative_to(CHECKOUT).as_posix() for path in package.rglob("*") if path.is_file()}
    with built("wheel", clone, tmp_path / "wheel") as wheel:
        installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == {name for name in files if "__pycache__" not in name}


def test_an_editable_install_writes_the_path_of_the_checkout(clone: Path, tmp_path: Path) -> None:
    with built("editable", clone, tmp_path / "wheel") as wheel:
        written = {name: wheel.read(name).decode().strip() for name in wheel.namelist() if ".dist-info/" not in name}
    (name,) = written
    assert name.endswith(".pth")
    assert Path(written[name]).resolve() == clone.resolve()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment with the packages that Recon needs, and without Recon."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def without_the_checkout() -> dict[str, str]:
    """The variables of a process that finds the installed Recon alone."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_an_installed_wheel_starts_the_demo(clone: Path, tmp_path: Path, environment: Path) -> None:
    built("wheel", clone, tmp_path / "wheel").close()
    (wheel,) = (tmp_path / "wheel").iterdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    folder = tmp_path / "empty"
    folder.mkdir()
    # The first Ctrl-C ends the runs in order; their folders say that they were begun.
    demo = subprocess.Popen(
        [environment / "bin" / "recon", "demo", "--jobs", "1"],
        cwd=folder,
        env=without_the_checkout(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not list(folder.glob("recon-demo/runs/*")) and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        demo.send_signal(signal.SIGINT)
        printed, _ = demo.communicate(timeout=120)
    assert list(folder.glob("recon-demo/runs/*")), printed


@pytest.mark.slow
def test_an_editable_install_is_found_beside_the_checkout_by_python_and_by_mypy(
    clone: Path, tmp_path: Path, environment: Path
) -> None:
    (site_packages,) = environment.glob("lib/python*/site-packages")
    with built("editable", clone, tmp_path / "wheel") as wheel:
        wheel.extractall(site_packages)
    python = environment / "bin" / "python"
    (tmp_path / "script.py").write_text("import recon\nprint(recon.create_method('cagrad'))\n")
    (tmp_path / "typed.py").write_text(TYPED_SCRIPT)
    (tmp_path / "mypy.ini").write_text(ONLY_RECON)

    def output(*command: str | Path) -> str:
        process = subprocess.run(
            command,
            check=False,
            cwd=tmp_path,
            env=without_the_checkout(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return process.stdout.decode()

    assert output(python, "script.py") == f"{recon.create_method('cagrad')}\n"
    types = output(sys.executable, "-m", "mypy", "--python-executable", python, "typed.py")
    assert 'Revealed type is "str"' in types
    assert "Success" in types
