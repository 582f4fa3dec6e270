"""Custom policies, losses, regularizers and data sets by name, with one grammar and one registry class for all.

::

    NAME                     built in, registered, or an entry point of an installed package
    PACKAGE.MODULE:CLASS     importable code, or code in the current folder
    FILE.py:CLASS            code in a file
    …(ARGUMENTS)             any of these with arguments: Python literals, by position or by name

Arguments are parsed and never evaluated. Code is imported only if the caller states that its user has asked for it
(`own_code`): code that is named in a file, a project or a checkpoint is not imported.
"""

import ast
import hashlib
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from mnemask.errors import InputError, MnemaskError

T = TypeVar("T")
LONGEST = 2000
NAME = re.compile(r"[A-Za-z][\w.-]*")
_CALL = re.compile(r"\s*([^()\s][^()]*?)\s*(\(.*\))?\s*", re.DOTALL)
_WORDS = {"true": True, "false": False, "none": None}
_INSTALLED = ("site-packages", str(Path(__file__).parent), sysconfig.get_paths()["stdlib"])
EXAMPLE = "write NAME, package.module:Class or file.py:Class, and arguments as in 'lfu(write_every=3)'"


@dataclass(frozen=True, slots=True)
class Call:
    """A name with arguments, as a user writes it.

    Attributes:
        target: the name, or code as MODULE:CLASS.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    target: str
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Call":
        """Returns the parsed text; raises InputError unless it is a name, optionally with literals in parentheses.

        Example:
            >>> Call.parse("lfu( write_every = 3 )")
            Call(target='lfu', args=(), kwargs={'write_every': 3})
            >>> str(Call.parse("with-latest(lfu, share=0.25)"))
            "with-latest('lfu', share=0.25)"
        """
        match = _CALL.fullmatch(text) if len(text) <= LONGEST else None
        if match is None:
            raise InputError(f"{text[:80]!r} is not a name with arguments", EXAMPLE)
        try:
            call = ast.parse(f"_{match[2] or '()'}", mode="eval").body
            assert isinstance(call, ast.Call), "more than one pair of parentheses"
            assert isinstance(call.func, ast.Name), "more than one pair of parentheses"
            args = tuple(_value(node) for node in call.args)
            kwargs = {str(each.arg or "**"): _value(each.value) for each in call.keywords}
        except (AssertionError, SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
            reason = str(error).partition(" (<unknown>")[0]
            raise InputError(f"the arguments of {text[:80]!r} must be literals ({reason})"[:300], EXAMPLE) from error
        if "**" in kwargs:
            raise InputError(f"the arguments of {text[:80]!r} must be literals (**)", EXAMPLE)
        return cls(match[1], args, kwargs)

    def __str__(self) -> str:
        written = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.target}({', '.join(written)})" if written else self.target


def _value(node: ast.expr) -> object:
    """Returns a literal's value; bare words, except true, false and none, and calls such as lfu(pin=True) are text."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, ast.Call):
        return ast.unparse(node)
    return ast.literal_eval(node)


@dataclass(slots=True)
class Registry(Generic[T]):
    """The plugins of one kind, by name.

    Attributes:
        kind: the name of the kind, such as "policy".
        group: the entry-point group in which installed packages declare more of them.
        known: those that are built in or registered.
        accepted: a function that takes a custom plugin and its label, and returns the plugin or raises InputError.
    """

    kind: str
    group: str
    known: dict[str, T]
    accepted: Callable[[object, str], T]
    _found: dict[str, T] = field(default_factory=dict)

    def named(self, text: str, own_code: bool = False) -> T:
        """Returns the plugin that a text names.

        Args:
            text: a text in the grammar of this module.
            own_code: whether code that it names may be imported, because the user who runs the program wrote the text.

        Raises:
            InputError: if nothing has that name, its arguments do not fit, or it cannot be imported or used.
        """
        if text in self.known:
            return self.known[text]
        call = Call.parse(text)
        label = label_of(call)
        if own_code and ":" in call.target:
            code_at(call.target)  # raises InputError if another file's module has the same name
        for those in (self.known, self._found):
            if label in those:
                return those[label]
        thing = self.accepted(self._made(self._target(call, own_code), call, own_code), label)
        if ":" not in label:  # custom code may be edited and imported again
            self._found[label] = thing
        return thing

    def choose(self, text: str) -> str:
        """Registers the plugin that the user asked for, and returns the name under which it is now known."""
        if text not in self.known:
            label = label_of(Call.parse(text))
            self.known[label] = self.named(text, own_code=True)
            return label
        return text

    def register(self, name: str, thing: object) -> None:
        """Registers a plugin under a name; raises InputError if it cannot be used or the name is taken."""
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} is not a valid {self.kind} name", "use letters, digits, - and _, as in newest")
        made = self.accepted(self._made(thing, Call(name), False), name)
        if name in self.known and self.known[name] != made:
            raise InputError(f"a {self.kind} {name!r} already exists", "choose another name")
        self.known[name] = made

    def names(self) -> list[str]:
        """Returns all names, including those of installed packages, without importing the packages."""
        known = (name for name in self.known if NAME.fullmatch(name))
        return list(dict.fromkeys([*known, *(each.name for each in entry_points(group=self.group))]))

    def _target(self, call: Call, own_code: bool) -> object:
        if call.target in self.known:
            return self.known[call.target]
        if ":" in call.target:
            if not own_code:
                raise InputError(
                    f"{self.kind} {call.target!r} is code, which is imported only if the command line names it",
                    f"name it there, or import it and register it (mnemask.plugins, group {self.group})",
                )
            return code_at(call.target)
        for each in entry_points(group=self.group):
            if each.name == call.target:
                try:
                    return each.load()
                except Exception as error:
                    raise InputError(
                        f"{self.kind} {each.name!r} of an installed package, {each.value}, cannot be imported: "
                        + describe_error(error),
                        "reinstall that package, or remove it",
                    ) from error
        choices = ", ".join(self.names())
        remedy = f"choose one of {choices}, or {EXAMPLE}" if choices else EXAMPLE
        raise InputError(f"{self.kind} {call.target!r} is unknown", remedy)

    def _made(self, thing: object, call: Call, own_code: bool) -> object:
        """Applies a call's arguments: returns an instance of a class, a copy of an instance, or a partial function."""
        if not (inspect.isclass(thing) or call.args or call.kwargs):
            return thing
        maker = type(thing) if is_dataclass(thing) and not inspect.isclass(thing) else thing
        if not callable(maker):
            raise InputError(f"{call.target} is a {type(thing).__name__} and takes no arguments", "leave them out")
        try:
            signature = inspect.signature(maker)
            bind = signature.bind if inspect.isclass(thing) else signature.bind_partial
            arguments = bind(*call.args, **call.kwargs)
        except (TypeError, ValueError) as error:
            raise InputError(f"{call}: {error}", f"call it as {call.target}{_shown(maker)}") from error
        if isinstance(inner := arguments.arguments.get("inner"), str):
            arguments.arguments["inner"] = self.named(inner, own_code)
        try:
            if inspect.isclass(thing):
                return thing(*arguments.args, **arguments.kwargs)
            if is_dataclass(thing):
                return replace(thing, **arguments.arguments)  # type: ignore[type-var]
            return partial(maker, *arguments.args, **arguments.kwargs)
        except MnemaskError:
            raise
        except Exception as error:
            raise InputError(
                f"{call} cannot be created: {describe_error(error)}", f"call it as {call.target}{_shown(maker)}"
            ) from error


