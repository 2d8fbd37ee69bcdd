"""Reads the published FindingEmo annotations with our program and with Python's csv module, and compares every count.

    python tests/peers/findingemo.py [PACKAGE]     (from the repository's root, after `make build`)

PACKAGE is an unpacked findingemo-light 1.0.0 (CC BY-NC-SA 4.0, never committed); without it the wheel is fetched from
PyPI into a temporary folder. No image is there, so every row must be counted as missing, and none as unusable.
"""
import collections
import csv
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS, STRICT, UNMAPPED = 25869, 9601, 12271
NEGATIVE = {"anger", "fear", "sadness", "disgust"}
MIKELS = {
    "anger": "Annoyance Anger Rage", "fear": "Apprehension Fear Terror", "sadness": "Pensiveness Sadness Grief",
    "disgust": "Disgust Loathing", "contentment": "Serenity Acceptance", "excitement": "Ecstasy",
    "awe": "Amazement Admiration",
}  # fmt: skip


def main():
    with tempfile.TemporaryDirectory() as folder:
        package = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else fetch(pathlib.Path(folder))
        annotations = package / "data/annotations_single.ann"
        assert hashlib.sha256(annotations.read_bytes()).hexdigest().startswith("e2c38396"), "another version"
        ours = survey(annotations, pathlib.Path(folder) / "no-images")
        labels, emotions, strict = count(annotations)
    assert ours["first"] == f"findingemo: {ROWS} images listed, 0 there, {ROWS} missing, 0 unusable as listed"
    assert ours["label"] == labels, "labels differ"
    assert ours["emotion"] == emotions, "emotions differ"
    assert (emotions["none"], strict) == (UNMAPPED, STRICT), (emotions["none"], strict)
    assert ours["strict"] == strict, (ours["strict"], strict)
    print(f"FindingEmo: {ROWS} rows, {len(labels)} labels, {UNMAPPED} unmapped, {STRICT} strict: as csv counts them")


def fetch(folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "findingemo-light==1.0.0"]
    subprocess.run(command, check=True)
    wheel = next(folder.glob("findingemo_light-*.whl"))
    zipfile.ZipFile(wheel).extractall(folder)
    return folder / "findingemo_light"


def survey(annotations, images):
    """The counts that `dataloader shard --dry-run` prints."""
    sets = ["--set", f"source.annotations={annotations}", "--set", f"source.images={images}"]
    command = [ROOT / "target/release/dataloader", "shard", "--config", "configs/data/findingemo.yaml", "--dry-run", *sets]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    tables, current = collections.defaultdict(dict), None
    for line in lines[1:]:
        words = line.split()
        if not words or words[0] == "strict:":
            current = None
        elif words[-1] == "strict":
            current = words[0]
        elif current:
            tables[current][words[0]] = [int(word) for word in words[-3:]]
    every = next(row for table in tables.values() for name, row in table.items() if name == "all")
    listed = lambda name: {key: row[0] for key, row in tables[name].items()}
    return {"first": lines[0], "label": listed("label"), "emotion": listed("emotion"), "strict": every[2]}


def count(annotations):
    emotion_of = {label: emotion for emotion, names in MIKELS.items() for label in names.split()}
    labels, emotions, strict = collections.Counter(), collections.Counter(), 0
    with open(annotations, newline="", encoding="utf8") as file:
        for row in csv.DictReader(file):
            emotion = emotion_of.get(row["emotion"])
            labels[row["emotion"]] += 1
            emotions[emotion or "none"] += 1
            valence = int(row["valence"])
            agrees = emotion and (valence < 0 if emotion in NEGATIVE else valence > 0)
            strict += bool(agrees and int(row["ambiguity"]) <= 3)
    return dict(labels), dict(emotions), strict


if __name__ == "__main__":
    main()
