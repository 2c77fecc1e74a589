"""Wrappers that divide a network or its gradients among processes, which the engine refuses."""

from torch import nn

# By name: their packages are slow to import. The second is the base that fully_shard gives.
_FULLY_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def check_not_wrapped(shared: nn.Module) -> None:
    """Refuse networks whose wrapper sums or divides gradients itself.

    Raises:
        ValueError: The network is, or holds, a distributed wrapper.
    """
    for module in shared.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            raise ValueError(
                "the shared part is wrapped in DistributedDataParallel, which sums gradients itself; run and hand over "
                "the network inside, ddp.module: the engine sums task gradients over the processes"
            )
        if any(kind.__name__ in _FULLY_SHARDED for kind in type(module).__mro__):
            raise ValueError(
                "the shared part is divided among processes by FSDP, and task gradients need whole layers in each; "
                "take the network without FSDP: the engine divides the gradients among the processes"
            )
    for name, parameter in shared.named_parameters():
        if any(kind.__name__ == "DTensor" for kind in (type(parameter), type(parameter.data))):
            raise ValueError(
                f"the shared parameter {name!r} is a DTensor, divided among devices by tensor parallelism or FSDP, and "
                "task gradients need whole layers in each process; take the network without it"
            )


def told_of_wrapper(error: Exception) -> Exception:
    """An error of a backward, which tells of ``DistributedDataParallel`` if that is its cause."""
    if "mark a variable ready only once" not in str(error):
        return error
    told = RuntimeError(
        "the network runs inside DistributedDataParallel, which allows one backward a forward; run the network inside, "
        "ddp.module: the engine sums task gradients over the processes"
    )
    told.__cause__ = error
    return told