def label_of(call: Call) -> str:
    """Returns the name of a call for tables and folders, with FILE.py shortened to the name of its module."""
    where, colon, name = call.target.rpartition(":")
    short = f"{Path(where).stem}:{name}" if where.endswith(".py") else f"{where}{colon}{name}"
    return str(replace(call, target=short))


def code_at(target: str) -> object:
    """Imports and returns the class, function or object at MODULE:NAME or FILE.py:NAME.

    The folder of the file, or the current folder, is searched last, so that it does not shadow other modules.

    Raises:
        InputError: if there is no such module or name, or the module cannot be imported.
    """
    where, _, path = target.rpartition(":")
    found: object = _module(where)
    for part in path.split("."):
        if not hasattr(found, part):
            names = _offered_by(found) if isinstance(found, ModuleType) else []
            remedy = f"choose one of {', '.join(names)}" if names else "check the spelling"
            raise InputError(f"{where} has no {part!r}", remedy)
        found = getattr(found, part)
    return found


def _offered_by(module: ModuleType) -> list[str]:
    """Returns the last 20 public names of a module's classes and own functions; imports come first in most files."""

    def is_offered(thing: object) -> bool:
        return inspect.isclass(thing) or (inspect.isfunction(thing) and thing.__module__ == module.__name__)

    return [name for name, thing in vars(module).items() if not name.startswith("_") and is_offered(thing)][-20:]


def _module(where: str) -> ModuleType:
    file = Path(where) if where.endswith(".py") else None
    if file is not None and not file.is_file():
        raise InputError(f"there is no file {where!r}", EXAMPLE)
    name, folder = (where, Path.cwd()) if file is None else (file.stem, file.resolve().parent)
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{name!r} is not a valid name of a Python module", EXAMPLE)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        module = import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise InputError(
                f"there is no module {error.name!r}",
                "install it, change to the folder that contains it, or give its file, as in file.py:Class",
            ) from error
        raise InputError(f"{where} cannot be imported: {describe_error(error)}", "fix the error") from error
    if file is not None and Path(module.__file__ or ".").resolve() != file.resolve():
        raise InputError(f"another module is also named {name!r} ({module.__file__})", f"rename {where}")
    return module


def source_digest(thing: object) -> str:
    """Returns a digest of the source of a function, or of an object's class and its bases; "" if there is no source."""
    while isinstance(thing, partial):
        thing = thing.func
    code: Any = thing if inspect.isroutine(thing) or inspect.isclass(thing) else type(thing)
    return _digest_of_source(code)


@cache  # the code that runs is that of the file at its import; later edits do not matter
def _digest_of_source(code: Any) -> str:
    bases = code.__mro__[1:] if inspect.isclass(code) else ()
    texts = [_source_of(each) for each in (code, *(base for base in bases if not _is_installed(base)))]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12] if texts[0] else ""


def _source_of(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return ""


def _is_installed(base: type) -> bool:
    """Returns whether a class belongs to Python, to this package or to another installed package."""
    file = getattr(sys.modules.get(base.__module__), "__file__", None)
    return file is None or any(place in file for place in _INSTALLED)


def describe_error(error: BaseException) -> str:
    """Returns a description of an error in code outside this package, with its location there."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [each for each in frames if not any(place in each.filename for place in _INSTALLED)]
        last = (theirs or frames)[-1]
        place = f"{last.filename}, line {last.lineno}"
    return f"{type(error).__name__}: {error} ({place})"


def _shown(maker: object) -> str:
    try:
        signature = inspect.signature(maker)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(…)"
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
