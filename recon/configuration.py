"""Command lines and configurations, read and built; short errors suggest the nearest name."""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, get_loader

from recon.errors import unknown_name
from recon.files.reading import open_regular

T = TypeVar("T")

# How jsonargparse words an unknown key or flag ...
_UNKNOWN = re.compile(
    r"(?:Group '(?P<group>.+?)' does not accept|Subcommand '.+?' does not accept|)"
    r"(?: option|Option) '(?P<key>.+?)'(?: is not accepted)?|unrecognized arguments: --?(?P<flag>[\w.-]+)"
)
# ... and, among all types that it tried a value against, its words about the requested class.
_PROBLEM = re.compile(
    r'Parser key "(?P<key>.+?)":.*?given class_path \'(?P<cls>.+?)\':\s*'
    r'(?:Parser key "(?P<inner>.+?)":\s*)?(?P<what>(?!Does not validate)[^\n]+)',
    re.DOTALL,
)
_REFUSED = re.compile(
    r"Does not validate against any of the Union subtypes\n.*?Errors:\n\s+- (?P<what>[^\n]+((?<=:)\n\s+[^\n]+)*)",
    re.DOTALL,
)
_LINKED = re.compile(r"Call to compute_fn of link .*? failed: (?P<what>.*)", re.DOTALL)
_NO_ATTRIBUTE = re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'(?!; nearest)")
_NO_PATH = re.compile(r"Expected a dot import path string: (?P<name>\w+)")
_LITERAL = re.compile(r"Expected a typing\.Literal\[(?P<known>[^\]]+)\]\. Got value: (?P<value>[^\n]+)")
_BESIDE_THE_POINT = re.compile(r"- (Expected a path but|Does not validate against|Expected a <class 'NoneType'>)")


