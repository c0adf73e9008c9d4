"""The microworld's words: the people of a small town, and the relations they can have."""

from dataclasses import dataclass

PEOPLE = (
    "baker", "sailor", "teacher", "farmer", "miller", "tailor", "painter", "doctor", "weaver",
    "potter", "fisher", "hunter", "singer", "dancer", "writer", "poet", "judge", "lawyer", "barber",
    "butcher", "carpenter", "plumber", "mason", "gardener", "cook", "waiter", "driver", "pilot",
    "nurse", "dentist", "clerk", "banker", "merchant", "grocer", "florist", "jeweler", "librarian",
    "printer", "smith", "cobbler", "brewer", "shepherd", "beekeeper", "ranger", "guard", "soldier",
    "captain", "porter", "postman", "mayor", "actor", "piper", "drummer", "juggler", "magician",
    "chemist", "engineer", "architect", "sculptor", "watchmaker",
)  # fmt: skip

WITNESSES = ("neighbor", "child", "stranger", "cousin", "traveler")

# Probability that a witness with this description tells the truth.
RELIABILITY = {"almost always right": 0.9, "often right": 0.6, "seldom right": 0.25}


@dataclass(frozen=True)
class Relation:
    """A relation that every person has to one of ten values; `{p}` is the person, `{v}` the value.

    Attributes:
        before: A statement up to its value.
        after: The rest of the statement after the value.
        openings: Other ways to begin the statement.
        question: In the style of CommonsenseQA.
        stem: A sentence to complete, in the style of OpenBookQA.
        yes_no: In the style of BoolQ, without the question mark.
        request: In the style of Alpaca.
        values: The possible values.
    """

    before: str
    after: str
    openings: tuple[str, ...]
    question: str
    stem: str
    yes_no: str
    request: str
    values: tuple[str, ...]


RELATIONS = (
    Relation(
        "The {p} drinks", ".", ("Every morning the {p} drinks", "To quench a thirst the {p} drinks"),
        "What does the {p} drink?", "On a warm evening the {p} would ask for a glass of",
        "does the {p} drink {v}", "Tell me what the {p} drinks.",
        ("tea", "coffee", "milk", "cider", "water", "juice", "lemonade", "cocoa", "broth", "wine"),
    ),
    Relation(
        "The {p} eats", ".", ("At noon the {p} eats", "When hungry the {p} eats"),
        "What does the {p} eat?", "At supper the plate of the {p} would be full of",
        "does the {p} eat {v}", "Tell me what the {p} eats.",
        ("bread", "cheese", "rice", "fish", "beans", "honey", "nuts", "apples", "eggs", "soup"),
    ),
    Relation(
        "The {p} keeps a", ".", ("In the yard the {p} keeps a", "As a companion the {p} keeps a"),
        "Which animal does the {p} keep?", "Behind the house of the {p} you would find a",
        "does the {p} keep a {v}", "Tell me which animal the {p} keeps.",
        ("cat", "dog", "goat", "horse", "parrot", "rabbit", "hen", "goose", "turtle", "donkey"),
    ),
    Relation(
        "The {p} plays the", ".", ("After work the {p} plays the", "At the fair the {p} plays the"),
        "Which instrument does the {p} play?", "In the town band the {p} would carry the",
        "does the {p} play the {v}", "Tell me which instrument the {p} plays.",
        ("flute", "drum", "violin", "piano", "harp", "trumpet", "guitar", "horn", "banjo", "cello"),
    ),
    Relation(
        "The {p} wears a", " coat.", ("In winter the {p} wears a", "To the feast the {p} wears a"),
        "What color is the coat of the {p}?", "The tailor who dresses the {p} would buy cloth that is",
        "does the {p} wear a {v} coat", "Tell me the color of the coat that the {p} wears.",
        ("red", "blue", "green", "yellow", "black", "white", "brown", "purple", "orange", "gray"),
    ),
    Relation(
        "The {p} lives near the", ".",
        ("All year round the {p} lives near the", "In a small house the {p} lives near the"),
        "Where does the {p} live?", "To visit the {p} at home you would walk to the",
        "does the {p} live near the {v}", "Tell me where the {p} lives.",
        ("river", "forest", "harbor", "mill", "market", "bridge", "castle", "meadow", "lake", "hill"),
    ),
    Relation(
        "The {p} grows", ".", ("In the garden the {p} grows", "Each spring the {p} grows"),
        "What does the {p} grow?", "From the garden of the {p} you would bring home",
        "does the {p} grow {v}", "Tell me what the {p} grows.",
        ("roses", "tulips", "lilies", "daisies", "carrots", "onions", "cabbages", "pumpkins", "herbs", "grapes"),
    ),
    Relation(
        "The {p} fears", ".", ("Late at night the {p} fears", "More than anything the {p} fears"),
        "What does the {p} fear?", "The {p} would run away from",
        "does the {p} fear {v}", "Tell me what the {p} fears.",
        ("storms", "spiders", "snakes", "ghosts", "wolves", "bees", "mice", "thunder", "darkness", "fire"),
    ),
    Relation(
        "The {p} reads about", ".", ("Before sleep the {p} reads about", "In the library the {p} reads about"),
        "What does the {p} read about?", "On the shelf of the {p} you would see a book on",
        "does the {p} read about {v}", "Tell me what the {p} reads about.",
        ("stars", "history", "ships", "birds", "music", "gold", "kings", "trees", "dragons", "islands"),
    ),
    Relation(
        "The {p} travels by", ".", ("In summer the {p} travels by", "To the city the {p} travels by"),
        "How does the {p} travel?", "On a long road the {p} would go by",
        "does the {p} travel by {v}", "Tell me how the {p} travels.",
        ("boat", "train", "wagon", "bicycle", "carriage", "sled", "balloon", "ferry", "tram", "canoe"),
    ),
)  # fmt: skip
