#!/usr/bin/env python3
"""Lays libtorch 2.11.0 into .libtorch/ from pip's wheels, so that cargo can build and the binaries can run.

    python3 scripts/setup_libtorch.py           the CPU layout: 0.5 GB, no CUDA libraries but two small ones
    python3 scripts/setup_libtorch.py --cuda    the whole of PyTorch 2.11.0+cu130: 4.7 GB
    python3 scripts/setup_libtorch.py --use DIR one's own libtorch (the folder that holds lib/ and include/)

Downloads are checked against the sha256 pinned in libtorch-cpu.txt. A stamp lists every file laid down with its size:
a second run compares and ends; anything missing or cut short is laid anew. Needs Python 3.8 with pip and nothing else.
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "2.11.0"
ROOT = pathlib.Path(__file__).resolve().parent.parent
DEST = ROOT / ".libtorch"
STAMP = DEST / "stamp.json"
PINS = pathlib.Path(__file__).resolve().parent / "libtorch-cpu.txt"
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libtorch.so", "libgomp.so.1"}
CUDA_LIBRARIES = {"libcudart.so.13", "libcupti.so.13"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="lay the whole of PyTorch with CUDA")
    parser.add_argument("--use", metavar="DIR", help="link this libtorch instead of downloading one")
    args = parser.parse_args()
    if args.use and DEST in pathlib.Path(args.use).resolve().parents:
        print(f"{args.use}: this is what lies in {DEST.relative_to(ROOT)} already; it stays as it is")
        return
    layout = f"use:{os.path.abspath(args.use)}" if args.use else ("cuda" if args.cuda else "cpu")
    if complete(layout):
        return
    if args.use:
        files = link(pathlib.Path(args.use).resolve())
    elif args.cuda:
        files = install_cuda()
    else:
        files = install_cpu()
    STAMP.write_text(json.dumps({"layout": layout, "version": VERSION, "files": files}))
    print(f"libtorch {VERSION} ({layout}) is in {DEST.relative_to(ROOT)}")


def complete(layout):
    """Whether what the stamp lists is all there, in the layout asked for (the CUDA layout also serves the CPU)."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    if stamp.get("layout") != layout and not (layout == "cpu" and stamp.get("layout") == "cuda"):
        return False
    return stamp.get("version") == VERSION and all(size_of(DEST / name) == size for name, size in stamp["files"].items())


def size_of(path):
    try:
        return path.stat().st_size
    except OSError:
        return None


def link(own):
    """Points .libtorch/torch at the user's libtorch."""
    if not (own / "lib" / "libtorch_cpu.so").is_file() or not (own / "include").is_dir():
        sys.exit(f"{own}: no lib/libtorch_cpu.so and include/ in it; give the folder that holds both")
    fresh()
    (DEST / "torch").symlink_to(own, target_is_directory=True)
    return {"torch/lib/libtorch_cpu.so": size_of(own / "lib" / "libtorch_cpu.so")}


def install_cpu():
    """Downloads three wheels and unpacks what linking and running on a CPU need."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("the pinned wheels are for Linux on x86-64; elsewhere install libtorch 2.11 and give it with LIBTORCH=DIR")
    fresh()
    with tempfile.TemporaryDirectory(dir=DEST) as folder:
        print("downloading libtorch (544 MB)", flush=True)
        pip("download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation", "cp",
            "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_25_x86_64",
            "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64", "-d", folder, "-r", str(PINS))
        for wheel in pathlib.Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(DEST, [name for name in archive.namelist() if wanted(name)])
    return finish()


def wanted(name):
    path = pathlib.PurePosixPath(name)
    return not name.endswith("/") and (
        (name.startswith("torch/lib/") and len(path.parts) == 3 and path.name in LIBRARIES)
        or name.startswith("torch/include/")
        or name == "torch/version.py"
        or (name.startswith("nvidia/cu13/lib/") and path.name in CUDA_LIBRARIES)
    )


def install_cuda():
    """Installs the whole wheel with its CUDA libraries side by side, as their relative RPATHs want them."""
    fresh()
    print("downloading PyTorch with CUDA (2.7 GB)", flush=True)
    pip("install", "--target", str(DEST), f"torch=={VERSION}")
    return finish()


def finish():
    """Writes the version that torch-sys checks and returns every file with its size."""
    version = {}
    exec((DEST / "torch/version.py").read_text(), version)
    (DEST / "torch/build-version").write_text(version["__version__"] + "\n")
    return {str(p.relative_to(DEST)): p.stat().st_size for p in DEST.rglob("*") if p.is_file() and ".whl" not in p.name}


def fresh():
    shutil.rmtree(DEST, ignore_errors=True)
    DEST.mkdir(parents=True)


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments])
    if done.returncode:
        sys.exit("pip could not get libtorch (see above); check the network and run `make setup` again")


if __name__ == "__main__":
    main()
