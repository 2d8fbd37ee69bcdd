"""The emoji sets that the pocket family is made from: package, licence and how to read one picture of each.

Every set is one npm package, unpacked into <packages>/<folder>. Pictures are addressed by code point
sequence in lower case without the variation selector, e.g. "1f600".
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

SIZE = 64
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def code_of(name: str) -> str:
    """The address of a file name or hexcode: lower case, no variation selector, no leading zeros."""
    return name.lower().replace("-fe0f", "").lstrip("0")


def slug_of(label: str) -> str:
    """An emoji's CLDR name as icon packages spell it."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("'", "").replace("\u2019", "")).strip("-")


def resize(image: Image.Image, size: int = SIZE) -> Image.Image:
    """Lanczos on premultiplied alpha, so that no dark fringe appears at the edges."""
    image = image.convert("RGBA")
    if image.size == (size, size):
        return image
    pixels = np.asarray(image).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255.0
    planes = [Image.fromarray(pixels[..., i], mode="F").resize((size, size), Image.LANCZOS) for i in range(4)]
    alpha = np.clip(np.asarray(planes[3]), 0, 255)
    rgb = [np.clip(np.asarray(plane) / np.maximum(alpha, 1e-3) * 255.0, 0, 255) for plane in planes[:3]]
    return Image.fromarray(np.stack(rgb + [alpha], -1).round().astype(np.uint8), "RGBA")


def from_bitmap(data: bytes) -> Image.Image:
    """A PNG or WebP file as a 64 px picture."""
    return resize(Image.open(io.BytesIO(data)))


def from_svg(text: str) -> Image.Image:
    """An SVG drawing as a 64 px picture, drawn at four times the size first."""
    import resvg_py

    return resize(
        Image.open(
            io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=256, height=256, skip_system_fonts=True)))
        )
    )


def files(folder: str, suffix: str) -> Callable[[Path], dict]:
    """Pictures that lie in a folder as <code>.<suffix>."""

    def read(package: Path) -> dict:
        found = {}
        for path in sorted((package / folder).glob(f"*.{suffix}")):
            draw = (
                (lambda p=path: from_svg(p.read_text()))
                if suffix == "svg"
                else (lambda p=path: from_bitmap(p.read_bytes()))
            )
            found[code_of(path.stem)] = draw
        return found

    return read


def icons(squeeze: bool = False) -> Callable[[Path], dict]:
    """Pictures of an Iconify package (icons.json), addressed by name; `squeeze` for names without hyphens."""

    def read(package: Path) -> dict:
        data = json.loads((package / "icons.json").read_text())
        width, height = data.get("width", 16), data.get("height", 16)
        found = {}
        for name, icon in data["icons"].items():
            w, h = icon.get("width", width), icon.get("height", height)
            svg = f'<svg {NAMESPACES} viewBox="0 0 {w} {h}">{icon["body"]}</svg>'
            key = re.sub(r"-\d$", "", name)
            found.setdefault("name:" + (key.replace("-", "") if squeeze else key), lambda s=svg: from_svg(s))
        return found

    return read


@dataclass(frozen=True)
class EmojiSet:
    """One vendor's style: where it comes from and under which licence its artwork is."""

    name: str
    package: str
    folder: str
    artwork: str
    licence: str
    read: Callable[[Path], dict]

    def pictures(self, packages: Path) -> dict:
        """code (or "name:<slug>") → function that draws the 64 px RGBA picture."""
        return self.read(packages / self.folder)


FAMILY = (
    EmojiSet(
        "fluent3d",
        "@lobehub/fluent-emoji-3d@1.1.0",
        "lobehub-fluent-emoji-3d-1.1.0",
        "Fluent emoji, 3D, Microsoft",
        "MIT",
        files("assets", "webp"),
    ),
    EmojiSet(
        "twemoji",
        "emoji-datasource-twitter@16.0.0",
        "emoji-datasource-twitter-16.0.0",
        "Twemoji, Twitter, Inc and contributors",
        "CC-BY 4.0",
        files("img/twitter/64", "png"),
    ),
    EmojiSet(
        "google",
        "emoji-datasource-google@16.0.0",
        "emoji-datasource-google-16.0.0",
        "Noto emoji, Google",
        "Apache-2.0",
        files("img/google/64", "png"),
    ),
)

