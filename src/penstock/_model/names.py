"""Names of runs: an adjective and an animal, chosen by a flow run's id; or as the user says.

Why: docs/inside/run.md, "Names follow from ids".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from string import Formatter
from typing import Any, TypeAlias, cast

from penstock._model import checks
from penstock.exceptions import ConfigurationError

MakeName: TypeAlias = Callable[[Mapping[str, Any]], object]
"""Makes the name of a run from its parameters."""

_ADJECTIVES = str.split(
    "amber ancient attentive azure bold brave bright brisk calm careful charming chestnut clever "
    "copper cosmic crimson curious daring dapper eager elegant fearless fluffy gentle gleaming "
    "golden graceful happy hidden holistic humble imposing indigo ivory jolly keen lively loyal "
    "lucky majestic mellow mighty modest nimble noble olive patient peaceful pristine proud quick "
    "quiet radiant rapid rustic saffron serene silent silver sincere sleek steady swift taupe "
    "tidy topaz tranquil umber upbeat vivid wise witty"
)
_ANIMALS = str.split(
    "ant badger bat bear beaver bee bison boar buffalo camel caribou cheetah chicken civet cobra "
    "cougar coyote crane crow deer dolphin dove duck eagle echidna eel elephant falcon ferret "
    "finch flamingo fox gazelle gecko giraffe goose grasshopper grouse hare hawk hedgehog heron "
    "horse ibex iguana jackal jaguar kestrel kiwi koala lark lemur leopard lion lizard llama loon "
    "lynx magpie marmot marten mink mole mongoose moose mule newt ocelot octopus orca oriole "
    "osprey otter owl ox panda panther parrot pelican penguin pheasant pigeon puffin puma quail "
    "rabbit "
    "raccoon raven robin salmon seal shark sheep shrew sloth snail sparrow spider squid stork swan "
    "tapir tiger toad trout turaco turtle viper vulture walrus weasel whale wolf wombat wren zebra"
)


def name_of_flow_run(run_id: bytes) -> str:
    """The name of the flow run with this id, such as `attentive-turaco`."""
    # Ids count up one by one; the multiplication spreads neighbours over the list.
    pick = int.from_bytes(run_id[8:], "big") * 0x9E3779B97F4A7C15 >> 24
    adjective, animal = divmod(pick % (len(_ADJECTIVES) * len(_ANIMALS)), len(_ANIMALS))
    return f"{_ADJECTIVES[adjective]}-{_ANIMALS[animal]}"


def name_maker(
    given: object, parameters: Collection[str], argument: str, owner: str
) -> MakeName | None:
    """What makes the names of runs, as an argument of a decorator says: a template or a function.

    Raises:
        ConfigurationError: it is neither, or the template names what is not a parameter.
    """
    if given is None:
        return None
    if isinstance(given, str) and given.strip():
        _check_template(given, parameters, f"{owner}: {argument}")
        return given.format_map
    if not checks.accepts(given, 0) or inspect.iscoroutinefunction(given):
        example = f"{{{next(iter(parameters), 'x')}}}"
        requirement = f"a template such as '{example}', or a sync function without arguments"
        raise checks.refusal(given, argument, owner, requirement)
    make = cast("Callable[[], object]", given)
    return lambda _parameters: make()


def _check_template(template: str, parameters: Collection[str], what: str) -> None:
    try:
        fields = set(_fields_of(template))
    except ValueError as error:
        raise ConfigurationError(f"{what} {template!r} is not a valid template: {error}.") from None
    unknown = sorted(fields - set(parameters))
    if unknown:
        raise ConfigurationError(
            f"{what} {template!r} names {', '.join(map(repr, unknown))}; the parameters are "
            f"{', '.join(parameters) or 'none'}."
        )


def _fields_of(template: str) -> Iterator[str]:
    """The parameters that a template names; `{x.y[0]:{z}}` names x and z."""
    for _text, field, spec, _conversion in Formatter().parse(template):
        if field is not None:
            yield re.split(r"[.\[]", field, maxsplit=1)[0]
            yield from _fields_of(spec or "")
