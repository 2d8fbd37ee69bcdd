"""Opens a folder of shards with pyarrow, duckdb and Hugging Face datasets, and compares with diffusers and transformers.

pyarrow 26.0.1, datasets 5.2.0, duckdb 2.0.0, diffusers 0.42.1, transformers 5.23.0, torch 2.11.0:
    python tests/peers/shards.py data/pocket [--models assets/pocket]

Checks that all readers see the manifest's counts, that images are shown as images, that latents have the manifest's
shape, and, with --models, that latents and CLIP embeddings are those of the Python libraries.
"""

import argparse
import collections
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

LATENTS = ["latent_mean", "latent_std", "flip_mean", "flip_std"]
NUM_COMPARED = 16


def with_pyarrow(folder, manifest):
    """Every shard: rows, row groups, labels, and each image and latent of the first rows."""
    latent = manifest["latent"]
    width = latent["channels"] * latent["height"] * latent["width"]
    side = manifest["transform"]["resolution"]
    labels, states = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    splits_of_subject = collections.defaultdict(set)
    for shard in manifest["shards"]:
        file = pq.ParquetFile(folder / shard["file"])
        meta = file.metadata
        assert meta.num_rows == shard["rows"], (shard["file"], meta.num_rows)
        assert max(meta.row_group(n).num_rows for n in range(meta.num_row_groups)) <= 256
        table = file.read()
        labels[shard["split"]].update(e or "none" for e in table["emotion"].to_pylist())
        for subject, state in zip(table["subject"].to_pylist(), table["state"].to_pylist()):
            if subject is not None:
                states[shard["split"]][state or "none"] += 1
                splits_of_subject[subject].add(shard["split"])
        for row in table.slice(0, NUM_COMPARED).to_pylist():
            assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (side, side)
            assert all(len(row[name]) == width for name in LATENTS), "a latent has another length"
            assert np.isfinite([row[name] for name in LATENTS]).all()
            assert isinstance(json.loads(row["attributes"]), dict)
            assert min(row["crop"]["w"], row["crop"]["h"]) == min(row["width"], row["height"])
    for split, stated in manifest["splits"].items():
        assert dict(labels[split]) == stated["labels"], (split, labels[split])
        assert dict(states[split]) == stated.get("states", {}), (split, states[split])
        assert sum(labels[split].values()) == stated["rows"]
    torn = {subject: splits for subject, splits in splits_of_subject.items() if len(splits) > 1}
    assert not torn, f"subjects in several splits: {torn}"
    print(f"pyarrow: {sum(s['rows'] for s in manifest['shards'])} rows, {len(splits_of_subject)} subjects as the manifest states")


def pairs(folder):
    """(picture, true picture) of every subject that is neutral and has an emotion: how to follow the pairs in SQL."""
    import duckdb

    return duckdb.sql(f"""
        select a.subject, b.state, a.path as source, b.path as truth from '{folder}/*.parquet' a
        join '{folder}/*.parquet' b on a.subject = b.subject and a.state = 'neutral' and b.state <> 'neutral'
        order by all""").fetchall()


def with_datasets(folder, manifest):
    """The folder as its card describes it: splits, and images that are shown as images."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(str(folder), cache_dir=cache)
        side = manifest["transform"]["resolution"]
        for split, stated in manifest["splits"].items():
            part = loaded[split]
            assert part.num_rows == stated["rows"]
            assert isinstance(part.features["image"], datasets.Image), part.features["image"]
            assert part[0]["image"].size == (side, side)
            print(f"datasets: {split}: {part.num_rows} rows, image {part.features['image']}")
        print(f"datasets: latent_mean {part.features['latent_mean']}")


def with_duckdb(folder, manifest):
    """Counts by SQL, and a latent as the list that it is."""
    import duckdb

    counts = collections.defaultdict(dict)
    for split, emotion, count in duckdb.sql(f"select split, emotion, count(*) from '{folder}/*.parquet' group by all").fetchall():
        counts[split][emotion or "none"] = count
    assert dict(counts) == {split: stated["labels"] for split, stated in manifest["splits"].items()}, counts
    first = folder / manifest["shards"][0]["file"]
    ((latent,),) = duckdb.sql(f"select latent_mean from '{first}' limit 1").fetchall()
    assert latent == pq.read_table(first, columns=["latent_mean"])["latent_mean"][0].as_py()
    print(f"duckdb: {sum(map(sum, (c.values() for c in counts.values())))} rows by split and emotion as the manifest states")
    print(f"duckdb: {len(pairs(folder))} pairs of a neutral picture and one of an emotion")


def with_models(folder, manifest, models):
    """Latents and embeddings of the first rows, computed anew."""
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPImageProcessor, CLIPModel

    torch.set_num_threads(1)
    rows = pq.read_table(folder / manifest["shards"][0]["file"]).slice(0, NUM_COMPARED).to_pylist()
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    pixels = torch.stack([torch.from_numpy(np.asarray(i).copy()).permute(2, 0, 1) for i in images]) / 127.5 - 1
    vae = AutoencoderKL.from_pretrained(models / "vae", torch_dtype=torch.float32)
    clip = CLIPModel.from_pretrained(models / "clip", dtype=torch.float32)
    inputs = CLIPImageProcessor.from_pretrained(models / "clip")(images, return_tensors="pt")
    with torch.no_grad():
        plain, flipped = vae.encode(pixels).latent_dist, vae.encode(pixels.flip(-1)).latent_dist
        embeddings = clip.get_image_features(**inputs)
    embeddings = getattr(embeddings, "pooler_output", embeddings)
    tensors = dict(zip(LATENTS, [plain.mean, plain.std, flipped.mean, flipped.std])) | {"clip_embedding": embeddings}
    for name, tensor in tensors.items():
        found = torch.tensor(np.array([row[name] for row in rows], dtype=np.float32))
        # Half precision rounds by up to 2^-11 of each number; what is beyond that is a difference.
        expected = tensor.reshape(len(rows), -1)
        error = ((found - expected).abs() - expected.abs() / 2048).max() / expected.std()
        print(f"{name}: beyond half precision it differs from Python's by {error:.1e} of the spread")
        assert error < 1e-3, f"{name} is not what the Python library gives"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=Path, help="a folder with vae/ and clip/, those that made the shards")
    options = parser.parse_args()
    manifest = json.loads((options.folder / "manifest.json").read_text())
    with_pyarrow(options.folder, manifest)
    with_duckdb(options.folder, manifest)
    with_datasets(options.folder, manifest)
    if options.models:
        with_models(options.folder, manifest, options.models)
    print("ok")


if __name__ == "__main__":
    main()
