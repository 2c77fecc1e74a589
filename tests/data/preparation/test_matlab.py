import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from recon.data.preparation.matlab import field, label_array, read_matlab, structs


def test_a_variable_is_read(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": np.eye(3, dtype=np.uint16), "other": 1})
    np.testing.assert_array_equal(read_matlab(tmp_path / "a.mat", "LabelMap"), np.eye(3))


def test_one_struct_several_and_none_are_lists(tmp_path: Path) -> None:
    kind = [("name", object)]
    for number in (0, 1, 2):
        savemat(tmp_path / "a.mat", {"things": np.array([[(f"t{index}",) for index in range(number)]], kind)})
        things = structs(read_matlab(tmp_path / "a.mat", "things"))
        assert [field(thing, "name", tmp_path) for thing in things] == [f"t{index}" for index in range(number)]


@pytest.mark.parametrize("length", [0, 3, 130, 150, -4])
def test_a_truncated_file_is_named(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"LabelMap": np.arange(5000).reshape(50, 100)}, do_compression=True)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_matlab(path, "LabelMap")


def test_another_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} cannot be read, is truncated, or is no MATLAB file"):
        read_matlab(path, "LabelMap")
    savemat(path, {"other": 1})
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} has no 'LabelMap', it holds 'other'"):
        read_matlab(path, "LabelMap")
    with pytest.raises(ValueError, match="has no field 'mask' where it should"):
        field({"name": 1}, "mask", path)
    with pytest.raises(ValueError, match="has no field 'mask' where it should"):
        field(np.zeros(3), "mask", path)
    for value, message in (
        (np.zeros(3), "LabelMap is no array of height and width"),
        ("text", "LabelMap is no array of height and width"),
        (np.full((2, 2), 0.5), "LabelMap holds fractions"),
    ):
        with pytest.raises(ValueError, match=message):
            label_array(value, "LabelMap", path)
