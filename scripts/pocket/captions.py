"""Captions for the emoji: what text encoder, CLIP and UNet are trained on."""

import random

STYLES = {"fluent3d": "3d", "twemoji": "flat", "google": "soft"}
ADJECTIVES = {
    "amusement": "amused",
    "anger": "angry",
    "awe": "amazed",
    "contentment": "content",
    "disgust": "disgusted",
    "excitement": "excited",
    "fear": "scared",
    "sadness": "sad",
}


def with_article(text: str) -> str:
    """ "angry face" → "an angry face"."""
    return ("an " if text[:1].lower() in "aeiou" else "a ") + text


def canonical(row: dict) -> str:
    """The plain caption of a picture."""
    return f"a {STYLES[row['set']]} emoji of {with_article(row['label'].lower())}"


def caption(row: dict, rng: random.Random, emotion_share: float = 0.3) -> str:
    """A random caption; `emotion_share` of those for pictures with an emotion name it."""
    style = STYLES[row["set"]]
    emotion = rng.choice(row["emotions"]) if row["emotions"] else None
    head = rng.choice([with_article(style + " emoji")] * 3 + ["an emoji", with_article(style + " icon")])
    if emotion and rng.random() < emotion_share:
        return about_emotion(head, row, emotion, rng)
    return about_label(head, row, rng)


def about_emotion(head: str, row: dict, emotion: str, rng: random.Random) -> str:
    """A caption that names the emotion."""
    label, draw = row["label"].lower(), rng.random()
    if draw < 0.3:
        return f"{head} evoking {emotion}"
    if draw < 0.5:
        return f"{head} of {with_article(label)} evoking {emotion}"
    if draw < 0.8 and row["kind"] == "face":
        what = "cat face" if "cat" in label else ("monkey" if "monkey" in label else "face")
        return f"{head} of {with_article(ADJECTIVES[emotion] + ' ' + what)}"
    return f"{head}, {emotion}, {ADJECTIVES[emotion]}"


def about_label(head: str, row: dict, rng: random.Random) -> str:
    """A caption of the label, with a few tags now and then."""
    label, draw = row["label"].lower(), rng.random()
    if draw < 0.45 or not row["tags"]:
        return f"{head} of {with_article(label)}"
    tags = [tag for tag in row["tags"] if tag.isascii()]
    tags = rng.sample(tags, min(len(tags), rng.randint(1, 3)))
    if draw < 0.85:
        return f"{head} of {with_article(label)}, {', '.join(tags)}"
    return f"{head}, {', '.join(tags)}"
