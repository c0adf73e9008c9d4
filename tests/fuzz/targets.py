"""Fuzz targets: any bytes must give either a valid result or a `UserError` of one line.

Half of the inputs are read unchanged. The other half select values of a valid input and replacements for them, so that
the code behind the JSON and YAML parsers is reached as well.
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import yaml
from small_tokenizers import PROMPT, RESPONSE, byte_level
from test_responses import CHAT, COMPLETION, PROMPTED, changed, places

from firstlib.knowledge.servers.matching import Rules, match_all
from firstlib.knowledge.servers.responses import read_response
from firstlib.knowledge.servers.spelling import pieces_of
from firstlib.runtime.errors import UserError
from firstlib.settings.loading import PRESETS, load_preset
from firstlib.settings.schema import Settings
from firstlib.tasks.encoding import encode
from firstlib.tasks.question import Example

LONGEST_LINE = 2000  # characters of an error message


class Choices:
    """Reads bytes as a series of choices; after the last byte, each choice is the first option."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def below(self, number):
        self.at += 1
        return self.data[self.at - 1] % number if self.at <= len(self.data) else 0

    def one_of(self, options):
        return options[self.below(len(options))]

    def rest(self):
        return self.data[self.at :]


def user_error_is_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < LONGEST_LINE, str(error)


# -- responses of a teacher behind a server ----------------------------------------------------------------------

TOKENIZER = byte_level()
EXAMPLE = encode(TOKENIZER, Example("e1", PROMPT, RESPONSE))
PIECES = pieces_of(TOKENIZER)
NAMES = [piece.decode(errors="replace") for piece in PIECES.texts if piece]


def echoed():
    """The response of a server that gives 0.6, 0.2 and 0.1 at each position of the example."""
    texts = [PIECES.texts[i].decode(errors="replace") for i in EXAMPLE.token_ids]
    logs = [{text: math.log(0.6), " yes": math.log(0.2), " no": math.log(0.1)} for text in texts]
    said = {"tokens": texts, "token_logprobs": [None] + [math.log(0.6)] * (len(texts) - 1), "top_logprobs": logs}
    return {"id": "e1", "choices": [{"logprobs": {**said, "top_logprobs": [None, *logs[1:]]}}]}


def by_id():
    """The same in vLLM's format, by token id."""
    ids = EXAMPLE.token_ids
    rows = [
        {
            str(i): {"logprob": math.log(p), "decoded_token": None}
            for i, p in zip((own, 5, 6), (0.6, 0.2, 0.1), strict=True)
        }
        for own in ids
    ]
    return {"id": "e1", "choices": [{"prompt_token_ids": ids, "prompt_logprobs": [None, *rows[1:]]}]}


GOOD = [
    COMPLETION,
    CHAT,
    PROMPTED,
    echoed(),
    by_id(),
    {"custom_id": "e1", "response": {"status_code": 200, "body": CHAT}},
]
VALUES = [
    ..., None, True, 0, -1, 1, 2**31, 2**63, 10**400, -0.1, 1e-4, -9999.0, math.nan, -math.inf, 1e308, "", "e1", "\x00",
    "\ud800", "Ġ", "▁", "<0x0A>", "<0xZZ>", "bytes:\\xf0\\x9f", "�", " " * 3000, [], [[]], {}, {"": 0.0}, [255], [256],
    [None],
]  # fmt: skip


def edited(choices):
    """A valid response with up to three values changed."""
    content = choices.one_of(GOOD)
    for _ in range(1 + choices.below(3)):
        found = list(places(content)) or [("id",)]
        path = found[(choices.below(256) * 256 + choices.below(256)) % len(found)]
        value = NAMES[choices.below(256) % len(NAMES)] if choices.below(4) == 0 else choices.one_of(VALUES)
        content = changed(content, *path, to=value)
    return json.dumps(content).encode()


def responses(data):
    """Reads and matches a line of responses, or refuses it."""
    choices = Choices(data)
    line = edited(choices) if choices.below(2) else choices.rest()
    rules = Rules(3, min_alternatives=1, max_lost_mass=1.0, shared_ids=bool(len(data) % 2))
    try:
        found = read_response(line, "file, line 1")
        assert all(0 <= token.probability <= 1 for place in found.places for token in place.alternatives)
        for matched in match_all([found], [EXAMPLE], PIECES, rules):
            knowledge_is_sound(matched)
    except UserError as error:
        user_error_is_one_line(error)


def knowledge_is_sound(matched):
    json.dumps([each.token for each in matched.unmatched]).encode()
    if matched.knowledge is None:
        return
    found = matched.knowledge
    assert set(found.position) <= set(range(EXAMPLE.start, len(EXAMPLE.token_ids)))
    assert all(len(set(row)) == len(row) for row in found.token_ids.tolist())
    assert (found.probabilities >= 0).all()
    assert (np.diff(found.probabilities, axis=1) <= 0).all()
    assert (abs(found.probabilities.sum(axis=1) + found.residual - 1) < 1e-9).all()


# -- presets -----------------------------------------------------------------------------------------------------

SMOKE = (PRESETS / "smoke.yaml").read_text()
KEYS = list(places(Settings.model_validate(yaml.safe_load(SMOKE)).model_dump(mode="json")))
TEXTS = [
    "", "~", "true", "0", "-1", "1", "1.5", "1e9", "0x" + "f" * 5000, "9" * 5000, ".nan", ".inf", "nan", "1_0", "1:60",
    "2024-13-45", "2024-01-31", "!!python/name:os.system", "!!binary x", "!!set {a}", "!!omap [a: 1]", "[]", "[a]",
    "{}", "{a: 1, a: 2}", "{[1]: 2}", "{1: 2}", "[" * 400, "&a [*a]", "{<<: 1}", "\x00", "\ud800", "é", "csqa",
    "first", "lora", "|\n a\n b", "'", '"\\uD800"', "? a", "- a", "%TAG", "---", "...", "\t", "\ufeff",
]  # fmt: skip
FOLDER = tempfile.TemporaryDirectory(prefix="first-fuzz-")


def override(choices):
    path = choices.one_of(KEYS)
    key = ".".join(str(part) for part in path)[: 1 + choices.below(64)]
    return f"{key}={choices.one_of(TEXTS)}"


def presets(data):
    """Reads a preset file and changes to it, or refuses them."""
    choices = Choices(data)
    file = Path(FOLDER.name) / "preset.yaml"
    if choices.below(2):
        changes = [override(choices) for _ in range(1 + choices.below(3))]
        content = SMOKE.encode()
        if choices.below(2):  # also replaces a part of the file
            at = choices.below(256) * len(content) // 256
            content = content[:at] + choices.one_of(TEXTS).encode(errors="replace") + content[at + choices.below(64) :]
    else:
        content, changes = choices.rest(), []
    file.write_bytes(content)
    try:
        found = load_preset(str(file), changes)
    except UserError as error:
        user_error_is_one_line(error)
    else:
        assert Settings.model_validate(json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))) == found


# -- seeds and dictionaries --------------------------------------------------------------------------------------

TARGETS = {"responses": responses, "presets": presets}
SEEDS = {
    "responses": [b"\x00" + json.dumps(content).encode() for content in GOOD] + [bytes([1, i, 0, i]) for i in range(6)],
    "presets": [b"\x00" + path.read_bytes() for path in PRESETS.glob("*.yaml")]
    + [bytes([1, 0, i, 9, i]) for i in range(6)],
}
WORDS = {
    "responses": {part for good in GOOD for path in places(good) for part in path if isinstance(part, str)},
    "presets": {part for path in KEYS for part in path if isinstance(part, str)},
}
