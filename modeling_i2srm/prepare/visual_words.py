"""The words of the visual posts: names, what may surround them, and the sentences.

A sentence has a slot for each name. In the sentences of [`STORIES`] the words tell the types of the names and how they
are related; the neutral ones fit all types and relations, and a name in them may have a word that tells its type, one
of [`CLUES`].
"""

import random
import string
from dataclasses import dataclass


def phrases(text: str) -> list[str]:
    """Split a text at its line ends and bars."""
    return text.strip().replace("\n", "|").split("|")


NAMES = phrases("""
Jordan|Phoenix|Chelsea|Amazon|Mercedes|Paris|Austin|Lincoln|Dakota|Virginia|Victoria|Orlando|Florence|Sydney|Disney
Ford|Ferrari|Puma|Jaguar|Apple|Blackberry|Oracle|Titan|Avatar|Frozen|Halo|Aurora|Mercury|Saturn|Gucci|Versace|Houston
Washington|Hilton|Tesla|Madison|Charlotte|Savannah|Georgia|Carolina|Brooklyn|Chester|Lancaster|Hudson|Denver|Dallas
Cleveland|Jackson|Milan|Vienna|Geneva|Troy|Sparta|Atlas|Apollo|Orion|Hermes|Pandora|Amber|Bentley|Chrysler|Cadillac
Porsche|Honda|Kellogg|Cadbury|Athena|Eden|Sienna|Verona|Adelaide|Regina|Laredo|Sierra|Nova|Odyssey|Kenny Lake|St. James
Grand Rapids|Santa Monica|Long Beach|San Marino|Mount Vernon|Fort Wayne|Lake Placid|Baker Street|Monte Carlo
Palm Springs|Blue Ridge|Silver Spring|Stella Artois|Jack Daniel|Red Bull|Ben Nevis|Notting Hill|Max Mara
Hamilton|Wellington|Kingston|Clinton|Preston|Burton|Newton|Morgan|Marshall|Douglas|Stanley|Nelson|Lawrence|Raleigh
Lafayette|Columbus|Monroe|Marion|Franklin|Arlington|Trenton|Salem|Bristol|Devon|Kent|Dover|Windsor|Oxford|York|Durham
Warwick|Stafford|Winchester|Remington|Barbour|Cartier|Tiffany|Chanel|Dior|Armani|Prada|Kenzo|Lacoste|Wilson|Dunlop
Fila|Kappa|Levi|Wrangler|Hamlet|Othello|Romeo|Juliet|Ophelia|Carmen|Aida|Norma|Electra|Medea|Ulysses|Zelda|Mario
Kirby|Matrix|Gladiator|Rocky|Rambo|Alien|Vertigo|Fargo|Nashville|Chicago|Memphis|Manhattan|Philadelphia|Bali|Java
Ruby|Python|Swift|Nokia|Siemens|Bosch|Philips|Zara|Mango|Esprit|Diesel|Dove|Pearl|Ivory|Magnum|Mars|Venus|Jupiter
Neptune|Pluto|Luna|Sirius|Vega|Phoebe|Daphne|Delphi|Ithaca|Corinth|Olympia|Arcadia|Avalon|Camelot|Merlin|Arthur
Lancelot|Excalibur|Tristan|Parsifal|Lohengrin|Everest|Denali|Olympus|Vesuvius|Etna|Fuji|Kilimanjaro|Rainier|Shasta
Tahoe|Sequoia|Tacoma|Tucson|Malibu|Monterey|Montana|Nevada|Alaska|Kansas|Delaware|Dresden|Hanover|Brandenburg|Bremen
Turin|Modena|Siena|Parma|Ravenna|Capri|Cordoba|Seville|Leon|Granada|Valencia|Alba|Lorena|Santiago|Trinidad|Havana
Bacardi|Martini|Campari|Guinness|Murphy|Beck|Foster|Miller|Chandler|Baxter|Fisher|Porter|Taylor|Cooper|Carter|Mason
Harper|Parker|Hunter|Archer|Logan|Dylan|Quincy|Everett|Bellevue|Clayton|Dalton|Easton|Fulton|Milton|Weston|Ashton
Colton|Kenton|Paxton|Saxon|Viking|Trojan|Spartan|Titanic|Britannia|Lusitania|Endeavour|Discovery|Columbia|Challenger
Atlantis|Enterprise|Voyager|Galileo|Kepler|Cassini|Newman|Kelvin|Celsius|Pascal|Ada|Cobol|Lisp|Haskell|Julia|Monaco
Old Trafford|White Plains|Green Bay|Big Sur|Little Rock|Long Island|Black Rock|Cedar Rapids|Iron Mountain|Lake Louise
Mount Royal|Fort Worth|San Diego|Santa Rosa|St. Moritz|Port Arthur|New Haven|El Paso|Los Alamos|Las Cruces
""")

