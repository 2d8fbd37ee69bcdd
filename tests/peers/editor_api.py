"""schemathesis sends `editor serve` whatever its OpenAPI description allows, and what it does not: no answer may be 5xx
other than a clear "busy", and every answer is as described.

    python tests/peers/editor_api.py RUN

Needs schemathesis in .venv/schemathesis (`make test-peers` makes it; requirements-schemathesis.txt pins it); skipped without.
"""
import pathlib
import subprocess
import sys
import tempfile

from editor_server import ROOT, server

TOOL = ROOT / ".venv/schemathesis/bin/schemathesis"
SKIPPED = 77
# 401, 405 and the like are described for the interface as a whole; a busy server is no fault of it.
SETTINGS = """
[checks]
not_a_server_error = { expected-statuses = ["2xx", "3xx", "4xx", "503"] }
"""


def main():
    if not TOOL.exists():
        print("skipped: no schemathesis in .venv/schemathesis (make test-peers makes it)")
        sys.exit(SKIPPED)
    run = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder, server(run, "--max-queue", "4") as editor:
        settings = pathlib.Path(folder) / "schemathesis.toml"
        settings.write_text(SETTINGS)
        command = [TOOL, "--config-file", settings, "run", f"http://{editor.at}/openapi.json",
                   "--checks", "not_a_server_error,content_type_conformance,response_schema_conformance",
                   "--max-examples", "60", "--seed", "1", "--no-color"]  # fmt: skip
        code = subprocess.run(command, cwd=folder).returncode
        assert "panicked" not in editor.log.read_text(), "a thread of the server panicked"
    sys.exit(code)


if __name__ == "__main__":
    main()
