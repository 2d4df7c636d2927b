"""The extension `_inbox` under ASan and UBSan: the tests of the inbox once more."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "hybrid_layer/_inbox"

PROGRAM = """
import importlib.util, sys
import pytest
spec = importlib.util.spec_from_file_location("hybrid_layer._inbox", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["hybrid_layer._inbox"] = module
spec.loader.exec_module(module)
import hybrid_layer
hybrid_layer._inbox = module
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""


@pytest.mark.thorough
def test_under_sanitizers(tmp_path: Path) -> None:
    extension = tmp_path / "_inbox.abi3.so"
    flags = ["-std=c11", "-shared", "-fPIC", "-DPy_LIMITED_API=0x030B0000"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1"]
    subprocess.run(
        ["cc", *flags, f"-I{sysconfig.get_path('include')}", "-o", extension, *SOURCES.glob("*.c")],
        check=True,
    )
    libraries = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    tests = ["tests/unit/test_inbox.py", "tests/unit/test_waiters.py", "-k", "extension and not threads"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, extension, *tests],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
