from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SIZE = (6, 8)


def random_scene(generator: np.random.Generator, size: tuple[int, int], classes: int) -> dict[str, np.ndarray]:
    """Arrays of one scene as they are stored, with pixels without truth in each."""
    hole = {name: generator.random(size) < 0.2 for name in ("label", "depth", "normal")}
    normal = generator.normal(size=(*size, 3)) + 1e-6
    return {
        "image": generator.integers(0, 256, (*size, 3), np.uint8),
        "label": np.where(hole["label"], -1, generator.integers(0, classes, size)).astype(np.int8),
        "depth": np.where(hole["depth"], 0, generator.uniform(0.5, 10, size)).astype(np.float32),
        "normal": np.where(
            hole["normal"][..., None], 0, normal / np.linalg.norm(normal, axis=-1, keepdims=True)
        ).astype(np.float32),
    }


@pytest.fixture
def write_layout(tmp_path: Path) -> Callable[..., Path]:
    """Writes a layout of random scenes and gives its root; ``label`` names the folder of labels."""

    def write(
        train: int = 5, val: int = 3, size: tuple[int, int] = SIZE, classes: int = 13, label: str = "label"
    ) -> Path:
        generator = np.random.default_rng(0)
        root = tmp_path / "layout"
        for split, scenes in (("train", train), ("val", val)):
            for index in range(scenes):
                for name, array in random_scene(generator, size, classes).items():
                    file = root / split / (label if name == "label" else name) / f"{index}.npy"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    np.save(file, array)
        return root

    return write
