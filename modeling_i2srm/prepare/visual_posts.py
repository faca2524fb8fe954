"""Visual posts: a small made-up data set in which only the picture shows the type of most names.

    python dataset_scripts/visual_posts.py --output_dir data/visual_posts

Every name (Jordan, Amazon, Mercedes ...) may be a person, a place, an organisation or something else. In about two
thirds of the posts the words fit all four types ("nothing beats Jordan") and a pictogram in the picture tells which;
in the others the words are enough ("flight to Jordan delayed again"). Some posts have no picture, some have two names,
some have none. Some of the names of the validation and test posts never occur in training. A seed gives the same rows
each time; nothing is downloaded.
"""

import argparse
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import datasets
from PIL import Image, ImageDraw

from ..support.digests import hash_file
from .builder import MNER_FEATURES, FreshConfig, write_parquet
from .pictograms import PICTOGRAMS, SIZE, cut_objects, draw_picture

TYPES = list(PICTOGRAMS)


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

NEUTRAL = phrases("""
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

NEUTRAL_PAIRS = phrases("""
{} and {} , what a combination|{} or {} ?|{} vs {} , you choose|first {} , now {}|{} > {}|I love {} but I prefer {}
{} is the new {}|forget {} , it's all about {} now|both {} and {} in one day !
""")

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


T = TypeVar("T")


class Deck(Generic[T]):
    """Deals items in random order; each is dealt once before any is repeated."""

    def __init__(self, rng: random.Random, items: list[T]):
        self.rng, self.items = rng, items
        self.left: list[T] = []

    def draw(self) -> T:
        if not self.left:
            self.left = self.rng.sample(self.items, len(self.items))
        return self.left.pop()


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


def fill(template: str, *entities: tuple[str, str | None]) -> tuple[list[str], list[str]]:
    """Fill a template with (name, type) pairs and return its words and tags; a name of type None is not an entity."""
    words, tags, left = [], [], list(entities)
    for word in template.split():
        name, type = left.pop(0) if word == "{}" else (word, None)
        parts = name.split()
        words += parts
        tags += ["O"] * len(parts) if type is None else [f"B-{type}"] + [f"I-{type}"] * (len(parts) - 1)
    return words, tags


def make_posts(split: str, count: int, seed: int = 0) -> Iterator[tuple[str, dict]]:
    """Make the posts of a split.

    Yields:
        What shows the type of the (first) entity, "picture", "text" or "none" for a post without entities, and the row,
        with tag names and PIL pictures.
    """
    rng = random.Random(f"{seed}-{split}")
    names = split_names(seed)
    decks = {
        (evidence, pool): Deck(rng, [(name, type) for name in names[pool] for type in TYPES])
        for evidence in ("picture", "text")
        for pool in ("train", split)
    }

    def entity(evidence: str, other_than: str = "") -> tuple[str, str]:
        """Draw a name and a type, all equally often; one name in five occurs in this split only."""
        deck = decks[evidence, split if rng.random() < 0.2 else "train"]
        return next(drawn for drawn in iter(deck.draw, None) if drawn[0] != other_than)

    in_text, without = round(0.33 * count), round(0.07 * count)
    evidences = ["text"] * in_text + ["none"] * without + ["picture"] * (count - in_text - without)
    rng.shuffle(evidences)
    for index, evidence in enumerate(evidences):
        if evidence == "none":
            words, tags = fill(rng.choice(CHATTER))
            if rng.random() < 0.5:
                words, tags = fill(rng.choice(NEUTRAL), (rng.choice(COMMON), None))
            shown = rng.choice((None, [], [rng.choice(TYPES)]))
        else:
            name, type = entity(evidence)
            shown = [type] if evidence == "picture" or rng.random() < 0.6 else None
            if evidence == "picture" and rng.random() < 0.1:
                other = entity(evidence, other_than=name)[0]
                words, tags = fill(rng.choice(NEUTRAL_PAIRS), (name, type), (other, type))
            else:
                words, tags = fill(rng.choice(NEUTRAL if evidence == "picture" else CONTEXT[type]), (name, type))
                if rng.random() < 0.12:
                    second = entity("text", other_than=name)
                    tail = fill(rng.choice(CONTEXT_TAILS[second[1]]), second)
                    words, tags = words + tail[0], tags + tail[1]
        words, tags = decorate(rng, words, tags)

        picture_rng = random.Random(f"{seed}-{split}-{index}")
        picture = None if shown is None else draw_picture(picture_rng, shown)
        yield (
            evidence,
            {
                "id": f"{split}-{index:05d}",
                "tokens": words,
                "ner_tags": tags,
                "image": picture and picture.image,
                "objects": cut_objects(picture_rng, picture) if picture else [],
            },
        )


@dataclass
class VisualPostsConfig(FreshConfig):
    """The number of posts of each split, and the seed."""

    seed: int = 0
    train: int = 3600
    validation: int = 200
    test: int = 400

    def raw_fingerprint(self) -> str:
        """Return a hash of the code that makes the posts."""
        return "".join(hash_file(Path(__file__).with_name(name)) for name in ("visual_posts.py", "pictograms.py"))


class VisualPosts(datasets.GeneratorBasedBuilder):
    """Builder of the visual posts."""

    BUILDER_CONFIG_CLASS = VisualPostsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=MNER_FEATURES)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self.counts: dict[str, dict] = {}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "count": getattr(self.config, split)})
            for split in ("train", "validation", "test")
        ]

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        posts: Counter[str] = Counter()
        entities: Counter[str] = Counter()
        for key, (evidence, row) in enumerate(make_posts(split, count, self.config.seed)):
            posts[evidence] += 1
            entities.update(tag[2:] for tag in row["ner_tags"] if tag.startswith("B-"))
            yield key, row
        self.counts[split] = {"posts_by_evidence": dict(posts), "entities": dict(entities)}

    def make_report(self, folder: Path) -> dict:
        """Count the posts by what shows their types, and the entities."""
        return {"dataset": "visual_posts", "seed": self.config.seed, "splits": self.counts}


def contact_sheet(rows: dict[str, list[dict]], columns: int = 12) -> Image.Image:
    """Return pictures of rows, two lines for each label, with their objects below."""
    margin = 16 + 6 * max(map(len, rows))
    width, height = 2 * SIZE + 8, 2 * SIZE + 56
    sheet = Image.new("RGB", (margin + columns * width, 2 * len(rows) * height), "white")
    for block, label in enumerate(rows):
        ImageDraw.Draw(sheet).text((4, 2 * block * height + SIZE), label, fill="black")
        for i, row in enumerate(rows[label][: 2 * columns]):
            x, y = margin + i % columns * width, (2 * block + i // columns) * height
            sheet.paste(row["image"].resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST), (x, y))
            for j, crop in enumerate(row["objects"]):
                sheet.paste(crop.resize((40, 40)), (x + 43 * j, y + 2 * SIZE + 3))
    return sheet


def rows_to_show(seed: int) -> dict[str, list[dict]]:
    """Return test rows with a picture for each type and for no entity."""
    rows: dict[str, list[dict]] = {type: [] for type in [*TYPES, "none"]}
    for _, row in make_posts("test", 192, seed):
        if row["image"] is not None:
            rows[next((tag[2:] for tag in row["ner_tags"] if tag != "O"), "none")].append(row)
    return rows


def run(
    builder_class: type[datasets.GeneratorBasedBuilder],
    rows_to_show: Callable[[int], dict[str, list[dict]]],
    description: str,
    output_dir: str,
) -> None:
    """Make a data set and its contact sheet as the command line says, and print its report."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path(output_dir))
    parser.add_argument("--contact_sheet", type=Path, help="sample of the pictures (default: OUTPUT_DIR.png)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=3600, help="number of training posts")
    parser.add_argument("--validation", type=int, default=200, help="number of validation posts")
    parser.add_argument("--test", type=int, default=400, help="number of test posts")
    args = parser.parse_args()

    counts = {"train": args.train, "validation": args.validation, "test": args.test}
    builder = write_parquet(builder_class, args.output_dir, seed=args.seed, **counts)
    sheet = args.contact_sheet or args.output_dir.with_name(args.output_dir.name + ".png")
    contact_sheet(rows_to_show(args.seed)).save(sheet)
    for split, counts in builder.report["splits"].items():
        print(f"{split}: {counts}")
    print(f"wrote {args.output_dir} and {sheet}")


def main() -> None:
    run(VisualPosts, rows_to_show, __doc__, "data/visual_posts")