JUDGE_ONLY = (
    EmojiSet(
        "fluent_flat",
        "@lobehub/fluent-emoji-flat@1.1.0",
        "lobehub-fluent-emoji-flat-1.1.0",
        "Fluent emoji, flat, Microsoft",
        "MIT",
        files("assets", "svg"),
    ),
    EmojiSet(
        "fluent_color",
        "@lobehub/fluent-emoji-modern@1.0.0",
        "lobehub-fluent-emoji-modern-1.0.0",
        "Fluent emoji, colour, Microsoft",
        "MIT",
        files("assets", "svg"),
    ),
    EmojiSet(
        "google_2018",
        "emoji-datasource-google@4.0.4",
        "emoji-datasource-google-4.0.4",
        "Noto emoji of 2018, Google",
        "Apache-2.0",
        files("img/google/64", "png"),
    ),
    EmojiSet(
        "noto_blob",
        "@iconify-json/noto-v1@1.2.5",
        "iconify-json-noto-v1-1.2.5",
        "Noto emoji v1 (blobs), Google",
        "Apache-2.0",
        icons(),
    ),
    EmojiSet(
        "emojione", "emojione@2.2.7", "emojione-2.2.7", "EmojiOne 2, Ranks.com", "CC-BY 4.0", files("assets/svg", "svg")
    ),
    EmojiSet(
        "firefox_os",
        "@iconify-json/fxemoji@1.2.2",
        "iconify-json-fxemoji-1.2.2",
        "Firefox OS emoji, Mozilla",
        "Apache-2.0",
        icons(squeeze=True),
    ),
    EmojiSet(
        "streamline",
        "@iconify-json/streamline-emojis@1.2.4",
        "iconify-json-streamline-emojis-1.2.4",
        "Streamline emojis, Streamline",
        "CC-BY 4.0",
        icons(),
    ),
)


# Names by which icon packages call an emoji, where they differ from its CLDR name.
OTHER_NAMES = {
    "1F600": "grin",
    "1F601": "grineyes",
    "1F602": "grintears",
    "1F603": "grinwide",
    "1F604": "grinwideeyes",
    "1F605": "grinsweat",
    "1F606": "grinsquint",
    "1F607": "halo",
    "1F608": "devilhorns",
    "1F609": "winking",
    "1F60A": "smileeyes",
    "1F60B": "smiletongue",
    "1F60C": "relieved",
    "1F60D": "hearteyes",
    "1F60E": "sunglasses",
    "1F60F": "smirk",
    "1F610": "neutral",
    "1F611": "expressionless",
    "1F612": "unamused",
    "1F613": "sweat",
    "1F614": "pensive",
    "1F615": "confused",
    "1F616": "confounded",
    "1F617": "kissing",
    "1F618": "kiss",
    "1F619": "kisseyes",
    "1F61A": "kissclosedeyes",
    "1F61B": "tongueout",
    "1F61C": "tongueoutwink",
    "1F61D": "tongueoutwink2",
    "1F61E": "disappointed",
    "1F61F": "worried",
    "1F620": "angry",
    "1F621": "pouting-face pout",
    "1F622": "crying",
    "1F623": "perservere",
    "1F624": "triumph",
    "1F625": "dissapointedrelief disappointed-but-relieved-face",
    "1F626": "frownmouth",
    "1F627": "anguish",
    "1F628": "fearful",
    "1F629": "weary",
    "1F62A": "sleepy",
    "1F62B": "tired",
    "1F62C": "grimacing",
    "1F62D": "loudlycrying",
    "1F62E": "openmouth",
    "1F62F": "hushed hushed-face",
    "1F630": "coldsweat anxious-face",
    "1F631": "screamfear",
    "1F632": "astonished",
    "1F633": "flushed",
    "1F634": "sleeping",
    "1F635": "dizzyface dizzy-face",
    "1F636": "nomouth",
    "1F637": "medicalmask",
    "1F641": "smallfrown",
    "1F642": "smallsmile",
    "263A": "whitesmilingface smiling-face",
    "2639": "frown",
    "1F63C": "foxwry cat-face-with-wry-smile",
    "1F63F": "foxcrying crying-cat-face",
    "1F63E": "foxpouting pouting-cat-face",
    "1F638": "grinning-cat-face-with-smiling-eyes foxgrin",
    "1F639": "foxtearofjoy cat-face-with-tears-of-joy",
    "1F63A": "foxsmiling grinning-cat-face",
    "1F63B": "foxheart",
    "1F640": "foxweary weary-cat-face",
    "1F63D": "foxkissing",
    "1F648": "monkeysee",
    "1F649": "monkeyhear",
    "1F64A": "monkeyspeak",
    "1F479": "ogre",
    "1F47A": "japaneseangrymask",
    "1F47F": "imp",
    "1F4A9": "poo",
    "1F917": "hugging-face",
    "1F92A": "zany-face crazy-face",
    "1F47B": "ghost",
    "1F480": "skull",
    "1F494": "brokenheart",
    "1F4A5": "collision",
    "1F4A2": "anger",
    "1F5FB": "mountfuji",
    "1F30C": "milkyway",
    "1F387": "fireworksparkler",
    "1F3D4": "snowmountains",
}


def picture_of(pictures: dict, hexcode: str, label: str):
    """The drawing function for an emoji, found by code or else by name; None if the set lacks it."""
    slug = slug_of(label)
    names = [slug, slug.replace("-", "")] + OTHER_NAMES.get(hexcode, "").split()
    for key in [code_of(hexcode)] + ["name:" + name for name in names]:
        if key in pictures:
            return pictures[key]
    return None
