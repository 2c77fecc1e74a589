"""The outputs of modules that no branch touches, remembered so that they run once for all tasks.

A module's forward runs once if all tasks call it with the very same tensors and equal other
arguments, in the same modes. A call with effects beside its output is not remembered: writes into
its inputs, attributes that it sets, containers that it changes. Hooks run for every task, on the
remembered output. Inside activation checkpoints, which must be able to repeat their work, nothing
is remembered.

Later writes into a remembered tensor show in its version. The module then runs again for the next
task, with its buffers restored. From the next call on every task gets a clone, which counts as the
same tensor.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recon.branching.untraced.effects import buffers_kept, hooks_that_alter, is_random, share_memory
from recon.branching.untraced.identities import Identities, Identity
from recon.branching.untraced.structure import Opaque, map_tensors, signature, tensors_in

Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Hooked:
    """A call of a module with hooks, inside a remembered one."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@dataclass
class _Entry:
    """The remembered call of a module.

    Attributes:
        inputs: The arguments, which must live as long as their identity is in use.
        output: The output of the forward.
        identities: Identities of the tensors in the output.
        versions: Tensors that must not be written to, and their versions.
        pristine: Clones of the output's tensors; empty unless writes into them are known.
        again: Whether the module must run for every task, because it writes into its inputs or
            passes them on.
        hooked: Calls inside whose hooks must run for every task.
    """

    inputs: Any
    output: Any
    identities: list[Identity]
    versions: list[tuple[Tensor, int]]
    pristine: list[Tensor]
    again: bool
    hooked: list[_Hooked]


@dataclass
class _Frame:
    """A call that is being recorded: whether it cannot be remembered, and its calls inside."""

    broken: bool = False
    inside: list[Key] = field(default_factory=list)
    hooked: list[_Hooked] = field(default_factory=list)


