"""The compiled library: damaged or open to others it is compiled anew, and never loaded."""

import os
import shutil

import pytest

from snt_core.fast import kernels

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def give_away(path):
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, 65534)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": cut,
    "one bit": flip,
    "a stranger's": give_away,
    "writable by all": lambda path: path.chmod(0o666),
    "in a folder that others can write": lambda path: path.parent.chmod(0o777),
    "a link": lambda path: (shutil.copy(path, path.with_name("x")), path.unlink(),
                            path.symlink_to(path.with_name("x"))),
    "without its digest": lambda path: kernels._digest_file(path).unlink(),
}  # fmt: skip


@needs_compiler
def test_what_cannot_be_trusted_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "SOURCES", [p for p in kernels.SOURCES if p.stem == "quantize"])
    kernels._library.cache_clear()
    kernels._library()
    (path,) = (tmp_path / "native").glob("*.so")
    try:
        for name, damage in DAMAGES.items():
            before = path.read_bytes()
            damage(path)
            assert not kernels._is_whole(path), name
            kernels._library.cache_clear()
            kernels._library()
            assert kernels._is_whole(path), name
            assert path.read_bytes() == before, name
        stamp = path.stat().st_mtime_ns
        kernels._library.cache_clear()
        kernels._library()
        assert path.stat().st_mtime_ns == stamp  # whole: nothing was compiled
    finally:
        kernels._library.cache_clear()


@needs_compiler
def test_a_cache_that_takes_no_files_costs_time_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "SOURCES", [p for p in kernels.SOURCES if p.stem == "quantize"])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels, "atomic_write", full)
    kernels._library.cache_clear()
    try:
        assert kernels._library()
    finally:
        kernels._library.cache_clear()
