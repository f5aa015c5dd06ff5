"""Decoded data sets on disk: once, whole or not at all, one process at a time; and downloads on request."""

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from golden import dataset_cache, dataset_download, datasets
from golden.dataset_download import DOWNLOADS, Download
from golden.dataset_files import IDX_NAMES
from golden.datasets import load
from tests.image_files import CIFAR, MNIST, check_split, idx_bytes, refused, write_cifar, write_mnist

pytestmark = pytest.mark.usefixtures("own_cache")


# The cache

def count_reads(monkeypatch, name="read_idx", before=lambda: None):
    """A list that grows with every call of this reader."""
    calls, reader = [], getattr(datasets, name)

    def counted(*arguments):
        calls.append(arguments)
        before()
        return reader(*arguments)

    monkeypatch.setattr(datasets, name, counted)
    return calls


def test_each_content_is_decoded_once_wherever_it_lies(folder, tmp_path, monkeypatch):
    calls = count_reads(monkeypatch)
    write_mnist(folder)
    load("mnist", folder)
    load("mnist", str(folder))
    shutil.copytree(folder, tmp_path / "copy")
    check_split(load("mnist", tmp_path / "copy").train, MNIST[0][0][:, None], MNIST[0][1])
    assert len(calls) == 1
    load("fashion-mnist", folder)
    assert len(calls) == 2


def test_changed_file_is_decoded_anew_though_size_and_time_are_equal(folder):
    write_mnist(folder, suffix="")
    load("mnist", folder)
    path = folder / IDX_NAMES[0]
    before = path.stat()
    path.write_bytes(idx_bytes(255 - MNIST[0][0]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_split(load("mnist", folder).train, 255 - MNIST[0][0][:, None], MNIST[0][1])


def test_interrupted_decoding_leaves_nothing(folder, own_cache, monkeypatch):
    write_mnist(folder)
    with monkeypatch.context() as patch:
        patch.setattr(np, "square", functools.partial(raise_, KeyboardInterrupt))  # in the midst of the training images
        with pytest.raises(KeyboardInterrupt):
            load("mnist", folder)
    assert [item.suffix for item in own_cache.iterdir()] == [".lock"]
    check_split(load("mnist", folder).test, MNIST[1][0][:, None], MNIST[1][1])


def raise_(error, *_, **__):
    raise error


def test_what_a_killed_process_left_is_cleared(folder, own_cache):
    write_mnist(folder)
    load("mnist", folder)
    (whole,) = (item for item in own_cache.iterdir() if item.is_dir())
    left = own_cache / f".{whole.name}.partial"
    whole.rename(left)
    load("mnist", folder)
    assert whole.is_dir() and not left.exists()


@pytest.mark.parametrize("name, content", [
    ("train-images.npy", lambda old: old[:-1]), ("test-labels.npy", lambda old: b""),
    ("train-labels.npy", lambda old: old.replace(b"<i8", b"<u8")), ("dataset.json", lambda old: old[:20]),
    ("dataset.json", lambda old: b"[]"), ("dataset.json", lambda old: old.replace(b'"test": 30', b'"test": 31')),
])  # fmt: skip
def test_damaged_cache_is_written_anew(folder, own_cache, name, content, monkeypatch):
    write_mnist(folder)
    load("mnist", folder)
    (whole,) = (item for item in own_cache.iterdir() if item.is_dir())
    old = (whole / name).read_bytes()
    (whole / name).write_bytes(content(old))
    calls = count_reads(monkeypatch)
    check_split(load("mnist", folder).train, MNIST[0][0][:, None], MNIST[0][1])
    assert len(calls) == 1 and (whole / name).read_bytes() == old


def test_full_disk_and_unusable_cache_are_one_line(folder, tmp_path, monkeypatch):
    write_mnist(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", functools.partial(raise_, OSError(28, "No space left on device")))
        expected = f"mnist: expected to write its decoded images to {tmp_path}/cache/datasets (No space left on device)"
        assert refused("mnist", folder) == f"{expected}; WINNOW_CACHE can name another folder"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "file"))
    assert "WINNOW_CACHE can name another folder" in refused("mnist", folder)


def test_cache_directory_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dataset_cache.cache_directory() == tmp_path / "cache"  # WINNOW_CACHE
    monkeypatch.delenv("WINNOW_CACHE")
    assert dataset_cache.cache_directory() == tmp_path / "winnow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset_cache.cache_directory() == tmp_path / ".cache" / "winnow"


PROCESS = """
import sys, time
from pathlib import Path
from golden import datasets
folder, log = Path(sys.argv[1]), Path(sys.argv[2])
reader = datasets.read_idx
def slow(*arguments):
    with log.open("a") as file:
        file.write("decoding\\n")
    time.sleep(0.5)
    return reader(*arguments)
datasets.read_idx = slow
Path(sys.argv[3]).touch()
while len(list(log.parent.glob("ready-*"))) < 2:
    time.sleep(0.01)
dataset = datasets.load("mnist", folder)
print(int(dataset.train.images.sum(dtype="int64")), int(dataset.test.labels.sum()))
"""


def test_two_processes_at_once_decode_once(folder, tmp_path):
    write_mnist(folder)
    commands = [[sys.executable, "-c", PROCESS, folder, tmp_path / "log", tmp_path / f"ready-{k}"] for k in range(2)]
    root = Path(datasets.__file__).parents[1]
    processes = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert outputs == [f"{MNIST[0][0].sum()} {MNIST[1][1].sum()}\n"] * 2
    assert (tmp_path / "log").read_text() == "decoding\n"


# Downloads

@pytest.fixture
def server(tmp_path):
    """An HTTP server of the folder ``public``: its folder, address, and the paths that were asked for."""
    public, asked = tmp_path / "public", []
    public.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=public)

        def do_GET(self):
            asked.append(self.path.lstrip("/"))
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield public, f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