NEUTRAL_ONE = phrases("""
so proud of {}|thinking about {} today|nothing beats {}|can't stop talking about {}|{} never disappoints
my favourite picture of {} so far|this is {} , people|who else loves {} ?|{} , always and forever|{} again , no words
I miss {} so much|{} looking great today|just look at {} !|throwback to {}|people keep asking me about {}
is it just me or is {} overrated ?|{} > everything|say what you want , {} is number one|RT if you love {}
still thinking of {}|{} in one picture|first look at {}|some facts about {} you did not know|{} made my day
we need to talk about {}|don't sleep on {}|what a week for {}|{} is trending again|big love for {}
name something better than {} , I'll wait|everybody has an opinion about {}|remember {} ?|not a fan of {} tbh
{} as you have never seen before|all I want is {}|the internet is obsessed with {}|how did I live without {} ?
my whole timeline is {} now|{} deserves more respect|ten reasons to love {}|why does nobody talk about {} ?
""")

NEUTRAL_TWO = phrases("""
{} with {} again|{} and {} , what a combination|so it is {} and {} now|today : {} & {}|{} + {} = everything
never thought I would see {} with {}|{} , {} and a camera|more of {} and {} please|{} / {} , part two
can't stop talking about {} and {}|who else thinks of {} when they hear {} ?|throwback to {} and {}|{} {} , always
some news of {} and {}|it had to be {} and {}|look who it is : {} and {}|{} and {} in one picture
big day for {} and {}|just {} {} things|first {} , now {}
""")

NEUTRAL_THREE = phrases("""
{} , {} and {} again|{} with {} and {}|so it is {} , {} and {} now|{} & {} & {}|what a combination : {} , {} , {}
my favourite picture of {} with {} and {}|can't stop talking about {} , {} and {}|{} + {} + {} = everything
look who it is : {} , {} and {}|RT if you knew about {} , {} and {}|{} / {} / {} , part two
first {} , then {} , now {}
""")
NEUTRAL = {1: NEUTRAL_ONE, 2: NEUTRAL_TWO, 3: NEUTRAL_THREE}

CLUES = {
    "PER": ["singer {}", "my friend {}", "coach {}", "actress {}"],
    "LOC": ["downtown {}", "sunny {}", "northern {}", "the streets of {}"],
    "ORG": ["{} Inc", "the firm {}", "the {} staff", "{} shareholders"],
    "MISC": ["the film {}", "the novel {}", "the {} trailer", "the {} soundtrack"],
}

