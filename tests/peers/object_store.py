"""Reads shards from a real S3 implementation that runs here (moto's server), and compares with the disk.

    python tests/peers/object_store.py data/pocket     (from the repository's root, after `make data`)

`dataloader verify` and `inspect` must say of s3://… what they say of the folder, and the trainer's dry run must accept it;
a second reading comes from the cache and asks for the manifest alone. Pinned versions: requirements.txt.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import boto3
from moto.server import ThreadedMotoServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUCKET = "affect"


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test",
                          aws_secret_access_key="test")  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    for path in filter(pathlib.Path.is_file, folder.iterdir()):
        client.upload_file(str(path), BUCKET, f"sets/pocket/{path.name}")
    env = {**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    url = f"s3://{BUCKET}/sets/pocket"
    with tempfile.TemporaryDirectory() as place:
        near, near_s = dataloader("verify", folder, env, place)
        far, far_s = dataloader("verify", url, env, place)
        again, again_s = dataloader("verify", url, env, place)
        assert near == far == again, (near, far)
        kept = list((pathlib.Path(place) / "runs/cache/shards").iterdir())
        shards = sorted(folder.glob("*.parquet"))
        assert sorted(p.stat().st_size for p in kept) == sorted(p.stat().st_size for p in shards), kept
        described = [dataloader("inspect", where, env, place)[0].split("\n", 1)[1] for where in (folder, url)]
        assert described[0] == described[1]
        missing = subprocess.run([program("dataloader"), "inspect", f"s3://{BUCKET}/none"], env=env, cwd=place,
                                 capture_output=True, text=True)  # fmt: skip
        assert missing.returncode == 2 and "not a data set" in missing.stderr, missing.stderr
        dry_run(url, env, place)
    server.stop()
    megabytes = sum(p.stat().st_size for p in shards) / 1e6
    print(f"S3: {megabytes:.1f} MB verified in {far_s:.2f} s, from the cache in {again_s:.2f} s, from disk in {near_s:.2f} s")


def program(name):
    return str(ROOT / "target/release" / name)


def dataloader(command, where, env, place):
    started = time.monotonic()
    done = subprocess.run([program("dataloader"), command, str(where)], env=env, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - started


def dry_run(url, env, place):
    sets = [f"data.emotion_images.shards={url}", f"data.sources.shards={url}", f"store.cache.folder={place}/cache"]
    command = [program("trainer"), "--config", "configs/pocket/sadness.yaml", "--dry-run"]
    command += [part for pair in sets for part in ("--set", pair)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "everything is in place" in done.stdout, done.stdout


if __name__ == "__main__":
    main()
