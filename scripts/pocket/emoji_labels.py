"""Which emoji are taken, what they are called, which emotion they carry, and which are held out.

Labels and tags: emojibase. Emotions: emoji_emotions_curated.json, this project's own opinion.
The split is by base emoji: gendered variants of one idea share a base, and so do all sets and skin tones.
"""

import collections
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from emoji_sets import code_of

EMOTIONS = ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")
FACES = {
    "face-smiling",
    "face-affection",
    "face-tongue",
    "face-hand",
    "face-neutral-skeptical",
    "face-sleepy",
    "face-unwell",
    "face-hat",
    "face-glasses",
    "face-concerned",
    "face-negative",
    "face-costume",
    "cat-face",
    "monkey-face",
}
PEOPLE = {"person", "person-gesture", "person-role", "person-fantasy", "person-activity", "person-resting"}


@dataclass
class Emoji:
    """One emoji, whatever its vendor."""

    hexcode: str
    label: str
    tags: list
    kind: str  # face, people, animal or other
    emotions: list
    base: str
    skins: list = field(default_factory=list)  # hexcodes of its skin tones
    split: str = "train"


def base_of(label: str) -> str:
    """The idea behind a label: "woman frowning" and "man frowning" are one."""
    text = re.sub(r"^(person|man|woman|people|men|women)\b[: ]*", "", label.lower()).strip()
    text = re.sub(r"^(old|older) (man|woman|person)$", "older person", text)
    return text or label.lower()


def kind_of(label: str, subcategory: str, has_emotion: bool):
    """face, people, animal or other; None for emoji that are left out."""
    if subcategory in FACES:
        return "other" if label == "skull and crossbones" else "face"
    if subcategory in PEOPLE:
        return "people"
    if subcategory == "animal-mammal":
        return "animal"
    return "other" if has_emotion else None


def read_emoji(labels: Path, emotions: Path, categories: Path, test_every: int = 7) -> list:
    """All emoji of the family with their split; `categories` is emoji-datasource's emoji.json."""
    curated = json.loads(emotions.read_text())
    carried = collections.defaultdict(list)
    for emotion in EMOTIONS:
        for row in curated[emotion]:
            carried[row["hexcode"]].append(emotion)
    category = {code_of(row["unified"]): row["subcategory"] for row in json.loads(categories.read_text())}
    found = []
    for row in json.loads(labels.read_text()):
        label, code = row["label"].replace("\u2019", "'"), row["hexcode"]
        kind = kind_of(label, category.get(code_of(code)), code in carried)
        if kind:
            skins = [skin["hexcode"] for skin in row.get("skins", [])]
            found.append(
                Emoji(code, label, row.get("tags", []), kind, carried.get(code, []), base_of(row["label"]), skins)
            )
    hold_out(found, test_every)
    return found


def hold_out(emoji: list, test_every: int) -> None:
    """Put one base in `test_every` into the test split, stratified by kind and first emotion."""
    strata = collections.defaultdict(list)
    for one in emoji:
        strata[(one.kind, (one.emotions or ["-"])[0])].append(one.base)
    seen, test, due = set(), set(), 0.0
    for key in sorted(strata):
        bases = sorted(set(strata[key]) - seen, key=lambda base: hashlib.md5(base.encode()).hexdigest())
        seen |= set(bases)
        for base in bases:
            due += 1.0 / test_every
            if due >= 1.0:
                due -= 1.0
                test.add(base)
    for one in emoji:
        one.split = "test" if one.base in test else "train"
