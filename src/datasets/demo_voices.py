"""The speakers of the demo speech: eSpeak NG's voice variants, split by likeness.

A variant, and its near twins, stand on one side of the split. Robots, whispers, voices of effect
and near copies are left out.
"""

import random
from dataclasses import dataclass

VARIANTS = {
    "val": ("f2", "anika", "m2", "robert", "m6", "Alex"),
    "test": ("f1", "steph", "Andrea", "m1", "m3", "paul", "sandro", "victor"),
    "train": (
        *("Alicia", "Annie", "linda", "aunty", "f3", "f4", "f5", "grandma", "shelby"),
        *("Michael", "Andy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee"),
        *("Marco", "Mario", "Mike", "Mr serious", "Nguyen", "Reed", "adam", "antonio", "benjamin"),
        *("boris", "caleb", "david", "ed", "edward", "edward2", "grandpa", "gustave", "ian"),
        *("iven", "john", "kaukovalta", "klatt3", "klatt4", "travis", "m4", "m5", "m7", "marcelo"),
        *("max", "michel", "miguel", "norbert", "pablo", "pedro", "quincy", "rob", "m8"),
    ),
}
FEMALE = {
    *("f1", "f2", "f3", "f4", "f5", "steph", "linda", "Alicia", "Andrea", "Annie", "anika"),
    *("aunty", "grandma", "shelby"),
}
ACCENTS = ("en-us", "en", "en-gb-x-rp")


@dataclass(frozen=True)
class Speaker:
    """One voice of the corpus; pitch, range and rate are eSpeak NG's parameters."""

    name: str
    voice: str
    pitch: int
    range: int
    rate: int
    level: float  # dBFS, RMS


def speaker(variant: str, accent: str, rng: random.Random) -> Speaker:
    """A speaker with drawn base pitch, range, rate and level."""
    return Speaker(
        name=f"{accent}-{variant.lower().replace(' ', '-')}",
        voice=f"{accent}+{variant}",
        pitch=rng.randint(35, 65),
        range=rng.randint(35, 70),
        rate=rng.randint(140, 190),
        level=rng.uniform(-26.0, -20.0),
    )


def speakers(split: str, seed: int, limit: int | None = None) -> list[Speaker]:
    """The speakers of a split.

    Female voices are few: in training each speaks with every accent, the others with one.

    Args:
        split: train, val or test.
        seed: of the draws.
        limit: only the first so many.
    """
    rng = random.Random(f"{seed}/speakers/{split}")
    found = []
    for i, variant in enumerate(VARIANTS[split]):
        every = split == "train" and variant in FEMALE
        accents = ACCENTS if every else (ACCENTS[i % len(ACCENTS)],)
        found += [speaker(variant, accent, rng) for accent in accents]
    return found[:limit]
