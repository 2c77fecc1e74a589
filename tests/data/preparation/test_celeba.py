import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "celeba"))  # for small_faces

from small_faces import (
    PARTITION,
    attribute_text,
    face_labels,
    image_names,
    partition_text,
    prepare_faces,
    write_faces,
)

from recon.data.celeba.attributes import ATTRIBUTES
from recon.data.preparation import celeba, prepare_celeba, verify
from recon.data.preparation.celeba import convert
from recon.data.preparation.celeba_files import read_listings

FRAME = (8, 6)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "source", FRAME)


def attributes(source: Path) -> Path:
    return source / "Anno" / "list_attr_celeba.txt"


def partition(source: Path) -> Path:
    return source / "Eval" / "list_eval_partition.txt"


def images(source: Path) -> Path:
    return source / "Img" / "img_align_celeba"


def prepare(source: Path, out: Path) -> None:
    convert(source, out, 2, FRAME, {}, block=2)


def test_images_and_labels_are_the_official_ones_in_blocks(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(source, out)
    labels = face_labels() == 1
    for number, (split, blocks) in enumerate((("train", 3), ("val", 1), ("test", 2))):
        rows = [row for row, found in enumerate(PARTITION) if found == number]
        stored = {
            folder: [np.load(out / split / folder / f"{block}.npy") for block in range(blocks)]
            for folder in ("image", "label")
        }
        assert max(map(len, stored["image"])) == 2
        np.testing.assert_array_equal(np.concatenate(stored["label"]), labels[rows])
        for row, pixels in zip(rows, np.concatenate(stored["image"]), strict=True):
            official = np.asarray(Image.open(images(source) / image_names()[row]))
            means = official.reshape(2, 4, 2, 3, 3).mean(axis=(1, 3))
            np.testing.assert_array_equal(pixels, np.rint(means))


def test_the_manifest_says_what_is_where_and_where_it_came_from(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["dataset"] == "celeba"
    assert manifest["settings"] == {"height": 2, "width": 2, "block": 2, "attributes": list(ATTRIBUTES)}
    assert manifest["samples"]["test"] == ["2 images, 000008.jpg to 000009.jpg", "1 image, 000010.jpg to 000010.jpg"]
    assert manifest["source"]["images"] == 10
    assert manifest["source"]["list_attr_celeba"]["name"] == "list_attr_celeba.txt"


def test_verify_reads_everything_and_finds_a_changed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prepare_faces(tmp_path, size=4)
    verify(out)
    printed = capsys.readouterr().out
    assert "12 files as they were prepared" in printed
    assert "train: 5 images, 4 x 4; 40 attributes, positive" in printed and "test: 3 images" in printed
    path = out / "test" / "label" / "1.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} has changed: its sha256 differs"):
        verify(out)


@pytest.mark.parametrize("layout", ["flat", "torchvision", "kaggle"])
def test_the_files_may_be_laid_out_as_other_sources_have_them(source: Path, tmp_path: Path, layout: str) -> None:
    expected = read_listings(source)
    other = tmp_path / "other" / ("celeba" if layout == "torchvision" else "")
    other.mkdir(parents=True)
    if layout == "kaggle":
        rows = [line.split() for line in attributes(source).read_text().splitlines()[1:]]
        rows[0].insert(0, "image_id")
        (other / "list_attr_celeba.csv").write_text("".join(",".join(row) + "\n" for row in rows))
        text = "image_id,partition\n" + partition_text().replace(" ", ",")
        (other / "list_eval_partition.csv").write_text(text)
        shutil.move(images(source), other / "img_align_celeba" / "img_align_celeba")
    else:
        for path in (attributes(source), partition(source), images(source)):
            shutil.move(path, other / path.name)
    found = read_listings(tmp_path / "other")
    for split, listing in expected.items():
        assert [path.name for path in found[split].images] == [path.name for path in listing.images]
        assert all(path.is_file() for path in found[split].images)
        np.testing.assert_array_equal(found[split].labels, listing.labels)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (partition, "there is no {0}/list_eval_partition.txt, nor in the folders Anno, Eval and celeba there"),
        (attributes, "there is no {0}/list_attr_celeba.txt, nor in the folders Anno, Eval and celeba there"),
        (images, "there is no folder {0}/img_align_celeba; unpack img_align_celeba.zip in {0}"),
    ],
)
def test_a_missing_file_or_folder_is_named(source: Path, tmp_path: Path, remove, message: str) -> None:
    remove(source).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=re.escape(message.format(source))):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


