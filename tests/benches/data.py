"""Times the dataloader and its peers on the same files and threads, in one go, and prints the ratios.

    make bench        or:  python tests/benches/data.py [THREADS]     (from the repository's root)

Photos are scikit-image's samples, enlarged, cropped and saved as JPEG; rows have the shape of Stable Diffusion 1.5's
shards at 512 px: a JPEG, four latents of 4×64×64 in f16, a CLIP embedding. Every reader must hand out the same arrays.
A ratio is our time over the peer's: below 1 we are faster. Rows go to target/bench/data.json. The best of three passes
counts on both sides. Pinned versions: requirements-data.txt.
"""
import contextlib
import io
import json
import multiprocessing.pool
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow.parquet as pq
import skimage.data
import torch
import torchvision
from PIL import Image
from torchvision.transforms.v2 import functional as tv

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS, PHOTOS, BATCH = 2048, 64, 16
LATENTS = ["latent_mean", "latent_std", "flip_mean", "flip_std"]
ARRAYS = [*LATENTS, "clip_embedding"]


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        photos = write_photos(folder / "photos")
        ours("make", folder / "shards", ROWS, *photos)
        rows = read_rows(folder / "shards")
        peers = photo_peers(photos, threads) + reading_peers(folder, rows)
        mine = ours("time", folder / "shards", threads, *photos)
        with s3(folder) as url:
            peers.append(("rows from S3", *streaming_from(f"{url}/mds", folder / "mds-fetched")))
            mine |= ours("fetch", f"{url}/shards", folder / "cache")
    out = []
    for name, peer, per_s in peers:
        ratio = per_s / mine[name]
        out.append({"name": name, "unit": "1/s", "ours": round(mine[name], 1), "peer": round(per_s, 1), "peer_name": peer,
                    "ratio": round(ratio, 3), "threads": threads, "command": "cargo bench --workspace --bench data"})
        print(f"{name:22} ours {mine[name]:9.1f}/s   {peer:42} {per_s:9.1f}/s   ratio {ratio:.2f}")
    for name in mine:
        if not any(row["name"] == name for row in out):
            print(f"{name:52} {mine[name]:9.1f}")
    target = ROOT / "target/bench/data.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(out, indent=1) + "\n")


def ours(*arguments):
    command = ["cargo", "bench", "-q", "--workspace", "--locked", "--bench", "data", "--", *map(str, arguments)]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {row["name"]: row.get("per_s", row.get("megabytes")) for row in rows}


def write_photos(folder):
    """Photos of about a megapixel, as web pages have them."""
    folder.mkdir()
    draw = random.Random(0)
    sources = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in ("astronaut", "coffee", "chelsea")]
    paths = []
    for number in range(PHOTOS):
        width, height = draw.choice([(1024, 768), (1280, 853), (800, 1200), (1600, 1067)])
        photo = sources[number % len(sources)].rotate(draw.uniform(-4, 4)).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number:03}.jpg")
        photo.save(paths[-1], quality=90)
    return paths


def photo_peers(paths, threads):
    """Decoding, the middle square, 512 px by a filter that antialiases."""
    def pillow(path):
        photo = Image.open(path).convert("RGB")
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        return np.asarray(photo.resize((512, 512), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)))

    def vision(path):
        photo = torchvision.io.decode_jpeg(torchvision.io.read_file(str(path)))
        photo = tv.center_crop(photo, min(photo.shape[1:]))
        return tv.resize(photo, [512, 512], interpolation=tv.InterpolationMode.BICUBIC, antialias=True)

    rows = []
    for name, work in [(f"Pillow {Image.__version__}, Lanczos", pillow), (f"torchvision {torchvision.__version__}, bicubic", vision)]:
        with multiprocessing.pool.ThreadPool(threads) as pool:
            rows.append(("photos to 512 px", name, best(lambda: len(pool.map(work, paths)))))
    return rows


def read_rows(folder):
    rows = []
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.read_table(path, columns=["image", *ARRAYS]).to_batches():
            rows += [{name: value.copy() if name in ARRAYS else value for name, value in row.items()} for row in rows_of(batch)]
    assert len(rows) == ROWS and rows[0]["latent_mean"].shape == (16384,)
    return rows


