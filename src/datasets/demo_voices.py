"""The speakers of the demo speech: eSpeak NG's voice variants, split by likeness.

A variant, and its near twins, stand on one side of the split. Robots, whispers, voices of effect
and near copies are left out.
"""

import random
from dataclasses import dataclass

VARIANTS = {
    "val": ("f2", "m2", "Annie", "robert", "Alex", "m6"),
    "test": ("f1", "m1", "m3", "f3", "paul", "sandro", "victor"),
    "train": (
        *("Michael", "Alicia", "linda", "steph", "john", "aunty", "f4", "f5", "grandma"),
        *("shelby", "Andrea", "anika", "Andy", "Diogo", "Gene", "Gene2", "Henrique", "Hugo"),
        *("Jacky", "Lee", "Mario", "Mr serious", "Nguyen", "Reed", "adam", "antonio"),
        *("benjamin", "boris", "david", "ed", "edward", "edward2", "grandpa", "gustave"),
        *("ian", "iven", "kaukovalta", "klatt3", "klatt4", "travis", "m4", "m5", "m7", "m8"),
        *("marcelo", "max", "michel", "miguel", "norbert", "pablo", "pedro", "quincy"),
    ),
}
FEMALE = {
    *("f1", "f2", "f3", "f4", "f5", "steph", "linda", "Alicia", "Andrea", "Annie", "anika"),
    *("aunty", "grandma", "shelby"),
}
ACCENT = "en-us"  # of all: what differs is the voice, not the pronunciation


@dataclass(frozen=True)
class Speaker:
    """One voice of the corpus; pitch, range and rate are eSpeak NG's parameters."""

    name: str
    voice: str
    pitch: int
    range: int
    rate: int
    level: float  # dBFS, RMS


def speaker(name: str, variant: str, seed: int) -> Speaker:
    """A speaker with drawn base pitch, range, rate and level."""
    rng = random.Random(f"{seed}/speakers/{name}")
    return Speaker(
        name=name,
        voice=f"{ACCENT}+{variant}",
        pitch=rng.randint(35, 65),
        range=rng.randint(35, 70),
        rate=rng.randint(110, 150),
        level=rng.uniform(-26.0, -20.0),
    )


def speakers(split: str, seed: int, limit: int | None = None) -> list[Speaker]:
    """The speakers of a split.

    Female voices are few: in training each stands for two speakers of different pitch and rate.

    Args:
        split: train, val or test.
        seed: of the draws.
        limit: only the first so many.
    """
    found = []
    for variant in VARIANTS[split]:
        name = variant.lower().replace(" ", "-")
        found.append(speaker(name, variant, seed))
        if split == "train" and variant in FEMALE:
            found.append(speaker(f"{name}-2", variant, seed))
    return found[:limit]
