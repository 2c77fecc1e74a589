"""The memory that task gradients may take: a row for each task, or about one gradient."""

from typing import Literal, get_args

from recon.errors import unknown_name
from recon.methods import GramianMethod, JacobianMethod, Method, list_methods

Memory = Literal["jacobian", "gramian"]


def check_memory(memory: Memory, method: Method, at: str, whole_network: bool, tasks: int) -> None:
    """Refuse to do without the Jacobian where the method needs it, or where there is none.

    A single task is trained plainly in any case.

    Args:
        memory: The memory that is asked for.
        method: The multi-task optimizer.
        at: Where it takes the task gradients.
        whole_network: Whether it weighs all layers alike.
        tasks: K.

    Raises:
        ValueError: The method combines the gradients themselves; gradients are weighted at the
            representation, or in groups of layers; or ``memory`` is unknown.
    """
    if memory not in get_args(Memory):
        raise unknown_name("memory", memory, get_args(Memory), where="recon.Engine")
    if memory == "jacobian" or tasks == 1:
        return
    if isinstance(method, JacobianMethod):
        raise ValueError(
            f"{type(method).__name__} combines the task gradients themselves, which memory='gramian' never holds "
            f"together; use memory='jacobian', or a Gramian method: {', '.join(list_methods(GramianMethod))} or one "
            "of yours derived from recon.GramianMethod"
        )
    if at == "representation":
        raise ValueError(
            "at='representation' holds no gradients of the shared parameters, so memory='gramian' has nothing to save; "
            "use memory='jacobian', or at='parameters'"
        )
    if not whole_network:
        raise ValueError(
            "memory='gramian' makes the update by one backward of the weighted losses, with the same weights in all "
            "layers; use granularity='network', or memory='jacobian'"
        )


def check_alone(memory: Memory, several: bool) -> None:
    """Refuse several processes that hold no task gradients.

    Raises:
        RuntimeError: There are several, and task gradients are not held.
    """
    if memory == "gramian" and several:
        raise RuntimeError(
            "memory='gramian' works in one process: task gradients of several processes have to be summed before "
            "their inner products, and they are never held whole; use memory='jacobian', where each one holds a part"
        )


def check_whole_batch(memory: Memory, tasks: int) -> None:
    """Refuse micro-batches of several tasks.

    Raises:
        ValueError: Task gradients are not held.
    """
    if memory == "gramian" and tasks > 1:
        raise ValueError(
            "memory='gramian' takes whole batches: task gradients of micro-batches have to be summed before their "
            "inner products, and they are never held whole; use memory='jacobian' to accumulate"
        )
