"""Pack what render.mjs drew into Parquet: lossless WebP, and everything that is known about each picture.

    python pack.py raw test --out test.parquet

Rows keep the order of RAW/SPLIT.jsonl. `image` is Hugging Face's struct of bytes and path, so that
`datasets.load_dataset("parquet", data_files="test.parquet")` gives pictures; `parts` is JSON.
"""

import argparse
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("subject", pa.string()),
        ("style", pa.string()),
        ("split", pa.string()),
        ("emotion", pa.string()),
        ("drawing", pa.int64()),
        ("alternatives", pa.int64()),
        ("sign", pa.bool_()),
        ("parts", pa.string()),
        ("caption", pa.string()),
        ("caption_clip", pa.string()),
        ("looks", pa.string()),
        ("place", pa.string()),
        ("face", pa.list_(pa.int64())),
        ("size", pa.int64()),
    ]
)
ROWS_PER_GROUP = 1000


def hugging_face_features(schema: pa.Schema) -> bytes:
    """The metadata by which `datasets` knows the image column; it infers all others."""
    names = {pa.int64(): "int64", pa.bool_(): "bool", pa.string(): "string"}

    def feature(kind):
        if pa.types.is_struct(kind):
            return {"_type": "Image"}
        if pa.types.is_list(kind):
            return {"_type": "Sequence", "feature": feature(kind.value_type)}
        return {"_type": "Value", "dtype": names[kind]}

    return json.dumps({"info": {"features": {field.name: feature(field.type) for field in schema}}}).encode()


def webp(png: bytes, effort: int, quality: int | None = None) -> bytes:
    """A WebP file: the same pixels (4.7 KB instead of PNG's 7.6), or with loss at a quality."""
    out = io.BytesIO()
    loss = dict(lossless=True, quality=75) if quality is None else dict(quality=quality)
    Image.open(io.BytesIO(png)).convert("RGB").save(out, "WEBP", method=effort, **loss)
    return out.getvalue()


def rows_of(folder: Path, split: str, encode, drawings: int | None = None):
    """Every picture's row, in order; of several drawings of an emotion the first `drawings`."""
    with open(folder / f"{split}.png.bin", "rb") as pack, open(folder / f"{split}.jsonl") as lines:
        for line in lines:
            row = json.loads(line)
            if drawings is not None:
                if row["drawing"] >= drawings:
                    continue
                row["alternatives"] = min(row["alternatives"], drawings)
            pack.seek(row.pop("offset"))
            image = encode(pack.read(row.pop("length")))
            yield row | {"image": {"bytes": image, "path": None}, "parts": json.dumps(row["parts"])}


def write(rows, path: Path) -> int:
    """One Parquet file, there whole or not at all. Gives the number of rows."""
    schema = SCHEMA.with_metadata({b"huggingface": hugging_face_features(SCHEMA)})
    unfinished, count, group = path.with_suffix(".unfinished"), 0, []
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for row in rows:
            group.append(row)
            count += 1
            if len(group) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))
    os.replace(unfinished, path)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what render.mjs was given as --out")
    parser.add_argument("split", help="train, validation, test, unseen or judge")
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--png", action="store_true", help="keep the PNGs: larger, but nothing to encode")
    parser.add_argument("--effort", type=int, default=4, help="WebP's, 0 to 6 (default 4: 7 ms a picture)")
    parser.add_argument("--quality", type=int, help="WebP with loss: smaller, for what only trains")
    parser.add_argument("--drawings", type=int, help="at most so many of a person's drawings of an emotion")
    args = parser.parse_args()
    encode = (lambda png: png) if args.png else (lambda png: webp(png, args.effort, args.quality))
    print(f"{write(rows_of(args.folder, args.split, encode, args.drawings), args.out)} rows: {args.out}")


if __name__ == "__main__":
    main()
