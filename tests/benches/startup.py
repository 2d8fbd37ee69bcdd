"""Two starts of `trainer --dry-run` on a data set of 20 GB: the first hashes its shards, the second must not.

    python tests/benches/startup.py [--gigabytes N]       (from the repository's root, after `make data`; needs blake3 from pip)

The data set is the demo's training shard, linked as often as its size asks, with a manifest that lists every link: the bytes
and pages are real, and every shard has a record of its own. Its rows are small (27 kB, at Stable Diffusion 1.5 some 170 kB), so
that a start reads six times the light columns that it would read there. Writes target/bench/startup.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import blake3

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = "python tests/benches/startup.py"
ZEROS = "0" * 64


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    gigabytes = parser.parse_args().gigabytes
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as folder:
        folder = pathlib.Path(folder)
        shards, rows = make(folder / "set", gigabytes * 1e9)
        seconds = [dry_run(folder, n) for n in range(3)]
    first, second = seconds[0], min(seconds[1:])
    print(f"{gigabytes:.0f} GB in {shards} shards, {rows} rows: first start {first:.1f} s, second {second:.2f} s")
    row = {"name": f"second dry run, {gigabytes:.0f} GB", "unit": "s", "ours": round(second, 2), "peer": round(first, 2),
           "peer_name": "the first", "ratio": round(second / first, 4), "command": COMMAND}  # fmt: skip
    out = ROOT / "target/bench/startup.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([row], indent=1) + "\n")


def make(folder, size):
    source = ROOT / "data/pocket"
    manifest = json.loads((source / "manifest.json").read_text())
    train = max(manifest["shards"], key=lambda shard: shard["bytes"] * (shard["split"] == "train"))
    count = max(1, round(size / train["bytes"]))
    others = [shard for shard in manifest["shards"] if shard is not train]
    manifest["shards"] = others + [{**train, "file": f"train-{n:05}-of-{count:05}.parquet"} for n in range(count)]
    split = manifest["splits"]["train"]
    split["rows"] *= count
    for counts in [split["labels"], split.get("states", {})]:
        counts.update({name: rows * count for name, rows in counts.items()})
    manifest["checksum"] = ZEROS
    folder.mkdir()
    for shard in manifest["shards"]:
        origin = source / (train["file"] if shard["split"] == "train" else shard["file"])
        os.link(origin.resolve(), folder / shard["file"])
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    text = text.replace(ZEROS, blake3.blake3(text.encode()).hexdigest())
    (folder / "manifest.json").write_text(text)
    return len(manifest["shards"]), sum(shard["rows"] for shard in manifest["shards"])


def dry_run(folder, number):
    sets = [f"data.emotion_images.shards={folder}/set", f"data.sources.shards={folder}/set", f"output_dir={folder}/run"]
    command = [ROOT / "target/release/trainer", "--config", "configs/pocket/sadness.yaml", "--dry-run", "--resume", "none"]
    command += [part for pair in sets for part in ("--set", pair)]
    begun, before = time.perf_counter(), os.times()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "RUST_LOG": "hashes=debug"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    assert ran.returncode == 0, ran.stderr
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    hashed = sum("hashing " in line and ".parquet" in line for line in ran.stderr.splitlines())
    print(f"start {number + 1}: {seconds:.2f} s, of them {busy:.2f} s of a core; {hashed} shards hashed", flush=True)
    assert (hashed == 0) == (number > 0), hashed
    return seconds


if __name__ == "__main__":
    main()