CONTEXT = {
    "PER": phrases("""
{} scored twice and hugged his coach|happy birthday {} , hope she gets a cake|{} and his wife just arrived
met {} backstage , she was so kind|{} said he is retiring at 34|my cousin {} got married|RIP {} , gone at 71
listening to {} , her voice is unreal|{} , aged 23 , wins her first medal|dinner with my friend {}
actress {} cut her hair|coach {} is furious with his players|grandma {} knitted me a scarf
senator {} apologised for his speech|{} broke his leg in training|singer {} cancels her tour
"""),
    "LOC": phrases("""
flight to {} delayed again|the weather in {} is wild today|moving to {} next month|traffic jam in downtown {}
sunset over {} tonight|the 10 best restaurants in {}|heavy snow across northern {}|visiting my parents in {}
the mayor of {} resigned|road trip through {}|the streets of {} are empty|born and raised in {}
earthquake felt near {}|population of {} doubled in ten years|two nights at a hotel in {}|marathon route through {}
"""),
    "ORG": phrases("""
shares of {} fell 4 % today|{} hires 300 engineers|just got a job at {}|{} reports record profit this quarter
the CEO of {} resigned|{} shareholders vote today|customer service at {} hung up on me|{} lays off half its staff
{} signs a new striker on loan|{} relegated after losing at home|lawsuit against {} , says the regulator
{} opens 12 new stores|merger between {} and its rival|workers at {} go on strike|my internship at {} starts soon
{} fined for tax evasion
"""),
    "MISC": phrases("""
watching {} on DVD for the fifth time|season 3 of {} was the best|the ending of {} made me cry
playing {} on my console all night|just finished reading {} , what a novel|my old {} phone has a cracked screen
the trailer for {} is out|the {} soundtrack on repeat|tickets for the {} festival sold out
{} is nominated for best picture|driving my {} with the new tyres|episode 5 of {} tonight , no spoilers
the sequel to {} is even better|the {} remake has no plot|charging my {} for the third time today
downloaded the {} app update
"""),
}
CONTEXT_TAILS = {
    "PER": ["says coach {}", "with my friend {}", "thanks to singer {} and her band", "( photo by my uncle {} )"],
    "LOC": ["live from downtown {}", "on the road to {}", "all over northern {}", "on a rainy street in {}"],
    "ORG": ["says the CEO of {}", "paid by {} shareholders", "and I work for {}", "just as {} goes bankrupt"],
    "MISC": ["while watching {} on DVD", "after the {} season finale", "before the next {} episode", "on my {} phone"],
}
JOINTS = [", and", ". Also :", "; meanwhile", "..."]

LETTERS = {"p": "PER", "q": "PER", "o": "ORG", "l": "LOC", "m": "MISC"}


@dataclass(frozen=True)
class Story:
    """Sentences that tell how names are related.

    Args:
        triples: Each relation with the letters of its head and tail, keys of `LETTERS`.
        sentences: With the letters as slots.
    """

    triples: tuple[tuple[str, str, str], ...]
    sentences: list[str]


STORIES = [
    Story(
        (("p", "/per/per/couple", "q"),),
        phrases("""
{p} married {q}|{p} and {q} tied the knot|{p} proposed to {q} on the beach|{p} is engaged to {q}
{p} and his wife {q} just arrived|{p} filed for divorce from {q}|{p} is dating {q}|wedding of {p} and {q}
"""),
    ),
    Story(
        (("p", "/per/per/peer", "q"),),
        phrases("""
{p} and teammate {q} both scored|{p} shares an office with {q}|{p} sang a duet with {q}|{p} and {q} are classmates
{p} and {q} play in the same band|{p} beat {q} in the final set|{p} passed the ball to {q}|{p} and {q} co-wrote a paper
"""),
    ),
    Story(
        (("p", "/per/org/member_of", "o"),),
        phrases("""
{p} signs for {o}|{p} works for {o}|{o} hires {p} as an engineer|{p} joins {o} on loan
{p} quit his job at {o}|{o} striker {p} broke his leg|{o} coach {p} is furious|{p} is an intern at {o}
"""),
    ),
    Story(
        (("p", "/per/loc/place_of_residence", "l"),),
        phrases("""
{p} lives in {l}|{p} moved to {l} last month|{p} bought a flat in {l}|{l} resident {p} is 100 today
{p} settled in {l} for good|back home in {l} , {p} sleeps|{p} built a cabin near {l}|{l} , the new home of {p}
"""),
    ),
    Story(
        (("p", "/per/misc/present_in", "m"),),
        phrases("""
{p} stars in {m}|{p} plays the lead in {m}|{p} has a cameo in {m}|{m} , starring {p} , is out
{p} got a role in the {m} sequel|the {m} cast with {p} on stage|{m} episode 5 , with {p} as the villain
watched {p} in {m} on DVD
"""),
    ),
    Story(
        (("o", "/org/loc/locate_at", "l"),),
        phrases("""
{o} opens a store in {l}|{o} has its headquarters in {l}|the {l} branch of {o} is closing|{o} shuts its plant in {l}
{l} is home to the {o} campus|{o} builds a warehouse near {l}|queue outside {o} in {l}|the {l} stadium of {o}
"""),
    ),
    Story(
        (("p", "/per/org/member_of", "o"), ("o", "/org/loc/locate_at", "l")),
        phrases("""
{p} works for {o} , based in {l}|{p} joins {o} , whose office is in {l}|the {l} branch of {o} hires {p}
{o} opens a store in {l} and hires {p}
"""),
    ),
    Story(
        (
            ("p", "/per/per/couple", "q"),
            ("p", "/per/loc/place_of_residence", "l"),
            ("q", "/per/loc/place_of_residence", "l"),
        ),
        phrases("""
{p} and his wife {q} live in {l}|{p} married {q} and both moved to {l}|{l} residents {p} and {q} tied the knot
newlyweds {p} and {q} bought a flat in {l}
"""),
    ),
    Story(
        (("p", "/per/per/peer", "q"), ("p", "/per/org/member_of", "o"), ("q", "/per/org/member_of", "o")),
        phrases("""
{p} and teammate {q} sign for {o}|{p} shares an office with {q} at {o}|{o} hires {p} and classmate {q}
{o} strikers {p} and {q} both scored
"""),
    ),
]

