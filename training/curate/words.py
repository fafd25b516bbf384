"""Words that the caption checks know: everyday words, and families of words that exclude each other."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that the base model has seen in thousands of captions: as a trigger each brings its own pictures.
COMMON_WORDS = _words("""
    actor actress adult alien android angel animal anime apartment apple armor army art artist baby ball band
    bar beach bear beard beast beauty bed bedroom bird black blonde blue boat body book boss box boy bridge
    brother brown building bus cafe camera captain car castle cat cave celebrity chair character chef child
    church cinematic circle city classroom cloud coat comic computer concept corridor couple cowboy creature
    crowd cyborg dad dancer dark daughter day death demon desert detective devil doctor dog doll door dragon
    dress driver earth elf engineer evening eye eyes face fairy family fantasy farm father field fighter
    figure film fire fish flower food forest fox friend game garden ghost giant girl glass god gold grass
    green guard guy hair hall hand hat head hero hill home horse hospital hotel house human hunter ice idol
    image island job judge jungle key kid king kitchen knight lab lady lake lamp landscape leader leaf library
    light lion look love machine magic maid man map market mask master mech metal model monk monster moon
    morning mother mountain movie museum music night ninja noir nurse object ocean office old orange owner
    painting palace park party path people person phone photo photograph picture pilot pirate place plane
    planet plant player police portrait priest prince princess queen rain red river road robot rock room rose
    ruin samurai sand scene school scientist sea shadow ship shirt shop shot sister skull sky snow soldier son
    space spider spirit star station statue steel stone store storm street student style suit summer sun
    sword table teacher team temple thing tiger tower town toy train tree truck tunnel uncle uniform vampire
    vault village wall war warrior water white wife window winter witch wizard wolf woman wood worker world
    yellow zombie
    """)

# Bare subjects: the base knows these classes, so that all captions say them is how captions should be.
SUBJECTS = _words(
    "person people man men woman women boy boys girl girls child children figure figures someone"
)

# Words without a meaning of their own: a phrase of these is no fragment that a trigger could absorb.
SMALL_WORDS = _words(
    "a an and as at behind beside by for from her his in into is it its near of off on onto or over the "
    "their to under up with"
)

# Of a thing that is either there or not: the phrases for "there", and those for "not there".
PRESENCE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hair": (
        ("hair", "haired", "ponytail", "pigtails", "braid", "braids", "hair bun", "bangs", "curls", "afro",
         "dreadlocks", "mohawk", "wig", "bob cut", "blonde", "brunette"),
        ("bald", "hairless", "shaved head", "shaven head"),
    ),
    "beard": (
        ("beard", "bearded", "goatee", "moustache", "mustache", "stubble"),
        ("clean-shaven", "clean shaven", "beardless"),
    ),
    "glasses": (("glasses", "spectacles", "eyeglasses", "sunglasses"), ("glassless",)),
    "hat": (("hat", "cap", "helmet", "beanie"), ("bareheaded", "bare-headed")),
}  # fmt: skip

# Words of one family exclude each other before the same noun: "green vest" and "red vest".
MODIFIERS: Mapping[str, frozenset[str]] = {
    "colour": _words(
        "amber auburn beige black blond blonde blue bronze brown copper cyan gold golden green grey gray "
        "magenta navy orange pink purple red silver teal turquoise violet white yellow"
    ),
    "tone": _words("pale fair tan tanned olive dark light ebony"),
    "length": _words("long short shoulder-length knee-length cropped"),
    "curl": _words("straight curly wavy"),
    "age": _words("old elderly young teenage"),
    "build": _words("slim thin skinny fat chubby muscular"),
    "shape": _words("round square oval"),
}
SAME_WORD: Mapping[str, str] = {"blonde": "blond", "gray": "grey", "golden": "gold", "tanned": "tan"}
