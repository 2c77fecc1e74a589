import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

sys.path.insert(0, str(Path(__file__).parents[1] / "dense"))  # for small_pascal

from small_pascal import FRAME, NAMES, prepare_pascal, thing, write_anno, write_map, write_pascal, write_picture

from recon.data.preparation import pascal_context, prepare_pascal_context, verify
from recon.data.preparation.pascal_context import convert
from recon.data.preparation.pascal_files import NORMAL_CLASSES, PART_LABELS, Photograph
from recon.data.preparation.thinning import edges_of

FIRST, SIZE = NAMES["train"][0], (31, 24)
TOP, LEFT = 0, 4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_pascal(tmp_path / "source" / "PASCAL_MT")


def prepare(source: Path, out: Path) -> None:
    convert(source, out, FRAME, FRAME, {})


def picture(source: Path, folder: str) -> np.ndarray:
    return np.asarray(Image.open(source / folder / (f"{FIRST}.jpg" if folder == "JPEGImages" else f"{FIRST}.png")))


def test_scenes_are_the_files_in_the_middle_of_a_frame(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    margin = {"image": 128, "label": -1, "parts": -1, "normal": 0, "saliency": -1, "edges": -1}
    scene = {folder: np.load(tmp_path / "out" / "train" / folder / "0.npy") for folder in margin}
    inside = np.zeros((FRAME, FRAME), bool)
    inside[TOP : TOP + SIZE[0], LEFT : LEFT + SIZE[1]] = True
    for folder, value in margin.items():
        assert (scene[folder][~inside] == value).all()
    inner = {folder: array[TOP : TOP + SIZE[0], LEFT : LEFT + SIZE[1]] for folder, array in scene.items()}
    np.testing.assert_array_equal(inner["image"], picture(source, "JPEGImages"))
    label = picture(source, "semseg/pascal-context").astype(int)
    np.testing.assert_array_equal(inner["label"], np.where(label == 255, -1, label))
    np.testing.assert_array_equal(inner["saliency"], picture(source, "sal_distill") >= 128)
    classes = loadmat(source / "pascal-context" / "trainval" / f"{FIRST}.mat")["LabelMap"]
    np.testing.assert_array_equal(inner["edges"], edges_of(classes))
    vectors = picture(source, "normals_distill") / 127.5 - 1
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    counts = np.isin(classes, (284, 440)) & (np.linalg.norm(vectors, axis=-1) >= 0.5)
    np.testing.assert_allclose(inner["normal"], np.where(counts[..., None], unit, 0), atol=1e-3)
    verify(tmp_path / "out")


def test_labels_of_voc_come_before_those_of_context(source: Path) -> None:
    name = NAMES["train"][1]
    photograph = Photograph(source, name)
    assert photograph.pictures["label"] == source / "semseg" / "VOC12" / f"{name}.png"
    write_picture(source / "semseg" / "pascal-context" / f"{name}.png", np.zeros((20, 30), np.uint8))
    assert (photograph.label((20, 30)) > 0).any()


def test_parts_are_those_of_all_people_the_later_on_top(source: Path) -> None:
    path = source / "human_parts" / f"{FIRST}.mat"
    torso, hand, foot = np.zeros((3, *SIZE), bool)
    torso[:10], hand[5:15], foot[20:] = True, True, True
    write_anno(
        path,
        [thing(15, SIZE, [("torso", torso)]), thing(13, SIZE, [("head", foot)]), thing(15, SIZE, [("rhand", hand)])],
    )
    expected = np.zeros(SIZE)
    expected[:5], expected[5:15] = 2, 4
    np.testing.assert_array_equal(Photograph(source, FIRST).parts(SIZE), expected)


@pytest.mark.parametrize("things", [[], [thing(2, SIZE)], [thing(15, SIZE)], [thing(15, SIZE), thing(15, SIZE)]])
def test_an_image_without_parts_of_people_has_no_truth(source: Path, things: list[tuple]) -> None:
    write_anno(source / "human_parts" / f"{FIRST}.mat", things)
    assert (Photograph(source, FIRST).parts(SIZE) == -1).all()


def test_the_tables_of_the_protocol_are_whole() -> None:
    assert len(PART_LABELS) == 24 and set(PART_LABELS.values()) == set(range(1, 7))
    assert all(PART_LABELS[f"l{part}"] == PART_LABELS[f"r{part}"] for part in ("foot", "hand", "larm", "uarm", "lleg"))
    assert len(set(NORMAL_CLASSES)) == len(NORMAL_CLASSES) == 170
    assert min(NORMAL_CLASSES) >= 1 and max(NORMAL_CLASSES) <= 459


def test_a_smaller_size_shrinks_images_and_finds_edges_afterwards(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", FRAME // 2, FRAME, {})
    classes = loadmat(source / "pascal-context" / "trainval" / f"{NAMES['train'][1]}.mat")["LabelMap"]
    edges = np.load(tmp_path / "out" / "train" / "edges" / "1.npy")
    assert edges.shape == (16, 16)
    np.testing.assert_array_equal(edges[3:13, :15], edges_of(classes[1::2, 1::2]))
    assert (edges[:3] == -1).all() and (edges[:, 15] == -1).all()


def test_the_folder_around_the_archive_is_found_and_the_manifest_names_the_images(source: Path, tmp_path: Path) -> None:
    prepare(source.parent, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["samples"] == NAMES
    assert manifest["settings"] == {"height": FRAME, "width": FRAME, "frame": FRAME}


def test_verify_tells_how_much_has_truth_and_finds_a_wrong_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepare_pascal(tmp_path)
    capsys.readouterr()
    verify(out)
    printed = capsys.readouterr().out
    assert "30 files as they were prepared" in printed
    assert re.search(r"train: 4 images, 21 classes; pixels with truth: segmentation [\d.]+%, parts [\d.]+%", printed)
    path = out / "val" / "saliency" / "0.npy"
    np.save(path, np.full((FRAME, FRAME), 2, np.int8))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} has changed"):
        verify(out)


# Bad files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["JPEGImages", "semseg", "human_parts", "normals_distill", "sal_distill", "pascal-context", "ImageSets"]
)
def test_a_missing_folder_is_named_with_its_cure(source: Path, tmp_path: Path, folder: str) -> None:
    shutil.rmtree(source / folder)
    with pytest.raises(
        ValueError, match=f"there is no folder {re.escape(str(source / folder))}.*; unpack PASCAL_MT.tgz"
    ):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "PASCAL_MT.tgz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match=r"PASCAL_MT.tgz is a file; unpack it \(tar xzf PASCAL_MT.tgz\)"):
        prepare(tmp_path / "PASCAL_MT.tgz", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (f"JPEGImages/{FIRST}.jpg", "cannot be read (No such file"),
        (f"semseg/pascal-context/{FIRST}.png", "cannot be read (No such file"),
        (f"normals_distill/{FIRST}.png", "cannot be read (No such file"),
        (f"sal_distill/{FIRST}.png", "cannot be read (No such file"),
        (f"human_parts/{FIRST}.mat", "is missing; unpack PASCAL_MT.tgz whole"),
        (f"pascal-context/trainval/{FIRST}.mat", "is missing; unpack PASCAL_MT.tgz whole"),
        ("ImageSets/Context/val.txt", "is missing; unpack PASCAL_MT.tgz whole"),
    ],
)
def test_a_missing_file_is_named_before_any_work(source: Path, tmp_path: Path, file: str, message: str) -> None:
    (source / file).unlink()
    with pytest.raises(ValueError, match=re.escape(f"{source / file} {message}")):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truth_of_another_size_than_its_image_is_named(source: Path, tmp_path: Path) -> None:
    path = source / "sal_distill" / f"{FIRST}.png"
    write_picture(path, np.zeros(SIZE[::-1], np.uint8))
    with pytest.raises(ValueError, match=re.escape(f"{path} has 24 rows and 31 columns, not 31 and 24; width and")):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_does_not_fit_into_the_frame_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{FIRST}.jpg has 31 rows and 24 columns, more than 30"):
        convert(source, tmp_path / "out", 30, 30, {})


