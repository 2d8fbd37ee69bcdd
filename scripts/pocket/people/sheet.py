"""A contact sheet of a packed split: a row a person, two columns an emotion. Look at it after every change of a style.

    python sheet.py test.parquet --persons 20 --out sheet.png [--style dylan]
"""

import argparse
import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

EXPRESSIONS = ["neutral", "amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"]
COLUMNS = [("neutral", 0)] + [(emotion, drawing) for emotion in EXPRESSIONS[1:] for drawing in (0, 1)]
HEADING = 12  # pixels
GAP = 2


def first_persons(path: Path, style: str | None, count: int) -> list[dict]:
    """For each of the first persons: (emotion, drawing) → the picture's bytes."""
    persons: dict[str, dict] = {}
    for batch in pq.ParquetFile(path).iter_batches(columns=["image", "subject", "style", "emotion", "drawing"]):
        for row in batch.to_pylist():
            if style in (None, row["style"]):
                pictures = persons.setdefault(row["subject"], {})
                pictures[row["emotion"], row["drawing"]] = row["image"]["bytes"]
        if len(persons) > count:
            break
    return list(persons.values())[:count]


def contact_sheet(persons: list[dict]) -> Image.Image:
    """The sheet; a drawing that a person does not have stays white."""
    if not persons:
        raise SystemExit("no person of that style in the file")
    side = Image.open(io.BytesIO(next(iter(persons[0].values())))).width + GAP
    sheet = Image.new("RGB", (side * len(COLUMNS), side * len(persons) + HEADING), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (emotion, drawing) in enumerate(COLUMNS):
        pen.text((column * side + 2, 0), emotion, fill="black")
        for row, pictures in enumerate(persons):
            if (emotion, drawing) in pictures:
                picture = Image.open(io.BytesIO(pictures[emotion, drawing])).convert("RGB")
                sheet.paste(picture, (column * side, HEADING + row * side))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--persons", type=int, default=12)
    parser.add_argument("--style", help="only persons of this style")
    args = parser.parse_args()
    contact_sheet(first_persons(args.parquet, args.style, args.persons)).save(args.out)


if __name__ == "__main__":
    main()
