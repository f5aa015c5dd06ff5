"""Public files of data sets, fetched on request: whole or not at all, with their published checksums."""

import hashlib
import http.client
import urllib.request
from pathlib import Path
from typing import NamedTuple

from golden.dataset_files import IDX_NAMES, DatasetError, progress
from golden.npz import whole_file

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TIMEOUT = 30  # seconds without a byte


class Download(NamedTuple):
    """A file's public address, the name it gets in the data folder, and its published MD5 sum."""

    url: str
    name: str
    md5: str


def _idx_downloads(address: str, prefix: str, sums: tuple[str, ...]) -> tuple[Download, ...]:
    return tuple(Download(f"{address}{name}.gz", f"{prefix}{name}.gz", md5)
                 for name, md5 in zip(IDX_NAMES, sums, strict=True))


# In the order of IDX_NAMES: training images and labels, test images and labels. The sums guard against broken and wrong
# files; they are MD5 because that is what was published.
DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "mnist": _idx_downloads(_MNIST, "mnist-", (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c")),
    "fashion-mnist": _idx_downloads(_FASHION, "fashion-mnist-", (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310")),
    "cifar10": (Download("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "cifar-10-binary.tar.gz",
                         "c32a1d4ab5d03f1284b67883e8d87530"),),
}  # fmt: skip


def fetch(name: str, folder: Path) -> None:
    """Fetch into ``folder`` (created) those of the data set's :data:`DOWNLOADS` that are not there.

    A file takes its name when its checksum is right. Raises :class:`DatasetError` when there is no public address, the
    address cannot be reached, the file cannot be written, or its checksum differs.
    """
    if name not in DOWNLOADS:
        raise DatasetError(f"{name}: expected its files in {folder}, there is no public address to download them from")
    for download in DOWNLOADS[name]:
        if (folder / download.name).is_file():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / download.name) as partial:
                _fetch_file(download, partial)
        except (OSError, http.client.HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
            raise DatasetError(f"{name}: could not fetch {download.url} ({reason}); connect to the network, or put the "
                               f"file as {download.name} into {folder}") from None


def _fetch_file(download: Download, path: Path) -> None:
    state = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(download.url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
        size = int(response.headers.get("Content-Length") or 0) or None
        with progress(None, f"fetching {download.name}", total=size, unit="bytes") as bar:
            while block := response.read(1 << 18):
                state.update(block)
                file.write(block)
                bar.update(len(block))
    if state.hexdigest() != download.md5:
        raise DatasetError(f"{download.url}: expected a file of MD5 {download.md5}, got {state.hexdigest()} "
                           f"({path.stat().st_size} bytes); try again later")


def published_as(path: Path) -> str | None:
    """The name of the data set of which ``path`` is, byte for byte, a published file; None for any other file."""
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return next((name for name, files in DOWNLOADS.items() if any(md5 == download.md5 for download in files)), None)
