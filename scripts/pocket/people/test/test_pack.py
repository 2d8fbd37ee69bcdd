"""python -m unittest discover test: what render.mjs wrote comes back from Parquet pixel for pixel."""

import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pack import SCHEMA, rows_of, webp, write

RECORD = {
    "subject": "test-1-0-dylan",
    "style": "dylan",
    "split": "test",
    "emotion": "awe",
    "drawing": 0,
    "alternatives": 3,
    "sign": False,
    "parts": {"eyes": "+wide", "marks": []},
    "caption": "a person",
    "caption_clip": "a person in awe",
    "looks": "wide round eyes",
    "place": "plain",
    "face": [1, 2, 3, 4],
    "size": 8,
}


class Packing(unittest.TestCase):
    def test_pixels_and_records_come_back(self):
        random = np.random.default_rng(1)
        pictures = [random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(3)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.render(folder, pictures)
            count = write(rows_of(folder, "test", lambda png: webp(png, 4)), folder / "test.parquet")
            self.assertEqual(count, 3)
            table = pq.read_table(folder / "test.parquet")
            self.assertEqual(sorted(file.suffix for file in folder.iterdir()), [".bin", ".jsonl", ".parquet"])
        self.assertEqual(table.schema.names, SCHEMA.names)
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        self.assertEqual(features["image"], {"_type": "Image"})
        for row, picture in zip(table.to_pylist(), pictures, strict=True):
            decoded = np.asarray(Image.open(io.BytesIO(row.pop("image")["bytes"])))
            np.testing.assert_array_equal(decoded, picture)
            self.assertEqual(row | {"parts": json.loads(row["parts"])}, RECORD)

    def test_later_drawings_are_left_out_and_loss_is_small(self):
        smooth = np.add.outer(np.arange(8), np.arange(8)).astype(np.uint8)[:, :, None].repeat(3, 2) * 10
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.render(folder, [smooth] * 3, drawings=(0, 1, 2))
            rows = list(rows_of(folder, "test", lambda png: webp(png, 4, 90), drawings=2))
        self.assertEqual([(row["drawing"], row["alternatives"]) for row in rows], [(0, 2), (1, 2)])
        decoded = np.asarray(Image.open(io.BytesIO(rows[0]["image"]["bytes"]))).astype(int)
        self.assertLess(np.abs(decoded - smooth).mean(), 4)
        self.assertGreater(np.abs(decoded - smooth).max(), 0)

    def render(self, folder, pictures, drawings=(0, 0, 0)):
        """Files as render.mjs writes them."""
        offset, lines, pack = 0, [], b""
        for picture, drawing in zip(pictures, drawings, strict=True):
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG")
            lines.append(json.dumps(RECORD | {"drawing": drawing, "offset": offset, "length": len(png.getvalue())}))
            pack += png.getvalue()
            offset = len(pack)
        (folder / "test.png.bin").write_bytes(pack)
        (folder / "test.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    unittest.main()
