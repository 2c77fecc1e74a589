"""Records how the authors' package trains the networks of rotograd_cases.py, in rotograd-0.1.6.json.

pip install rotograd geotorch==0.3.0   # the package asks for a module that later geotorch lacks
python tests/models/architectures/record_rotograd.py
"""

import json
from pathlib import Path

import torch
from rotograd_cases import BURN_IN, CASES, DECAY, LR, STEPS, TASKS, Case, inputs, losses, network

FILE = Path(__file__).with_name("rotograd-0.1.6.json")


def trained(case: Case) -> dict[str, object]:
    import rotograd  # pytest imports this file to look for examples, and the package is not there

    torch.set_default_dtype(torch.float64)
    backbone, heads = network(case)
    parameters = [p for module in (backbone, *heads) for p in module.parameters()]
    post_shape = torch.Size((2, 2) if case.maps else ())
    make = getattr(rotograd, case.package_class)
    model = make(backbone, heads, case.size, post_shape=post_shape, burn_in_period=BURN_IN)
    for index in range(len(TASKS)):
        setattr(model, f"rotation_{index}", torch.eye(case.size))  # the package starts at random
    # The package divides the objective for maps by the batch size, and Adam sees this by its epsilon only.
    epsilon = 1e-8 / (len(inputs(case, 0)) if case.maps else 1)
    own, leader = torch.optim.SGD(parameters, lr=0.1), torch.optim.Adam(model.parameters(), lr=LR, eps=epsilon)
    schedule = torch.optim.lr_scheduler.ExponentialLR(leader, DECAY)
    model.train()
    rotations, followed = [], []
    for step in range(STEPS):
        own.zero_grad()
        leader.zero_grad()
        values = losses(model(inputs(case, step)), step)
        model.backward(values)
        own.step()
        leader.step()
        schedule.step()
        rotations.append([rotation.tolist() for rotation in model.rotation])
        followed.append([float(value) for value in values])
    return {"rotations": rotations, "losses": followed, "parameters": [p.tolist() for p in parameters]}


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: trained(case) for name, case in CASES.items()}))
