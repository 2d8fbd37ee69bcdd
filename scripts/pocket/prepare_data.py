"""Draw the emoji sets at 64 px with labels, emotions and split: one Parquet file for the family, one for the judge.

    python prepare_data.py --packages packages --out ../../assets/pocket/data

`--packages` holds the unpacked npm packages that README.md lists. The family's file goes into the assets;
the judge's file (more styles, skin tones) is only needed to train the judge and stays where --judge-out says.
"""

import argparse
import collections
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emoji_labels import read_emoji
from emoji_sets import FAMILY, JUDGE_ONLY, code_of, picture_of


def webp(image, effort: int) -> bytes:
    """A lossless WebP file; effort 6 takes a quarter of a second a picture and saves a tenth over 4."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=effort, exact=False)
    return buffer.getvalue()


def row_of(one, set_name: str, image, effort: int, hexcode: str = "") -> dict:
    """One picture with everything that is known about it."""
    return dict(
        image=webp(image, effort),
        set=set_name,
        hexcode=hexcode or one.hexcode,
        label=one.label,
        tags=one.tags,
        kind=one.kind,
        emotion=one.emotions[0] if one.emotions else None,
        emotions=one.emotions,
        base=one.base,
        split=one.split,
    )


def draw(emoji: list, sets, packages: Path, effort: int, skins: bool = False) -> list:
    """Rows for every emoji that a set has; with `skins` also the skin tones of those that carry an emotion."""
    pictures = {one.name: one.pictures(packages) for one in sets}
    rows = []
    for one in emoji:
        for source in sets:
            found = picture_of(pictures[source.name], one.hexcode, one.label)
            if found:
                rows.append(row_of(one, source.name, found(), effort))
            for skin in one.skins if skins and one.emotions else []:
                if code_of(skin) in pictures[source.name]:
                    rows.append(row_of(one, source.name, pictures[source.name][code_of(skin)](), effort, skin))
    return rows


def write(rows: list, path: Path) -> None:
    """One Parquet file, and a summary on the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    print(path, len(rows), "images", round(path.stat().st_size / 1e6, 1), "MB")
    print(dict(collections.Counter((row["kind"], row["split"]) for row in rows)))
    print(dict(collections.Counter(row["set"] for row in rows)))
    print(dict(sorted(collections.Counter((row["emotion"], row["split"]) for row in rows if row["emotion"]).items())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument(
        "--emotions", type=Path, default=Path(__file__).parents[2] / "assets/pocket/data/emoji_emotions_curated.json"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for pocket_emoji.parquet")
    parser.add_argument("--judge-out", type=Path, default=Path("build/judge_emoji.parquet"))
    parser.add_argument("--test-every", type=int, default=7, help="one base emoji in this many is held out")
    parser.add_argument("--only", choices=["family", "judge", "both"], default="both")
    args = parser.parse_args()
    emoji = read_emoji(
        args.packages / "emojibase-data-17.0.0/en/data.json",
        args.emotions,
        args.packages / "emoji-datasource-google-16.0.0/emoji.json",
        args.test_every,
    )
    if args.only != "judge":
        write(draw(emoji, FAMILY, args.packages, effort=6), args.out / "pocket_emoji.parquet")
    if args.only != "family":
        write(draw(emoji, FAMILY + JUDGE_ONLY, args.packages, effort=4, skins=True), args.judge_out)


if __name__ == "__main__":
    main()
