from pathlib import Path

from recon.experiments.report import Report


def test_notebooks_show_table_and_files_with_their_names_escaped() -> None:
    shown = Report("| | accuracy |\n| <b>joint</b> | 0.9 |", (Path("<i>/table.md"),))._repr_html_()
    assert "<pre>| | accuracy |\n| &lt;b&gt;joint&lt;/b&gt; | 0.9 |</pre>" in shown
    assert "<code>&lt;i&gt;/table.md</code>" in shown
