"""Names for flow runs: an adjective and an animal, drawn from the run's id."""

from __future__ import annotations

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
    # The tail counts up, one by one: the multiplication spreads neighbours over the list.
    pick = int.from_bytes(run_id[8:], "big") * 0x9E3779B97F4A7C15 >> 24
    adjective, animal = divmod(pick % (len(_ADJECTIVES) * len(_ANIMALS)), len(_ANIMALS))
    return f"{_ADJECTIVES[adjective]}-{_ANIMALS[animal]}"
