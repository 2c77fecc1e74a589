"""The notebook of the quick start runs cell by cell and prints what it shows."""

import ast
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quick-start.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def text_of(cell: dict[str, Any]) -> str:
    """What the stored outputs of a cell say; a picture says nothing."""
    texts = [out.get("text") or out["data"]["text/plain"] for out in cell["outputs"] if "image/png" not in str(out)]
    return "".join("".join(text) for text in texts)


def run(source: str, names: dict[str, Any]) -> str:
    """Run a cell as a notebook does: return its prints, and its last line's value unless that ends in ``;``."""
    *statements, last = ast.parse(source).body
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), "cell", "exec"), names)
        elif (value := eval(compile(ast.Expression(last.value), "cell", "eval"), names)) is not None:
            print("" if source.endswith(";") else repr(value), end="")
    return printed.getvalue()


def words(text: str) -> list[str]:
    """The words and whole numbers; fractions and the scores behind layers differ between machines."""
    return re.findall(r"\S+", re.sub(r"(?<=\d  \d) +\d+(?= +\d\.)|[+-]?\d+\.\d+", "...", text))


@pytest.mark.slow
def test_cells_run_in_order_and_print_what_they_show() -> None:
    names: dict[str, Any] = {}
    shown = [(words(run("".join(cell["source"]), names)), words(text_of(cell))) for cell in CELLS]
    plt.close("all")
    assert [printed for printed, _ in shown] == [stored for _, stored in shown]
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