def read_yaml(path: str | Path, what: str) -> Any:
    """Return the content of a YAML file, read as ``recon fit`` does: to PyYAML 1e-2 is text.

    Args:
        path: The file.
        what: What the file should be, for the error, e.g. ``"plan"``.

    Raises:
        ValueError: The file cannot be read, or is not YAML.
    """
    try:
        with open_regular(path) as file:
            return get_loader("yaml")(file.read().decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the {what} {path}: {' '.join(str(error).split())}") from error


def build_object(kind: type[T], configuration: Any, key: str) -> T:
    """Build an object from the path of its class and its arguments.

    >>> from torch import nn
    >>> head = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
    >>> build_object(nn.Module, head, "fit.model.heads")
    Linear(in_features=2, out_features=3, bias=True)

    Args:
        kind: The class of the object, or a class that it derives from.
        configuration: ``class_path`` and ``init_args``.
        key: Where the configuration stands, for errors.

    Raises:
        ValueError: There is no such class, or it refuses its arguments.
    """
    parser = Parser(exit_on_error=False)
    parser.add_argument("--object", type=kind)
    try:
        built = parser.instantiate(parser.parse_object({"object": configuration})).object
    except argparse.ArgumentError as error:
        raise ValueError(str(error).replace("object", key, 1)) from error
    assert isinstance(built, kind)
    return built


class Parser(ArgumentParser):
    """A parser that suggests the nearest for an unknown key or flag; it takes no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if unknown := _UNKNOWN.match(message):
            key = unknown["flag"] or ".".join(filter(None, (unknown["group"], unknown["key"])))
            message = str(unknown_name("option", key, _names(self)))
        elif problem := _PROBLEM.match(message):
            key = ".".join(filter(None, (problem["key"], problem["inner"])))
            message = f"{key}: {problem['cls']}: {problem['what']}"
        else:
            message = _shortened(message)
        message = _LITERAL.sub(_with_nearest, message)
        message = _NO_ATTRIBUTE.sub(lambda found: f"{found[0]}{nearest_class(f'{found[1]}.{found[2]}')}", message)
        super().error(_NO_PATH.sub(r"\g<name> is no path of a class, such as package.module.\g<name>", message), ex)

    def instantiate(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().instantiate(*args, **kwargs)
        except ValueError as error:  # a class refused its arguments
            refused = _REFUSED.match(str(error)) or _LINKED.match(str(error))
            what = " ".join(refused["what"].split()) if refused else str(error)
            kind = _unworded(error, what)
            if refused or kind:
                raise ValueError(f"{kind}: {what}" if kind else what) from error
            raise


class CommandParser(Parser):
    """A parser of a function's arguments, as command lines have them.

    Required arguments are positional, unless the function takes them by keyword only; so are those
    that it takes by position only, which may have a default. A list takes one word or more. Flags
    have no value.
    """

    _by_keyword: frozenset[str] = frozenset()
    _by_place: Mapping[str, Any] = {}
    _lists: Mapping[str, Any] = {}

    def add_command(self, function: Callable[..., Any]) -> None:
        """Take the arguments of a function, and their help from its docstring."""
        parameters = inspect.signature(function).parameters.values()
        self._by_keyword = frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
        self._by_place = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_ONLY}
        self._lists = {p.name: get_args(p.annotation)[0] for p in parameters if get_origin(p.annotation) is list}
        self.add_function_arguments(function, as_group=False, as_positional=True)

    def call(self, function: Callable[..., Any], words: list[str]) -> Any:
        """Call the function of :meth:`add_command` with the arguments that the words give."""
        values = self.instantiate(self.parse_args(words)).as_dict()
        by_place = [values.pop(p) for p in inspect.signature(function).parameters if p in self._by_place]
        return function(*by_place, **values)

    def add_argument(self, *names: str, **options: Any) -> Any:
        """As the parent, for an argument that a signature asks for."""
        name = names[0].removeprefix("--")
        if name in self._lists:
            given = {key: options[key] for key in ("help", "default") if key in options}
            return super().add_argument(names[0], nargs="+", type=self._lists[name], **given)
        if self._by_place.get(name, inspect.Parameter.empty) is not inspect.Parameter.empty:
            return super().add_argument(name, nargs="?", default=self._by_place[name], help=options.get("help"))
        if options.get("type") is bool:
            dashed = [name.replace("_", "-") for name in names if "_" in name]
            return super().add_argument(*names, *dashed, action="store_true", help=options.get("help"))
        if names[0] in self._by_keyword:
            return super().add_argument(f"--{names[0]}", required=True, **options)
        return super().add_argument(*names, **options)


def nearest_class(path: str) -> str:
    """The end of an error about a class that is not there: the names most like it.

    >>> nearest_class("recon.errors.unknown_nam")
    "; nearest: 'recon.errors.unknown_name'"

    Args:
        path: The path of the class. The innermost of its modules that is imported is searched.

    Returns:
        At most three names; an empty text if none is like it.
    """
    module, _, name = path.rpartition(".")
    while module and module not in sys.modules:
        module, _, name = module.rpartition(".")
    names = [known for known in dir(sys.modules.get(module)) if not known.startswith("_")] if module else []
    nearest = get_close_matches(name, names, n=3)
    return f"; nearest: {', '.join(repr(f'{module}.{known}') for known in nearest)}" if nearest else ""


def _with_nearest(refused: re.Match[str]) -> str:
    """The error for a value that is none of those which a signature names, with the nearest."""
    nearest = get_close_matches(refused["value"].strip("'"), re.findall(r"'([^']*)'", refused["known"]), n=1)
    return f"{refused[0]}; nearest: {nearest[0]!r}" if nearest else refused[0]


def _unworded(error: BaseException, text: str) -> str:
    """The kind of the error's cause with this text, if the text alone says little (missing key)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LookupError | ArithmeticError | AssertionError | AttributeError) and str(cause) == text:
            return type(cause).__name__
        cause = cause.__cause__ or cause.__context__
    return ""


def _shortened(message: str) -> str:
    """A message of several lines in one, with only the types that could have been meant."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) <= 1:
        return message
    tried = [line.removeprefix("- ") for line in lines if line.startswith("- ") and not _BESIDE_THE_POINT.match(line)]
    key, given = (re.search(pattern, message) for pattern in (r'Parser key "(.+?)"', r"Given value: (.+)"))
    if key is None or not tried:
        return " ".join(lines)
    value = f"; got {given[1]}" if given else ""
    return f"{key[1]}: {'; or '.join(dict.fromkeys(tried))}{value}"


def _names(parser: argparse.ArgumentParser) -> list[str]:
    """The keys that a parser and its subcommands accept, each once."""
    names: list[str] = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            names += [name for subparser in action.choices.values() for name in _names(subparser)]
        elif not action.dest.endswith("help") and action.dest != "print_shtab":  # help omits it
            names.append(action.dest)
    return list(dict.fromkeys(names))
