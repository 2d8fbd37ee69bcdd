"""`dataloader shard --dry-run` on a synthetic EmoSet of 118,102 photos: time, peak memory, and growth from 10,000 on.

    python tests/benches/emoset.py [--photos N]       (from the repository's root, after `make build`)

The tree has EmoSet-118K's layout and counts: split files that list images, image/<emotion>/*.jpg, and an annotation of its
own for each. The images are hard links to a few files, since a dry run decodes none. Of three runs the fastest counts, after
one that warms the cache of the file system. Fails if time or memory grow faster than the number of photos. Writes
target/bench/emoset.json. Standard library only.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = "python tests/benches/emoset.py"
EMOTIONS = ["amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"]
WHOLE, PART = 118_102, 10_000
SHARES = {"train": 0.80, "val": 0.05, "test": 0.15}  # as the authors divide it
LINKS = 20_000  # of one file; file systems allow some 65,000
SLACK = 1.2  # a shared machine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=WHOLE)
    photos = parser.parse_args().photos
    counts = sorted({min(PART, photos), photos})
    measured = {}
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        for count in counts:
            tree = pathlib.Path(folder) / str(count)
            make(tree, count)
            runs = [dry_run(tree, count) for _ in range(4)][1:]
            measured[count] = min(run[0] for run in runs), max(run[1] for run in runs)
            print(f"{count:7} photos: {measured[count][0]:.2f} s, {measured[count][1] / 1e6:.0f} MB at most", flush=True)
    rows = [
        {"name": f"dry run of {count} photos: {what}", "unit": unit, "ours": round(value, 3), "threads": os.cpu_count(),
         "command": COMMAND}
        for count, (seconds, peak) in measured.items()
        for what, unit, value in [("time", "s", seconds), ("peak memory", "MB", peak / 1e6)]
    ]  # fmt: skip
    target = ROOT / "target/bench/emoset.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    if len(counts) == 2:
        (part, part_peak), (whole, whole_peak) = (measured[count] for count in counts)
        growth = counts[1] / counts[0]
        print(f"{growth:.1f} times the photos: {whole / part:.1f} times the time, {whole_peak / part_peak:.1f} times the memory")
        if max(whole / part, whole_peak / part_peak) > SLACK * growth:
            sys.exit("grows faster than the data set")


def make(tree, count):
    photo = (ROOT / "tests/fixtures/dataloader/rotated.jpg").read_bytes()
    for emotion in EMOTIONS:
        (tree / "image" / emotion).mkdir(parents=True)
        (tree / "annotation" / emotion).mkdir(parents=True)
    splits = {split: [] for split in SHARES}
    bounds = [SHARES["train"], SHARES["train"] + SHARES["val"], 1.0]
    for n in range(count):
        emotion = EMOTIONS[n % len(EMOTIONS)]
        name = f"{emotion}_{n:06}"
        image, annotation = f"image/{emotion}/{name}.jpg", f"annotation/{emotion}/{name}.json"
        if n % LINKS == 0:
            original = tree / f"original-{n // LINKS}.jpg"
            original.write_bytes(photo)
        os.link(original, tree / image)
        described = {"image_id": name, "emotion": emotion, "brightness": (n % 11) / 10, "colorfulness": (n % 7) / 10,
                     "scene": "outdoor", "object": ["person", "tree"], "facial_expression": None, "human_action": None}  # fmt: skip
        (tree / annotation).write_text(json.dumps(described))
        place = (n * 0.6180339887) % 1.0
        split = next(split for split, bound in zip(SHARES, bounds) if place < bound)
        splits[split].append([emotion, image, annotation])
    for split, rows in splits.items():
        (tree / f"{split}.json").write_text(json.dumps(rows))


def dry_run(tree, count):
    """Seconds, and the largest resident set in bytes."""
    command = [str(ROOT / "target/release/dataloader"), "shard", "--config", "configs/data/emoset.yaml", "--dry-run"]
    with tempfile.TemporaryFile("w+") as out:
        begun = time.perf_counter()
        process = subprocess.Popen([*command, "--set", f"source.path={tree}"], cwd=ROOT, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, process.returncode
        out.seek(0)
        text = out.read()
    assert f"{count}" in text.replace(",", ""), text
    return seconds, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