@pytest.fixture
def published(server, monkeypatch):
    """MNIST and CIFAR-10 on the server, with their right checksums."""
    public, address, asked = server
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    write_mnist(public)
    write_cifar(public, "archive")
    for name, prefix in (("mnist", "mnist-"), ("cifar10", "")):
        names = [f"{file}.gz" for file in IDX_NAMES] if prefix else ["cifar-10-binary.tar.gz"]
        files = [Download(f"{address}{file}", f"{prefix}{file}", hashlib.md5((public / file).read_bytes()).hexdigest())
                 for file in names]
        monkeypatch.setitem(DOWNLOADS, name, tuple(files))
    return public, asked


def test_files_are_fetched_on_request_only_and_once(folder, published):
    _, asked = published
    target = folder / "new" / "place"
    assert "or ask for its download" in refused("mnist", target) and "download" in refused("cifar10", target)
    assert not asked and not target.exists()
    check_split(load("mnist", target, download=True).train, MNIST[0][0][:, None], MNIST[0][1])
    assert asked == [f"{name}.gz" for name in IDX_NAMES]
    assert sorted(path.name for path in target.iterdir()) == sorted(f"mnist-{name}.gz" for name in IDX_NAMES)
    (target / f"mnist-{IDX_NAMES[2]}.gz").unlink()
    load("mnist", target, download=True)
    assert asked[4:] == [f"{IDX_NAMES[2]}.gz"]
    check_split(load("cifar10", target, download=True).test, *CIFAR[1])
    load("cifar10", target, download=True)
    assert asked[5:] == ["cifar-10-binary.tar.gz"]


def test_file_of_another_checksum_is_not_kept(folder, published):
    public, _ = published
    path = public / f"{IDX_NAMES[1]}.gz"
    right = hashlib.md5(path.read_bytes()).hexdigest()
    content = path.read_bytes()[:-1]
    path.write_bytes(content)
    message = refused("mnist", folder, download=True)
    assert f"expected a file of MD5 {right}, got {hashlib.md5(content).hexdigest()} ({len(content)} bytes)" in message
    assert [file.name for file in folder.iterdir()] == [f"mnist-{IDX_NAMES[0]}.gz"]  # the one before it


def test_broken_connection_leaves_nothing(folder, published, monkeypatch):
    def send_half(self, source, target):
        target.write(source.read()[:5000])

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", send_half)
    message = refused("cifar10", folder, download=True)
    assert "expected a file of MD5" in message and "(5000 bytes)" in message
    assert list(folder.iterdir()) == []


def test_failed_download_names_cause_and_mend(folder, published, monkeypatch):
    public, _ = published
    (public / "cifar-10-binary.tar.gz").unlink()
    url = DOWNLOADS["cifar10"][0].url
    mend = f"connect to the network, or put the file as cifar-10-binary.tar.gz into {folder}"
    message = f"cifar10: could not fetch {url} ({{}}); {mend}"
    assert refused("cifar10", folder, download=True) in {message.format("Not Found"), message.format("File not found")}
    file = Download("http://127.0.0.1:9/file", "cifar-10-binary.tar.gz", "")
    monkeypatch.setitem(DOWNLOADS, "cifar10", (file,))
    refusal = refused("cifar10", folder, download=True)
    assert refusal.startswith("cifar10: could not fetch http://127.0.0.1:9/file (") and "refused" in refusal
    assert mend in refusal and list(folder.iterdir()) == []


def test_server_that_says_nothing_is_given_up(folder, published, monkeypatch):
    monkeypatch.setattr(dataset_download, "_TIMEOUT", 0.2)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "send_head", lambda self: time.sleep(1))
    assert "timed out" in refused("cifar10", folder, download=True)


def test_gtsrb_has_no_public_address(folder):
    assert refused("gtsrb", folder, download=True) == (
        f"gtsrb: expected its files in {folder}, there is no public address to download them from")


def test_published_addresses_and_checksums():
    """MD5 sums as torchvision has them for MNIST and Fashion-MNIST, and as CIFAR-10's page has them."""
    found = {file.url: (file.name, file.md5) for files in DOWNLOADS.values() for file in files}
    mnist = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    fashion = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    sums = {
        (mnist, "mnist-", "train-images-idx3-ubyte.gz"): "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        (mnist, "mnist-", "train-labels-idx1-ubyte.gz"): "d53e105ee54ea40749a09fcbcd1e9432",
        (mnist, "mnist-", "t10k-images-idx3-ubyte.gz"): "9fb629c4189551a2d022fa330f9573f3",
        (mnist, "mnist-", "t10k-labels-idx1-ubyte.gz"): "ec29112dd5afa0611ce80d1b7f02629c",
        (fashion, "fashion-mnist-", "train-images-idx3-ubyte.gz"): "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        (fashion, "fashion-mnist-", "train-labels-idx1-ubyte.gz"): "25c81989df183df01b3e8a0aad5dffbe",
        (fashion, "fashion-mnist-", "t10k-images-idx3-ubyte.gz"): "bef4ecab320f06d8554ea6380940ec79",
        (fashion, "fashion-mnist-", "t10k-labels-idx1-ubyte.gz"): "bb300cfdad3c16e7a12a480ee83cd310",
        ("https://www.cs.toronto.edu/~kriz/", "", "cifar-10-binary.tar.gz"): "c32a1d4ab5d03f1284b67883e8d87530",
    }
    assert found == {f"{address}{name}": (f"{prefix}{name}", md5) for (address, prefix, name), md5 in sums.items()}
