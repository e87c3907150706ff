"""A missing or broken build is one import error that names the command which mends it."""

import subprocess
import sys

HIDE = """
import importlib, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "fastdet._ops":
            raise ImportError("{reason}")
sys.meta_path.insert(0, Hide())
import fastdet.ops
"""


def test_a_missing_build_names_the_command() -> None:
    script = HIDE.format(reason="No module named 'fastdet._ops'")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: fastdet's native ops do not load (No module named 'fastdet._ops')")
    assert "`pip install --no-build-isolation -e .`" in last
    assert "python -m fastdet.doctor" in last
