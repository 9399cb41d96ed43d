"""Sentences of the demo speech, from a grammar of a few hundred words.

The words have no homophones and only one pronunciation each.
"""

import random
import re

SHORTEST, LONGEST = 4, 10  # words

WHEN = """after lunch|on monday|on friday|on saturday|before dinner|at midnight|in september
    |in april|during the holiday|at the end of october"""

PHRASES = {
    "person": """my brother|my sister|my mother|my father|my uncle|the teacher|the doctor|the farmer
        |the captain|the driver|the student|the waiter|the gardener|the singer|the painter|the judge
        |the nurse|the baker|the pilot|an old friend|a young woman|a tall man|our neighbour
        |the manager|a stranger|the lawyer|everybody|nobody""",
    "did": """opened|found|sold|painted|carried|cleaned|dropped|washed|wanted|borrowed|repaired
        |forgot|brought|bought|watched|described|collected|ordered|protected|covered|moved|lifted""",
    "noun": """table|window|bottle|garden|kitchen|letter|bridge|picture|camera|blanket|basket|candle
        |engine|hammer|ladder|mirror|pencil|pillow|ticket|umbrella|violin|wallet|magazine|computer
        |telephone|bicycle|jacket|carpet|lamp|clock|box|boat|book|bag|cup|desk|flag|drum|map
        |ring|shirt|spoon|tent|truck|guitar""",
    "adjective": """big|small|green|yellow|brown|black|purple|orange|heavy|broken|dirty|empty
        |expensive|cheap|beautiful|ancient|wooden|golden|silver|narrow|enormous|simple
        |strange|soft|wet|warm|little|modern""",
    "place": """in the kitchen|near the river|behind the station|under the bridge|at the market
        |in the forest|beside the lake|on the mountain|at the airport|in the village|at the office
        |on the island|in the garden|across the street|near the hospital|at the library
        |behind the church|in the city|outside the museum|at the beach|in the basement|on the farm
        |inside the castle|next door""",
    "past": f"yesterday|this morning|last winter|last summer|once again|just in time|{WHEN}",
    "future": f"tomorrow|tonight|next month|every evening|{WHEN}",
    "number": """three|five|six|seven|nine|ten|eleven|twelve|thirteen|fifteen|twenty|thirty|forty
        |fifty|a hundred|several|many""",
    "things": """apples|bananas|potatoes|tomatoes|oranges|eggs|cookies|sandwiches|tickets|letters
        |horses|chickens|dogs|cats|birds|rabbits|elephants|spiders|children|students|visitors
        |candles|bottles|pictures|stories|questions|buses|trucks""",
    "weather": """cold|windy|cloudy|sunny|stormy|foggy|very hot|freezing|pleasant|terrible|dry
        |humid""",
    "feeling": """happy|hungry|angry|tired|surprised|nervous|proud|lonely|curious|worried|careful
        |grateful|sleepy|confident""",
    "act": """open the window|buy some bread|visit the museum|call a doctor|cook dinner
        |play the piano|learn english|swim across the lake|climb the mountain|paint the fence
        |catch the last bus|answer the question|follow the river|feed the chickens|speak slowly
        |take a picture|finish the letter|clean the kitchen|drive a truck|remember the number
        |listen to the radio|travel to the city|repair the engine|count the money|study history""",
    "how": """slowly|quickly|carefully|quietly|suddenly|happily|again and again|without a word
        |for a while|together""",
    "city": """london|paris|chicago|boston|berlin|madrid|moscow|tokyo|vienna|lisbon|dublin|cairo""",
    "animal": """dog|cat|horse|rabbit|elephant|tiger|monkey|parrot|spider|dolphin|camel|turtle""",
}

TEMPLATES = (
    "{person} {did} the {adjective} {noun}",
    "{person} {did} a {adjective} {noun} {past}",
    "{person} {did} the {noun} {place}",
    "{person} {did} the {noun} and the {noun}",
    "yesterday {person} {did} {number} {things}",
    "there are {number} {things} {place}",
    "{person} saw {number} {adjective} {things}",
    "{person} has {number} {things} and {number} {things}",
    "it was {weather} {place} {past}",
    "it will be {weather} in {city} {future}",
    "can you {act} {future}",
    "we should {act} and {act}",
    "please {act} before you {act}",
    "i want to {act} {future}",
    "don't {act} {future}",
    "where is the {adjective} {noun}",
    "why is {person} so {feeling}",
    "{person} was {feeling} {past}",
    "she said that {person} was {feeling}",
    "the {animal} jumped over the {adjective} {noun}",
    "the {animal} slept {place} {how}",
    "the {animal} walked {how} to the {noun}",
    "it's {number} minutes from {city} to {city}",
    "the {noun} and the {noun} cost {number} dollars",
    "did {person} ask about the {adjective} {noun}",
    "i think the {noun} is {place}",
)

TEST_TEMPLATES = (
    "{past} the {animal} was {feeling}",
    "the {adjective} {animal} and {person} walked to {city}",
    "{person} said there are {number} {things} in {city}",
    "why is the {noun} so {adjective}",
)

CHOICES = {
    slot: [" ".join(phrase.split()) for phrase in text.split("|")] for slot, text in PHRASES.items()
}


def sentence(template: str, rng: random.Random) -> str:
    """A sentence from a template, with a random phrase in each slot."""
    text = re.sub(r"{(\w+)}", lambda slot: rng.choice(CHOICES[slot[1]]), template)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def sentences(
    count: int, templates: tuple[str, ...], rng: random.Random, taken: set[str]
) -> list[str]:
    """Random sentences that are different from each other and from those in `taken`.

    Args:
        count: number of sentences.
        templates: to draw from.
        rng: random generator.
        taken: sentences to avoid; the new ones are added.
    """
    new: list[str] = []
    while len(new) < count:
        candidate = sentence(rng.choice(templates), rng)
        if candidate not in taken and reads_well(candidate):
            taken.add(candidate)
            new.append(candidate)
    return new


def reads_well(text: str) -> bool:
    """Whether a sentence has 4 to 10 words, and no word of more than 3 letters twice."""
    words = text.split()
    named = [word for word in words if len(word) > 3]
    return SHORTEST <= len(words) <= LONGEST and len(named) == len(set(named))
