import torch
from torch import nn

import recon
from recon.branching import growth


def test_notebooks_show_which_tasks_have_which_copies() -> None:
    backbone = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    network = recon.branch(backbone, ["1", "2"], ["a", "b", "c"], groups={"1": [["a", "c"], ["b"]]})
    shown = network._repr_html_()
    assert shown.count("shared</td>") == 1
    assert shown.count("own copy</td>") == 2 + 3
    assert shown.count("copy of a</td>") == 1
    assert growth(network, torch.zeros(1, 2), repeats=1)._repr_html_().count("<tr>") == 4
