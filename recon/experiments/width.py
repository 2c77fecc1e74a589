"""The width of a backbone, as a plan's configuration sets it."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pydoc import locate
from typing import Any

from recon.experiments.fit import Fit

_FAR = 8
"""Times the width at which a network must have grown; architectures may round widths."""


@dataclass(frozen=True)
class Width:
    """The argument of a fit's backbone that sets its width: a whole number, or a list of them.

    A list is the widths of several layers. All are scaled alike, and the largest counts.

    >>> fit = Fit({"model": {"backbone": {"class_path": "recon.models.LeNet"}}})
    >>> width = Width(fit, "features")
    >>> width.number, width.fit_of(60).configuration["model"]["backbone"]["init_args"]
    (50, {'features': 60})

    Attributes:
        fit: The fit.
        argument: Name of the argument. A path such as ``backbone.init_args.width`` leads to one of
            a backbone inside an architecture.

    Raises:
        ValueError: The backbone has no such argument, or its value is no width.
    """

    fit: Fit
    argument: str

    def __post_init__(self) -> None:
        value = self._value()
        numbers = value if isinstance(value, list | tuple) else [value]
        if not numbers or any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError(
                f"fit.model.backbone has {self.argument}: {value!r}, which is no width; a wider network needs a whole "
                "number or a list of them: name another argument by the key `width`"
            )

    @property
    def number(self) -> int:
        """The width, or the largest of several."""
        value = self._value()
        return int(value if isinstance(value, int) else max(value))

    def fit_of(self, number: int) -> Fit:
        """The same fit with another width; several are scaled, and rounded to whole numbers."""
        value, backbone = self._value(), deepcopy(self.fit.configuration["model"]["backbone"])
        scaled = number if isinstance(value, int) else [max(1, round(each * number / max(value))) for each in value]
        *parents, name = self.argument.split(".")
        arguments = backbone.setdefault("init_args", {})
        for parent in parents:
            arguments = arguments.setdefault(parent, {})
        arguments[name] = scaled
        return self.fit.with_model({"backbone": backbone})

    def nearest(self, measure: Callable[[Fit], int], wanted: int) -> Fit:
        """The fit of a wider network, whose measure is the nearest to the one that is wanted.

        Args:
            measure: A measure of a fit that grows with the width, such as its parameters.
            wanted: Its value to come near to.

        Raises:
            ValueError: It does not grow with this argument.
        """
        low, high = self.number + 1, self.number + 2  # never the plain network itself
        while (found := measure(self.fit_of(high))) < wanted:
            if high > _FAR * self.number and found <= measure(self.fit):
                raise ValueError(
                    f"fit.model.backbone with {self.argument}: {high} costs no more than with {self.number}, so there "
                    "is no wider network; name another argument by the key `width`"
                )
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if measure(self.fit_of(middle)) < wanted else (low, middle)
        return min((self.fit_of(low), self.fit_of(high)), key=lambda fit: abs(measure(fit) - wanted))

    def _value(self) -> Any:
        """The argument's value, or its default."""
        owner = self.fit.configuration["model"]["backbone"]
        *parents, name = self.argument.split(".")
        arguments: Any = owner.get("init_args") or {}
        for parent in parents:
            arguments = (arguments.get(parent) if isinstance(arguments, Mapping) else None) or {}
            owner = arguments if "class_path" in arguments else owner
        if name in arguments:
            return arguments[name]
        kind = locate(str(owner.get("class_path")))
        parameters = inspect.signature(kind).parameters if callable(kind) else {}
        if name not in parameters or parameters[name].default is inspect.Parameter.empty:
            raise self._missing(owner)
        return parameters[name].default

    def _missing(self, owner: Mapping[str, Any]) -> ValueError:
        return ValueError(
            f"{owner.get('class_path')} has no argument {self.argument!r}, so there is no wider network; the key "
            "`width` names the argument of the backbone that sets its width, a whole number or a list of them"
        )