def rows_of(batch):
    arrays = {name: batch[name].values.to_numpy().reshape(len(batch), -1) for name in ARRAYS}
    images = batch["image"].field("bytes")
    return ({"image": images[n].as_py(), **{name: array[n] for name, array in arrays.items()}} for n in range(len(batch)))


def reading_peers(folder, rows):
    """Every row once in batches of 16, as they go to a device: one array a column. The files are in the page cache."""
    peers = [pyarrow_peer(folder), webdataset_peer(folder, rows), litdata_peer(folder, rows), streaming_peer(folder, rows)]
    return [("rows in batches", name, best(lambda: epoch(read))) for name, read in peers]


def epoch(read):
    count, batch = 0, []
    for row in read():
        batch.append(row)
        if len(batch) == BATCH:
            arrays = [np.stack([row[name] for row in batch]) for name in ARRAYS]
            images = [row["image"] for row in batch]
            count += len(images)
            assert arrays[0].shape == (BATCH, 16384) and arrays[0].dtype == np.float16
            batch = []
    assert count == ROWS
    return count


def pyarrow_peer(folder):
    import pyarrow

    def read():
        for path in sorted((folder / "shards").glob("*.parquet")):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                yield from rows_of(file.read_row_group(group).combine_chunks().to_batches()[0])

    return f"pyarrow {pyarrow.__version__}, same files", read


def webdataset_peer(folder, rows):
    import webdataset

    path = folder / "rows.tar"
    with webdataset.TarWriter(str(path)) as sink:
        for n, row in enumerate(rows):
            arrays = {f"{name}.npy": row[name] for name in ARRAYS}
            sink.write({"__key__": f"{n:06}", "jpg": row["image"], **arrays})

    def read():
        for row in webdataset.WebDataset(str(path), shardshuffle=False):
            yield {"image": row["jpg"], **{name: np.load(io.BytesIO(row[f"{name}.npy"])) for name in ARRAYS}}

    return f"webdataset {webdataset.__version__}", read


def litdata_peer(folder, rows):
    import litdata
    from litdata.streaming.writer import BinaryWriter

    place = folder / "litdata"
    place.mkdir()
    writer = BinaryWriter(str(place), chunk_bytes="64MB")
    for n, row in enumerate(rows):
        writer.add_item(n, {"image": row["image"], **{name: torch.from_numpy(row[name]) for name in ARRAYS}})
    writer.done()
    writer.merge()

    def read():
        for row in litdata.StreamingDataset(str(place)):
            yield {"image": row["image"], **{name: row[name].numpy() for name in ARRAYS}}

    return f"litdata {litdata.__version__}", read


def streaming_peer(folder, rows):
    import streaming

    place = folder / "mds"
    columns = {"image": "bytes", **{name: "ndarray:float16" for name in ARRAYS}}
    with streaming.MDSWriter(out=str(place), columns=columns) as sink:
        for row in rows:
            sink.write(row)

    def read():
        streaming.base.util.clean_stale_shared_memory()
        yield from streaming.StreamingDataset(local=str(place), batch_size=BATCH, shuffle=False)

    return f"mosaicml-streaming {streaming.__version__}", read


@contextlib.contextmanager
def s3(folder):
    """A bucket with both sides' files, on a server of this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "S3_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true",
    }
    client = boto3.client("s3")
    client.create_bucket(Bucket="bench")
    for place in ("shards", "mds"):
        for path in filter(pathlib.Path.is_file, (folder / place).iterdir()):
            client.upload_file(str(path), "bench", f"{place}/{path.name}")
    yield "s3://bench"
    server.stop()


def streaming_from(url, local):
    import streaming

    def read():
        streaming.base.util.clean_stale_shared_memory()
        shutil.rmtree(local, ignore_errors=True)
        yield from streaming.StreamingDataset(remote=url, local=str(local), batch_size=BATCH, shuffle=False)

    return f"mosaicml-streaming {streaming.__version__}", best(lambda: epoch(read))


def best(work):
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        count = work()
        rates.append(count / (time.perf_counter() - started))
    return max(rates)


if __name__ == "__main__":
    main()
