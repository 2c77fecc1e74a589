"""Methods that learn one number per task, along with the network."""

from typing import Any, ClassVar

from torch import Tensor

from recon.methods.base.state import StatefulMethod
from recon.methods.base.task_scalars import TaskScalars


class _SavedTogether(TaskScalars):
    """Numbers that their method saves and loads."""

    def _save_to_state_dict(self, *args: Any) -> None:
        pass

    def _load_from_state_dict(self, *args: Any) -> None:
        pass


class LearnedScalarsMethod(StatefulMethod):
    """Mixin for methods that learn one number per task, from 0.

    Each number is a parameter of its own, so no optimizer moves that of an absent task. In the
    checkpoint they are one tensor, (K,).

    Attributes:
        saved_as: Name of that tensor.
        by_task: The numbers.

    Example:
        >>> import torch
        >>> from recon.methods import LossMethod
        >>> class Learned(LearnedScalarsMethod, LossMethod):
        ...     saved_as = "logs"
        ...     def loss_weights(self, losses):
        ...         return self.by_task.stacked().exp()
        >>> method = Learned()
        >>> method.combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), losses=torch.ones(2))
        tensor([2., 4.])
        >>> dict(method.state_dict())
        {'logs': tensor([0., 0.])}
    """

    saved_as: ClassVar[str]
    by_task: TaskScalars

    def make_state(self, tasks: int) -> None:
        self.by_task = _SavedTogether(tasks)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.tasks is not None:
            numbers = self.by_task.stacked()
            destination[prefix + self.saved_as] = numbers if keep_vars else numbers.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        key = prefix + self.saved_as
        saved: Tensor | None = state_dict.get(key)
        if saved is None:
            missing_keys += [key] if self.tasks is not None else []
            return
        unexpected_keys[:] = [each for each in unexpected_keys if each != key]
        if saved.shape == (self.tasks,):
            self.by_task.set(saved)
        else:
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {tuple(saved.shape)} from checkpoint, "
                f"the shape in current model is ({self.tasks},)."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
