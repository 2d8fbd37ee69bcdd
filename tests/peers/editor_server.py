"""A running `editor serve` for the checks of this folder: its address, its memory, a client with a session of its own."""
import contextlib
import http.client
import json
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EDITOR = ROOT / "target/release/editor"


class Client:
    """One session over HTTP: keeps the cookie that the server sets."""

    def __init__(self, at):
        self.at, self.cookie = at, None

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.at, timeout=300)
        try:
            headers = {"Cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
            if cookie := response.getheader("Set-Cookie"):
                self.cookie = cookie.split(";")[0]
            return response.status, content, response.headers
        finally:
            connection.close()

    def send(self, photo):
        """Sends a photo and waits until edits can start; returns its address, or None where the server is busy."""
        status, content, headers = self.ask("POST", "/api/photos", photo)
        if status in (429, 503):
            return None
        assert status == 201, (status, content)
        address = headers["Location"]
        while True:
            state = json.loads(self.ask("GET", address)[1])
            if state["state"] == "ready":
                return address
            assert state["state"] in ("waiting", "inverting"), state
            time.sleep(0.1)


@contextlib.contextmanager
def server(run, *arguments):
    """`editor serve` on a free port of 127.0.0.1, in an empty folder of its own."""
    with tempfile.TemporaryDirectory() as folder, open(pathlib.Path(folder) / "log", "w+") as log:
        work = pathlib.Path(folder) / "work"
        work.mkdir()
        command = [EDITOR, "serve", "--run", run, "--bind", "127.0.0.1:0", "--device", "cpu", "--offline", *arguments]
        process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = process.stdout.readline().strip()
            assert line.startswith("http://"), pathlib.Path(log.name).read_text()
            process.at = line.removeprefix("http://").rstrip("/")
            process.work, process.log = work, pathlib.Path(log.name)
            yield process
        finally:
            process.kill()
            process.wait()


def by_editor(run, photo, output, emotion, strength):
    """What `editor` writes to `output`, which is also returned."""
    command = [EDITOR, "--run", run, "--image", photo, "--emotion", emotion, f"--strength={strength}",
               "--output", output, "--overwrite", "--device", "cpu", "--offline"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return pathlib.Path(output).read_bytes()


def megabytes(process):
    """The resident memory of a process."""
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000