class Memory:
    """The outputs of modules in one call of a branched network.

    Args:
        trunk: The paths of the modules that no branch touches.
        written: The paths of modules whose outputs are known to be written to; new ones are added.
    """

    def __init__(self, trunk: Collection[str], written: set[str]) -> None:
        self._trunk = trunk
        self._written = written
        self._entries: dict[Key, _Entry] = {}
        self._mode = _mode()
        self._identities = Identities(compare_floats=torch.is_grad_enabled())
        self._record: bool | None = None

    def run(self, modules: Mapping[str, nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one task's network, given its modules by path.

        The first task records, and the others recall.
        """
        self._modules, self._record = modules, self._record is None
        of_argument = self._identities.of_recorded_argument if self._record else self._identities.of_argument
        self._identity_of_argument = of_argument
        self._counts: Counter[Key] = Counter()
        self._frames: list[_Frame] = []
        self._forced: dict[int, Any] = {}
        with self._watching():
            return modules[""](*args, **kwargs)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        wrapped = []
        try:
            for path, module in self._modules.items():
                if "forward" not in vars(module) and not isinstance(module, torch.jit.ScriptModule):
                    call = self._call if path in self._trunk else self._call_branched
                    vars(module)["forward"] = partial(call, path, module, module.forward)
                    wrapped.append(module)
            yield
        finally:
            for module in wrapped:
                vars(module).pop("forward", None)

    def forget(self, paths: Collection[str]) -> None:
        """Forget the calls of these modules, and of the modules around them."""
        for key in [key for key in self._entries if any(f"{path}.".startswith(f"{key[0]}.") for path in paths)]:
            del self._entries[key]

    def _call_branched(
        self, path: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self._break()
        return forward(*args, **kwargs)

    def _call(self, path: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if id(module) in self._forced:
            output = self._forced.pop(id(module))
        else:
            output = self._output(path, module, partial(forward, *args, **kwargs), args, kwargs)
        if self._frames and (module._forward_hooks or module._forward_pre_hooks):
            self._note_hooks(path, module, args, kwargs, output)
        return output

    def _output(
        self, path: str, module: nn.Module, forward: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if _mode() != self._mode:
            self._break_if_hooked(module)
            return forward()
        try:
            inputs = signature((args, kwargs), partial(self._identity_of_argument, path))
            key: Key = (path, module.training, _autocast(), inputs)
            self._counts[key] += 1
        except (Opaque, RuntimeError, TypeError):  # inference tensors have no version, other objects no hash
            return forward()
        key = (*key, self._counts[key])
        entry = self._entries.get(key)
        if entry is not None:
            return self._recall(path, module, entry, forward)
        return self._recorded(path, module, key, forward, (args, kwargs)) if self._record else forward()

    def _recall(self, path: str, module: nn.Module, entry: _Entry, forward: Callable[[], Any]) -> Any:
        if entry.again:
            return self._identified(entry, forward(), module)
        if entry.pristine:
            clones = [tensor.clone() for tensor in entry.pristine]
            output = map_tensors(entry.output, partial(_next, iter(clones)))
            return self._identified(entry, output, None)
        if any(tensor._version != version for tensor, version in entry.versions):
            self._written.add(path)
            with buffers_kept(module):
                return self._identified(entry, forward(), module)
        for call in entry.hooked:
            called = self._modules[call.path]
            self._forced[id(called)] = map_tensors(call.output, _itself)
            called(*call.args, **call.kwargs)
        return map_tensors(entry.output, _itself)

    def _recorded(self, path: str, module: nn.Module, key: Key, forward: Callable[[], Any], inputs: Any) -> Any:
        frame = _Frame()
        self._frames.append(frame)
        tensors = signature(inputs, id)
        try:
            output = forward()
        finally:
            self._frames.pop()
        remembered = False
        if not frame.broken:
            try:
                remembered = self._remember(path, module, key, frame, inputs, output, tensors)
            except (Opaque, RuntimeError, TypeError, NotImplementedError):  # some kinds of tensors have no memory
                remembered = False
        if self._frames:
            outer = self._frames[-1]
            outer.broken |= frame.broken
            outer.hooked += frame.hooked
            outer.inside += frame.inside if not remembered else [*frame.inside, key]
        return output

    def _remember(
        self, path: str, module: nn.Module, key: Key, frame: _Frame, inputs: Any, output: Any, tensors: tuple[Any, ...]
    ) -> bool:
        if signature(inputs, id) != tensors:
            return False  # the call changed a container
        made = tensors_in(output)
        again = signature(inputs, self._identities.of) != key[3] or share_memory(tensors_in(inputs), made)
        if again and is_random(module):
            return False
        watched = [tensor for call in frame.hooked for tensor in tensors_in(call.output)]
        if path in self._written and (watched or again):
            return False
        pristine = [tensor.clone() for tensor in made] if path in self._written else []
        versions = [(tensor, tensor._version) for tensor in (*made, *watched)]
        self._entries[key] = _Entry(
            inputs,
            map_tensors(output, _itself),
            [self._identities.of(t) for t in made],
            versions,
            pristine,
            again,
            frame.hooked,
        )
        if not again:
            for inner in frame.inside:
                self._entries.pop(inner, None)
        return True

    def _identified(self, entry: _Entry, output: Any, made_by: nn.Module | None) -> Any:
        """Let tensors of an output count as the remembered ones, unless drawn at random."""
        made = tensors_in(output)
        if len(made) == len(entry.identities) and not (made_by and is_random(made_by)):
            self._identities.equate(made, entry.identities)
        return output

    def _note_hooks(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        frames = list(self._frames)
        try:
            frames[-1].hooked.append(_Hooked(path, args, kwargs, map_tensors(output, _itself)))
        except Opaque:
            self._break()
        if hooks_that_alter(module):
            self._break()
        elif module._forward_hooks:
            handle = module.register_forward_hook(lambda _, inputs, final: check(final))

        def check(final: Any) -> None:
            handle.remove()
            if final is not output:
                for frame in frames:
                    frame.broken = True

    def _break_if_hooked(self, module: nn.Module) -> None:
        if module._forward_hooks or module._forward_pre_hooks:
            self._break()

    def _break(self) -> None:
        for frame in self._frames:
            frame.broken = True


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _next(tensors: Iterator[Tensor], _: Tensor) -> Tensor:
    return next(tensors)


def _mode() -> tuple[Any, ...]:
    """Whether gradients are recorded, and how tensors are saved; checkpoints change either."""
    return torch.is_grad_enabled(), torch._C._autograd._top_saved_tensors_default_hooks(True)


def _autocast() -> tuple[Any, ...]:
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds)
