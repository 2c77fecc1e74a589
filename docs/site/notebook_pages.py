"""Notebooks of docs/ as pages: their text, code and outputs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook; the notebook itself stays beside it, to download."""
    for path in sorted(Path(config.docs_dir).glob("*.ipynb")):
        files.append(File.generated(config, f"{path.stem}.md", content=_page(path)))
    return files


def _page(path: Path) -> str:
    parts = [part for cell in json.loads(path.read_text())["cells"] for part in _parts(cell)]
    return "\n\n".join([*parts, f'<a href="{path.name}" download>The notebook</a>', ""])


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    """The blocks of Markdown that show a cell."""
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for output in cell.get("outputs", []):
        if picture := output.get("data", {}).get("image/png"):
            yield f'<img alt="The picture of the cell above" src="data:image/png;base64,{picture.strip()}">'
        else:
            text = output.get("text") or output["data"]["text/plain"]
            yield f"```text\n{''.join(text).rstrip()}\n```"