def test_wrong_contents_are_named_with_their_file(source: Path, tmp_path: Path) -> None:
    parts = source / "human_parts" / f"{FIRST}.mat"
    table = source / "pascal-context" / "trainval" / f"{FIRST}.mat"
    photograph = Photograph(source, FIRST)
    write_anno(parts, [thing(15, SIZE, [("hed", np.ones(SIZE))])])
    with pytest.raises(ValueError, match=f"unknown part 'hed' in {re.escape(str(parts))}; nearest: 'head'"):
        photograph.parts(SIZE)
    write_anno(parts, [thing(15, SIZE, [("head", np.ones((3, 4)))])])
    with pytest.raises(ValueError, match=f"{re.escape(str(parts))} has 3 rows and 4 columns, not 31 and 24"):
        photograph.parts(SIZE)
    write_map(parts, np.ones(SIZE))
    with pytest.raises(ValueError, match=f"{re.escape(str(parts))} has no 'anno', it holds 'LabelMap'"):
        photograph.parts(SIZE)
    write_map(table, np.ones(SIZE[::-1]))
    with pytest.raises(ValueError, match=f"{re.escape(str(table))} has 24 rows and 31 columns, not 31 and 24; width"):
        photograph.classes(SIZE)
    label = source / "semseg" / "pascal-context" / f"{FIRST}.png"
    write_picture(label, np.full(SIZE, 33, np.uint8))
    with pytest.raises(ValueError, match=f"{re.escape(str(label))} holds the label 33; classes are 0 to 20, and 255"):
        photograph.label(SIZE)


@pytest.mark.parametrize("text", ["", "2008_000002\n2008_000002\n"])
def test_a_list_of_nothing_or_with_an_image_twice_is_refused(source: Path, tmp_path: Path, text: str) -> None:
    (source / "ImageSets" / "Context" / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=r"train.txt names no image, or one twice; get it again"):
        prepare(source, tmp_path / "out")


def test_the_official_command_insists_on_the_official_numbers(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 4 train images, not 4998; complete it, or say --partial"):
        prepare_pascal_context(source, out=tmp_path / "out")
    with pytest.raises(ValueError, match="size is 0"):
        prepare_pascal_context(source, out=tmp_path / "out", size=0)


def test_an_interrupted_preparation_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(source, whole)
    make, made = pascal_context._arrays, []

    def interrupted(sample: Photograph, size: int, frame: int):
        made.append(sample.name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return make(sample, size, frame)

    monkeypatch.setattr(pascal_context, "_arrays", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out)
    prepare(source, out)
    assert made[2:] == [*NAMES["train"][1:], *NAMES["val"]]
    assert (out / "manifest.json").read_text() == (whole / "manifest.json").read_text()
