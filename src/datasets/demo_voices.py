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


def speaker(name: str, variant: str, rng: random.Random) -> Speaker:
    """A speaker with drawn base pitch, range, rate and level."""
    return Speaker(
        name=name,
        voice=f"{ACCENT}+{variant}",
        pitch=rng.randint(35, 65),
        range=rng.randint(35, 70),
        rate=rng.randint(140, 190),
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
    rng = random.Random(f"{seed}/speakers/{split}")
    found = []
    for variant in VARIANTS[split]:
        name = variant.lower().replace(" ", "-")
        names = [f"{name}-1", f"{name}-2"] if split == "train" and variant in FEMALE else [name]
        found += [speaker(each, variant, rng) for each in names]
    return found[:limit]
