"""The README's first picture out of a report: persons above, their edits below, the true pictures last.

    python scripts/first_picture.py reports/pocket/DATE docs/images/people.png        (pillow 13)

The cases are all that the report shows, in its order: best, median and worst by its own rule. None is picked by hand.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

SIDE, GAP = 96, 4


def columns(report: dict, method: str) -> list:
    """(source, edit, truth or None) file names of every case."""
    found = []
    for case in report["cases"]:
        for group in case["groups"].values():
            for shown in group:
                names = shown["images"]
                first = lambda word: next((name for name in names if f"-{word}" in name), None)
                found.append((first("source"), first(method), first("truth")))
    return list(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="folder with report.json and images")
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", default="joint")
    args = parser.parse_args()
    cases = columns(json.loads((args.report / "report.json").read_text()), args.method)
    step = SIDE + GAP
    sheet = Image.new("RGB", (len(cases) * step - GAP, 3 * step - GAP), "white")
    for column, names in enumerate(cases):
        for row, name in enumerate(names):
            if name is not None:
                picture = Image.open(args.report / "images" / name).convert("RGB").resize((SIDE, SIDE))
                sheet.paste(picture, (column * step, row * step))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)
    print(f"{args.out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
