"""What is computed once, at Stable Diffusion 1.5's shape: bytes and files, and how long a batch of 16 takes to read.

    python tests/benches/precompute.py [SOURCES] [WRITERS]     (from the repository's root; 10000 sources take 14 GB)

Random numbers, written by several writers at a time as by the processes of a training. pyarrow, if it is there, reads one
source and computes a latent from it as docs/data.md says.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMITS = {"bytes a source": 1_400_000, "ms to read a batch of 16, the median": 20}


def main():
    sources, writers = (sys.argv[1:] + ["1024", "2"][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "bench", "-q", "--workspace", "--locked", "--bench", "inversions", "--", folder, sources, writers]
        text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        read_by_pyarrow(pathlib.Path(folder))
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for row in rows:
        print(f"{row['name']:42} {row['value']:14.1f}")
    found = {row["name"]: row["value"] for row in rows}
    assert found["files"] <= max(1, int(sources) / 256), "more than one file in 256 sources"
    missed = [name for name, limit in LIMITS.items() if found[name] >= limit]
    sys.exit(f"above the limit: {missed}" if missed else 0)


def read_by_pyarrow(folder):
    try:
        import numpy as np
        import pyarrow.parquet as pq
    except ImportError:
        print("pyarrow is not installed: not read by it")
        return
    file = pq.ParquetFile(next(folder.glob("*.parquet")))
    row = file.read_row_group(0).slice(0, 1).to_pylist()[0]
    shape = json.loads(file.schema_arrow.field("outputs").metadata[b"shape"])
    outputs = np.frombuffer(row["outputs"], "<f2").reshape(shape)
    print(f"pyarrow: {file.metadata.num_rows} rows, outputs {outputs.dtype} {outputs.shape}, finite {np.isfinite(outputs).all()}")


if __name__ == "__main__":
    main()
