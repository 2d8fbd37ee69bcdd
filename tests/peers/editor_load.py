"""Twenty sessions at once on `editor serve`: every answer right or a clear "busy", memory bounded, nobody sees another's photo.

    python tests/peers/editor_load.py RUN [SECONDS]          (20; the long drill is 300)

Each session sends a photo of its own, asks for edits at random strengths, swaps ids with another session, hangs up now and
then, and forgets its photo. An edit is right if it is `editor`'s own file. In the end the server is killed (kill -9) and
started again: nothing of the photos is left. Prints what was answered, how fast, and the largest memory.
"""
import collections
import concurrent.futures
import json
import pathlib
import random
import socket
import sys
import tempfile
import threading
import time

from editor_server import Client, by_editor, megabytes, server
from PIL import Image

SESSIONS = 20
STRENGTHS = (-0.5, 0.5, 1.0)
MOST_MEGABYTES = 1500  # the embedded model, libtorch, and the photos of 20 sessions


def main():
    run = pathlib.Path(sys.argv[1]).resolve()
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    counts, times = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        emotion = first_emotion(run)
        truth = [known_photo(run, emotion, pathlib.Path(folder), which) for which in range(4)]
        with server(run, "--max-queue", "16") as editor:
            memory = watch_memory(editor)
            drill = Drill(editor.at, emotion, truth, time.monotonic() + seconds, counts, times)
            with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
                for session in [pool.submit(drill.session, seed) for seed in range(SESSIONS)]:
                    session.result()
            log = editor.log.read_text()
            assert "panicked" not in log and "ERROR" not in log, log[-2000:]
            address = drill.held()
            editor.kill()
            editor.wait()
            assert not list(editor.work.iterdir()), "files were left behind"
        with server(run) as again:
            assert Client(again.at).ask("GET", address)[0] == 404, "a photo outlived its server"
    times.sort()
    middle, late = (times[int(len(times) * part)] for part in (0.5, 0.95))
    print(f"{seconds:.0f} s, {SESSIONS} sessions: {dict(counts)}; an edit took {middle:.2f} s (median), {late:.2f} s (95 %); "
          f"at most {memory():.0f} MB")  # fmt: skip
    assert counts["right"] and memory() < MOST_MEGABYTES, "memory" if counts["right"] else "no edit"


def first_emotion(run):
    return json.loads((run / "edit_config.json").read_text())["emotions"][0]


def known_photo(run, emotion, folder, which):
    """A photo's bytes, and `editor`'s own file at every strength."""
    noise = Image.effect_noise((120 + 40 * which, 160), 60).convert("RGB")
    path = folder / f"{which}.png"
    noise.save(path)
    edits = {strength: by_editor(run, path, folder / "out.png", emotion, strength) for strength in STRENGTHS}
    return path.read_bytes(), edits


def watch_memory(editor):
    most = [0.0]

    def watch():
        while editor.poll() is None:
            try:
                most[0] = max(most[0], megabytes(editor))
            except (OSError, StopIteration):
                return
            time.sleep(0.2)

    threading.Thread(target=watch, daemon=True).start()
    return lambda: most[0]


class Drill:
    def __init__(self, at, emotion, truth, until, counts, times):
        self.at, self.emotion, self.truth, self.until = at, emotion, truth, until
        self.counts, self.times, self.lock, self.addresses = counts, times, threading.Lock(), {}

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def session(self, seed):
        draw = random.Random(seed)
        client, address = Client(self.at), None
        photo, edits = self.truth[seed % len(self.truth)]
        while time.monotonic() < self.until:
            if address is None:
                address = client.send(photo)
                self.count("busy" if address is None else "sent")
                if address is None:
                    time.sleep(draw.uniform(0.2, 1))
                    continue
                with self.lock:
                    self.addresses[seed] = address
            strength = draw.choice(STRENGTHS)
            path = f"{address}/edit?emotions={self.emotion}&strength={strength}"
            chance = draw.random()
            if chance < 0.1:
                self.hang_up(client, path)
            elif chance < 0.2:
                self.swap(client, seed)
            elif chance < 0.25:
                assert client.ask("DELETE", address)[0] == 204
                address = None
            else:
                self.edit(client, path, edits[strength], draw)

    def edit(self, client, path, expected, draw):
        begun = time.monotonic()
        status, content, headers = client.ask("GET", path)
        if status == 200:
            assert content == expected, f"{path}: another picture than editor's own"
            with self.lock:
                self.times.append(time.monotonic() - begun)
            return self.count("right")
        assert status in (429, 503) and int(headers["Retry-After"]) > 0 and b"busy" in content, (status, content)
        self.count("busy")
        time.sleep(draw.uniform(0.1, 0.5))

    def hang_up(self, client, path):
        host, port = self.at.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.at}\r\nCookie: {client.cookie}\r\n\r\n".encode())
            time.sleep(0.02)
        self.count("hung up")

    def swap(self, client, seed):
        with self.lock:
            others = [address for other, address in self.addresses.items() if other != seed]
        if others:
            status, content, _ = client.ask("GET", f"{random.choice(others)}/original")
            assert status == 404 and b"no such photo" in content, (status, content)
            self.count("kept apart")

    def held(self):
        """The address of a photo that is there when the server is killed."""
        client = Client(self.at)
        address = client.send(self.truth[0][0])
        assert address and client.ask("GET", f"{address}/original")[0] == 200
        return address


if __name__ == "__main__":
    main()