OFFICIAL = attribute_text(face_labels())
FIRST = f"{image_names()[0]} " + " ".join(f"{value:2d}" for value in face_labels()[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "says in its first line that it has  images, and has 0"),
        (OFFICIAL.replace("10\n", "11\n", 1), "says in its first line that it has 11 images, and has 10; get it again"),
        (OFFICIAL.replace(" Young", ""), "names 39 attributes, not 40; get the official file"),
        (OFFICIAL.replace("Bald", "Bold"), "calls attribute 5 'Bold'; it should be 'Bald'"),
        (OFFICIAL.replace(FIRST, FIRST[:-3]), "has 39 attributes of image 1 (000001.jpg), not 40"),
        (OFFICIAL.replace(FIRST, FIRST[:-2] + " 0"), "has '0' as an attribute of 000001.jpg; it should be 1 or -1"),
    ],
)
def test_an_attribute_file_of_another_form_is_refused(source: Path, tmp_path: Path, text: str, message: str) -> None:
    attributes(source).write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{attributes(source)} {message}")):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            partition_text().replace("000003.jpg 0", "000003.jpg 3"),
            "has '000003.jpg 3' in row 3; it should be an image",
        ),
        (
            partition_text().replace("000003.jpg 0\n", ""),
            "lacks 000003.jpg, and 0 other images of list_attr_celeba.txt",
        ),
        (partition_text() + "000011.jpg 1\n", "lacks 000011.jpg, which has a partition; get both files again"),
        (partition_text().replace(" 1\n", " 0\n"), "leaves the val split empty; give the official file"),
    ],
)
def test_a_partition_that_does_not_fit_is_refused(source: Path, tmp_path: Path, text: str, message: str) -> None:
    partition(source).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        prepare(source, tmp_path / "out")


def test_a_file_of_bytes_is_no_list(source: Path, tmp_path: Path) -> None:
    partition(source).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=f"{re.escape(str(partition(source)))} is no text"):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is no JPEG"), (b"\x89PNG", "is no JPEG"), (b"\xff\xd8\xff\xe0cut", "is truncated; get it again")],
)
def test_a_broken_image_is_named_before_any_work(source: Path, tmp_path: Path, content: bytes, message: str) -> None:
    path = images(source) / "000007.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} {message}"):
        prepare(source, tmp_path / "out")
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read \(No such file"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_decoded_or_has_another_size_is_named(source: Path, tmp_path: Path) -> None:
    path = images(source) / "000007.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is damaged"):
        prepare(source, tmp_path / "out")
    Image.new("RGB", FRAME).save(path)
    with pytest.raises(ValueError, match="has 6 rows and 8 columns, not 8 and 6; width and height are swapped"):
        prepare(source, tmp_path / "other")


def test_the_official_command_insists_on_the_official_numbers(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="list 5 train images, not 162770; complete them, or say --partial"):
        prepare_celeba(source, out=tmp_path / "out")
    with pytest.raises(ValueError, match="has 8 rows and 6 columns, not 218 and 178"):
        prepare_celeba(source, out=tmp_path / "out", partial=True)
    with pytest.raises(ValueError, match="size is 0"):
        prepare_celeba(source, out=tmp_path / "out", size=0)


def test_an_interrupted_preparation_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(source, whole)
    decode, decoded = celeba.decode, []

    def interrupted(path: Path, *rest):
        decoded.append(path.name)
        if len(decoded) == 4:
            raise KeyboardInterrupt
        return decode(path, *rest)

    monkeypatch.setattr(celeba, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out)
    prepare(source, out)
    assert decoded[4:] == image_names()[2:]
    assert (out / "manifest.json").read_text() == (whole / "manifest.json").read_text()
