"""The kinds of stages: functions registered by name, and what a recipe may give them.

What a function is given to work with is `retgen.recipes.context.StageContext`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from retgen.errors import UsageError
from retgen.recipes.yaml_source import unknown_name

_Function = TypeVar("_Function", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class StageKind:
    """A registered kind of stage. Made by `stage`.

    Args:
        name: as recipes call it.
        function: ``(context, **params) -> None``.
        version: of its code; part of every key.
        seeded: whether what it makes depends on the seed.
        isolated: whether it runs in a process of its own.
        needs: role → whether a recipe must fill it; None where any roles will do.
        arguments: the function's parameters, their types and defaults.
        added: those that came later, no part of a key where they have their default.
    """

    name: str
    function: Callable[..., None]
    version: str | Callable[[], str]
    seeded: bool
    isolated: bool
    needs: Mapping[str, bool] | None
    arguments: type[BaseModel]
    added: frozenset[str] = frozenset()

    def current_version(self) -> str:
        """The version of the stage's code, and of data that comes with the code."""
        return self.version() if callable(self.version) else self.version

    def check_params(self, params: Mapping[str, Any], *, where: Callable[[str], str] = str) -> BaseModel:
        """Arguments of the right types, defaults filled in.

        Args:
            params: name → value.
            where: from an argument's name to its place, for errors.

        Raises:
            UsageError: one is unknown, missing, or of the wrong type.
        """
        try:
            return self.arguments.model_validate(dict(params))
        except ValidationError as error:
            errors = error.errors(include_url=False)
            first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
                names = list(self.arguments.model_fields)
                raise unknown_name(f"argument of {self.name!r}", name, names, where=where(name)) from error
            given = f", got {first['input']!r}" if first["type"] != "missing" else ""
            what = f"the argument {'.'.join(map(str, first['loc']))!r} of {self.name!r} cannot be used: {first['msg']}"
            raise UsageError(f"{what}{given}", where=where(name)) from error

    def keyed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that are part of a stage's key: all but those that were added later and have their default.

        Args:
            params: all arguments as JSON values.
        """
        default = {name: self.arguments.model_fields[name].get_default() for name in self.added}
        return {name: value for name, value in params.items() if name not in default or value != default[name]}

    def check_needs(self, roles: Iterable[str], *, where: str) -> None:
        """Whether the roles are those of the kind.

        Raises:
            UsageError: one is unknown, or one is missing.
        """
        if self.needs is None:
            return
        given = list(roles)
        for role in given:
            if role not in self.needs:
                raise unknown_name(f"need of {self.name!r}", role, self.needs, where=where)
        missing = [role for role, must in self.needs.items() if must and role not in given]
        if missing:
            raise UsageError(
                f"a stage of kind {self.name!r} needs {', '.join(map(repr, missing))}",
                where=where,
                mend=f"Name the stage, for example {missing[0]}: <stage>",
            )


_KINDS: dict[str, StageKind] = {}


def stage(
    kind: str,
    *,
    version: str | Callable[[], str] = "1",
    seeded: bool = False,
    isolated: bool = False,
    needs: Sequence[str] | None = None,
    added: Sequence[str] = (),
) -> Callable[[_Function], _Function]:
    """Register a function as a kind of stage.

    Its parameters after ``context`` are the arguments a recipe may give: annotated, so that they can be checked and
    converted, and with their defaults part of the stage's key.

    Args:
        kind: the name in recipes.
        version: change it when the code's results change, and everything made with it is made again. A function is
            called once per run: for data that comes with the code.
        seeded: whether the result depends on ``context.seed``; without it all seeds share one.
        isolated: run it in a process of its own, so that its peak memory is its own. The function must then stand in
            an importable module.
        needs: roles that a recipe must fill; ``"role?"`` may be left out. None allows any.
        added: parameters that were added to a kind whose finished stages stay right, since by default they change
            nothing: their default is no part of the key. It must be None, a text, a number, or true or false.

    Raises:
        UsageError: the kind is taken, a parameter has no annotation, or an added one no such default.

    Example:
        >>> from retgen.recipes.context import StageContext
        >>> @stage("greeting", version="2", needs=["names"])
        ... def greet(context: StageContext, word: str = "Hello") -> None:
        ...     names = (context.input("names") / "names.txt").read_text()
        ...     (context.folder / "greeting.txt").write_text(f"{word}, {names}!")
    """

    def register(function: _Function) -> _Function:
        taken = _KINDS.get(kind)
        if taken is not None and _place(taken.function) != _place(function):
            raise UsageError(f"the stage kind {kind!r} is taken by {_place(taken.function)}", where=_place(function))
        roles = None if needs is None else {role.removesuffix("?"): not role.endswith("?") for role in needs}
        arguments = _arguments(kind, function)
        for name in added:
            known = arguments.model_fields.get(name)
            if known is None or not isinstance(known.default, str | int | float | None):
                raise UsageError(f"the added parameter {name!r} has no plain default", where=_place(function))
        _KINDS[kind] = StageKind(kind, function, version, seeded, isolated, roles, arguments, frozenset(added))
        return function

    return register


def stage_kind(name: str, *, where: str | None = None) -> StageKind:
    """The kind of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in _KINDS:
        raise unknown_name("kind of stage", name, sorted(_KINDS), where=where)
    return _KINDS[name]


def _place(function: Callable[..., None]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _arguments(kind: str, function: Callable[..., None]) -> type[BaseModel]:
    _, *parameters = inspect.signature(function, eval_str=True).parameters.values()
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.annotation is parameter.empty or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
            parameter.POSITIONAL_ONLY,
        ):
            raise UsageError(
                f"the parameter {parameter.name!r} of a stage needs a type and a name of its own",
                where=_place(function),
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        # Protected names of pydantic's are free for use as arguments through an alias.
        fields[parameter.name] = (parameter.annotation, Field(default))
    config = ConfigDict(extra="forbid", protected_namespaces=(), arbitrary_types_allowed=False, validate_default=True)
    return create_model(f"{kind} arguments", __config__=config, **fields)