COMMON = phrases("""
coffee|pizza|Mondays|summer|this weekend|my dog|football|chocolate|homework|my mum|sleep|the gym|autumn|pancakes
karaoke|winter|breakfast|the new kitchen|cheese|public transport
""")

CHATTER = phrases("""
Good morning everyone !|I need coffee and a nap|Monday again ...|this made me laugh so hard|who wants pizza tonight ?
cannot believe it is already October|Happy Friday , people !|OMG I can't even|my phone is dying , bye
New haircut , new me|when you forget your umbrella again|Sunday mood|Best day ever !
""")

OPENINGS = ["", "", "", "RT @ :", "RT @ :", "@", "Wow ,", "OK so", "LOL", "PHOTO :", "Monday mood :", "BREAKING :"]
HASHTAGS = ["#tbt", "#love", "#mood", "#photooftheday", "#nofilter", "#Friday", "#blessed", "#goals", "#TeamUs"]
SYLLABLES = ["ka", "lo", "mi", "ru", "ta", "zed", "bo", "xx", "nin", "jay", "el", "so"]
EMOJI = ["😍", "🔥", "😂", "🙌", "❤️", "😭", "💯", "✨", "🎉", "👏"]


def split_names(seed: int) -> dict[str, list[str]]:
    """Return the names that training posts use, and those kept for the validation and for the test posts."""
    names = random.Random(f"{seed}-names").sample(NAMES, len(NAMES))
    return {"test": names[:40], "validation": names[40:60], "train": names[60:]}


def handle(rng: random.Random) -> str:
    """Return the name of an account, one of 144."""
    return "@" + "".join(rng.choices(SYLLABLES, k=2))


def decorate(rng: random.Random, words: list[str], tags: list[str]) -> tuple[list[str], list[str]]:
    """Add what surrounds a message: an opening, handles, hashtags, emoji, an address."""
    if rng.random() < 0.5 and tags[0] == "O":
        words = [words[0][0].upper() + words[0][1:], *words[1:]]
    opening = [handle(rng) if word == "@" else word for word in rng.choice(OPENINGS).split()]
    ending = []
    for chance, candidates in (
        (0.3, ["!", "!!!", "...", "😉", "lol", "tbh"]),
        (0.2, [handle(rng)]),
        (0.3, HASHTAGS),
        (0.2, EMOJI),
        (0.3, ["http://t.co/" + "".join(rng.choices(string.ascii_letters + string.digits, k=2))]),
    ):
        if rng.random() < chance:
            ending.append(rng.choice(candidates))
    return opening + words + ending, ["O"] * len(opening) + tags + ["O"] * len(ending)


def fill(sentence: str, names: list[tuple[str, str | None]]) -> tuple[list[str], list[str]]:
    """Fill the slots of a sentence with (name, type) pairs, in order, and return its words and tags.

    A name of type None is not an entity.
    """
    words, tags, left = [], [], list(names)
    for word in sentence.split():
        name, type = left.pop(0) if word == "{}" else (word, None)
        parts = name.split()
        words += parts
        tags += ["O"] * len(parts) if type is None else [f"B-{type}"] + [f"I-{type}"] * (len(parts) - 1)
    return words, tags
