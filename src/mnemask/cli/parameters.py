"""Decorators that change the options of a command."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, get_args

import typer

P = ParamSpec("P")


def in_panel(annotation: Any, panel: str) -> Any:
    """Returns a copy of an option's annotation that is shown in this panel of the help."""
    kind, info = get_args(annotation)[:2]
    info = copy.copy(info)
    info.rich_help_panel = panel
    return Annotated[kind, info]


def with_given(function: Callable[P, None]) -> Callable[P, None]:
    """Passes a command, as its parameter `given`, the names of the parameters set on the command line."""
    own = inspect.signature(function, eval_str=True).parameters

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        context: Any = kwargs.pop("context")
        kwargs["given"] = {name for name in kwargs if context.get_parameter_source(name).name == "COMMANDLINE"}
        function(*args, **kwargs)

    injected = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    kept = [parameter for name, parameter in own.items() if name != "given"]
    run.__signature__ = inspect.Signature([injected, *kept])  # type: ignore[attr-defined]
    return run


def with_options(
    replaced: str, options: dict[str, tuple[Any, Any]], make: Callable[[dict[str, Any]], Any]
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Replaces a parameter of a command by options, from which `make` builds its value."""

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        function.__annotations__.pop(replaced, None)  # not evaluated, since that would import PyTorch
        signature = inspect.signature(function, eval_str=True)
        added = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            kwargs[replaced] = make({each.name: kwargs.pop(each.name) for each in added})
            function(*args, **kwargs)

        parameters = list(signature.parameters.values())
        place = list(signature.parameters).index(replaced)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*parameters[:place], *added, *parameters[place + 1 :]]
        )
        return run

    return decorate
