"""The speakers of the demo speech: voice variants of eSpeak NG.

Similar variants are in the same split. Robots, whispers, effects and near duplicates are excluded.
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
ACCENT = "en-us"  # of all speakers, who differ in voice but not in pronunciation


@dataclass(frozen=True)
class Speaker:
    """A speaker of the corpus; pitch, range and rate are parameters of eSpeak NG."""

    name: str
    voice: str
    pitch: int
    range: int
    rate: int
    level: float  # dBFS, RMS


def speaker(name: str, variant: str, seed: int) -> Speaker:
    """A speaker with randomly drawn pitch, pitch range, speaking rate and level."""
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

    eSpeak NG has few female voices: each is used for two training speakers, of different pitch and
    speaking rate.

    Args:
        split: train, val or test.
        seed: of the random generators.
        limit: maximum number of speakers; None: all.
    """
    cast = []
    for variant in VARIANTS[split]:
        name = variant.lower().replace(" ", "-")
        cast.append(speaker(name, variant, seed))
        if split == "train" and variant in FEMALE:
            cast.append(speaker(f"{name}-2", variant, seed))
    return cast[:limit]
