"""The files of PASCAL_MT, read with checks: one image and its five truths.

ImageSets/Context/{train,val}.txt    names of the images
JPEGImages/ID.jpg                    colours
semseg/VOC12/ID.png                  classes 0 to 20, 255: none; where there is none,
semseg/pascal-context/ID.png         the same
human_parts/ID.mat                   ``anno.objects``: class_ind (15: person), parts
normals_distill/ID.png               0 to 255 stand for -1 to 1
sal_distill/ID.png                   salient from 128 on
pascal-context/trainval/ID.mat       ``LabelMap``, 459 classes; edges come from it
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.data.dense.pascal_context import CLASSES
from recon.data.preparation.matlab import field, label_array, read_matlab, structs
from recon.data.preparation.normals import unit_or_zero
from recon.data.preparation.pictures import check_jpeg, check_png, check_size, decode, size_of
from recon.data.preparation.resizing import Size
from recon.errors import unknown_name

FOLDERS = (
    *("JPEGImages", "semseg", "human_parts", "normals_distill", "sal_distill", "pascal-context/trainval"),
    "ImageSets/Context",
)

_PERSON = 15
_NO_CLASS = 255

_PARTS = {
    1: ("hair", "head", "lear", "lebrow", "leye", "mouth", "nose", "rear", "rebrow", "reye"),
    2: ("neck", "torso"),
    3: ("luarm", "ruarm"),
    4: ("lhand", "llarm", "rhand", "rlarm"),
    5: ("luleg", "ruleg"),
    6: ("lfoot", "llleg", "rfoot", "rlleg"),
}
PART_LABELS = {name: label for label, names in _PARTS.items() for name in names}
"""Part of the body, 1 to 6, of each of the 24 annotated parts of a person."""

NORMAL_CLASSES = (
    *(3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56),
    *(59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122),
    *(124, 135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199),
    *(202, 213, 215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260),
    *(261, 263, 269, 272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310),
    *(314, 315, 319, 323, 329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380),
    *(383, 384, 397, 401, 403, 405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441),
    *(442, 443, 444, 446, 454, 457),
)
"""The classes of 459 whose normals count, because NYU Depth v2 has them too."""


@dataclass(frozen=True)
class Photograph:
    """The files of one image.

    Args:
        root: The folder PASCAL_MT.
        name: Name of the image, such as ``"2008_000002"``.
    """

    root: Path
    name: str

    @property
    def image_file(self) -> Path:
        """The image."""
        return self.root / "JPEGImages" / f"{self.name}.jpg"

    @property
    def pictures(self) -> dict[str, Path]:
        """The truths that are pictures."""
        voc, context = (self.root / "semseg" / source / f"{self.name}.png" for source in ("VOC12", "pascal-context"))
        return {
            "label": voc if voc.exists() else context,
            "normal": self.root / "normals_distill" / f"{self.name}.png",
            "saliency": self.root / "sal_distill" / f"{self.name}.png",
        }

    @property
    def tables(self) -> dict[str, Path]:
        """The truths that are files of MATLAB."""
        return {
            "parts": self.root / "human_parts" / f"{self.name}.mat",
            "map": self.root / "pascal-context" / "trainval" / f"{self.name}.mat",
        }

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [self.image_file, *self.pictures.values(), *self.tables.values()]

    def check(self, largest: int) -> None:
        """Check that all files are there, pictures whole and of one size, without decoding them.

        Raises:
            ValueError: One is not, or the image has a longer side than ``largest``.
        """
        check_jpeg(self.image_file)
        size = size_of(self.image_file, "JPEG")
        if max(size) > largest:
            raise ValueError(f"{self.image_file} has {size[0]} rows and {size[1]} columns, more than {largest}")
        for path in self.pictures.values():
            check_png(path, size)
        for path in self.tables.values():
            if not path.is_file():
                raise ValueError(f"{path} is missing; unpack PASCAL_MT.tgz whole")

    def image(self) -> np.ndarray:
        """Colours ``(H, W, 3)``, uint8."""
        path = self.image_file
        pixels = decode(path, path, ("RGB", "L"), size_of(path, "JPEG"), "JPEG")
        return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)

    def label(self, size: Size) -> np.ndarray:
        """Class ``(H, W)``, int8, -1 where there is none."""
        path = self.pictures["label"]
        label = decode(path, path, ("P", "L"), size)
        wrong = (label >= CLASSES) & (label != _NO_CLASS)
        if wrong.any():
            raise ValueError(f"{path} holds the label {label[wrong][0]}; classes are 0 to {CLASSES - 1}, and 255")
        return np.where(label == _NO_CLASS, -1, label).astype(np.int8)

    def saliency(self, size: Size) -> np.ndarray:
        """1 on what is salient, else 0: ``(H, W)``, int8."""
        path = self.pictures["saliency"]
        return (decode(path, path, ("L",), size) >= 128).astype(np.int8)

    def classes(self, size: Size) -> np.ndarray:
        """Classes of 459: ``(H, W)``, int64, 0 where there is none."""
        path = self.tables["map"]
        classes = label_array(read_matlab(path, "LabelMap"), "LabelMap", path)
        check_size(path, classes.shape, size)
        return classes.astype(np.int64)

    def normal(self, classes: np.ndarray) -> np.ndarray:
        """Normals ``(H, W, 3)``, float32, in the axes of the file; zeros where they do not count.

        Args:
            classes: ``(H, W)``, of 459.
        """
        path = self.pictures["normal"]
        vectors = decode(path, path, ("RGB",), classes.shape).astype(np.float32) / 127.5 - 1
        return unit_or_zero(np.where(np.isin(classes, NORMAL_CLASSES)[..., None], vectors, 0))

    def parts(self, size: Size) -> np.ndarray:
        """Part of a person ``(H, W)``, int8, 0 elsewhere; -1 everywhere without any."""
        path = self.tables["parts"]
        labels = np.zeros(size, np.int8)
        for thing in structs(field(read_matlab(path, "anno"), "objects", path)):
            if field(thing, "class_ind", path) != _PERSON:
                continue
            for part in structs(field(thing, "parts", path)):
                name = field(part, "part_name", path)
                if name not in PART_LABELS:
                    raise unknown_name("part", str(name), PART_LABELS, str(path))
                mask = label_array(field(part, "mask", path), f"mask of {name}", path)
                check_size(path, mask.shape, size)
                labels[mask != 0] = PART_LABELS[name]
        return labels if labels.any() else np.full_like(labels, -1)


def find_root(source: Path) -> Path:
    """The folder PASCAL_MT: a folder itself, or one in it.

    Raises:
        ValueError: It is an archive, or a folder of a task is missing.
    """
    if source.is_file():
        raise ValueError(f"{source} is a file; unpack it (tar xzf {source.name}), and give the folder PASCAL_MT")
    root = source / "PASCAL_MT" if (source / "PASCAL_MT").is_dir() else source
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            raise ValueError(f"there is no folder {root / folder}; unpack PASCAL_MT.tgz whole, and give its folder")
    return root


def photographs(root: Path, split: str) -> list[Photograph]:
    """The images of a split, in the order of its list.

    Raises:
        ValueError: The list is missing, or empty, or names an image twice.
    """
    path = root / "ImageSets" / "Context" / f"{split}.txt"
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack PASCAL_MT.tgz whole")
    names = path.read_text().split()
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path} names no image, or one twice; get it again")
    return [Photograph(root, name) for name in names]
