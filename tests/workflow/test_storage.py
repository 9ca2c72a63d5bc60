"""Results in a storage that speaks S3, on this machine."""

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request

import pytest

from .conftest import House

boto3 = pytest.importorskip("boto3", reason="requirements-dev.txt has the client of S3")
pytest.importorskip("moto", reason="requirements-dev.txt has the server of S3")

SECRET = "a secret of this test"
TARGET = "results/tiny/compare/Q2_K+topics/topics.json"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """The address of a server that has an empty bucket."""
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-u", "-m", "moto.server", "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield _address(server, log)
    finally:
        server.kill()
        server.wait()


def _address(server, log):
    """What it says where it listens, once it answers."""
    while server.poll() is None:
        words = log.read_text().split()
        found = [word for word in words if word.startswith("http://127.0.0.1:")]
        with contextlib.suppress(OSError):
            urllib.request.urlopen(found[0]).close() if found else None
            if found:
                return found[0]
        time.sleep(0.1)
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def bucket(endpoint):
    keys = {"aws_access_key_id": "me", "aws_secret_access_key": SECRET}
    storage = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    return storage.create_bucket(Bucket="results")


@pytest.fixture(scope="module")
def stored(finished, bucket, endpoint, tmp_path_factory):
    """The sweep once more, without a result on this disk, and what was said."""
    house = House(tmp_path_factory.mktemp("stored") / "house")
    shutil.copytree(
        finished.folder, house.folder, ignore=shutil.ignore_patterns("results", ".snakemake")
    )
    house.options = (
        *("--default-storage-provider", "s3", "--default-storage-prefix", "s3://results/sweep"),
        *("--storage-s3-endpoint-url", endpoint, "--storage-s3-region", "us-east-1"),
        *("--storage-s3-access-key", "me", "--storage-s3-secret-key", SECRET),
        *("--omit-from", "memory", "--", TARGET),
    )
    return house, house.snakemake(*house.options)


def test_a_sweep_ends_well_and_has_nothing_to_do_again(stored):
    house, result = stored
    assert result.returncode == 0, result.stderr
    again = house.snakemake("-n", *house.options)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_results_are_those_of_a_disk(stored, bucket, finished):
    found = {item.key: item.get()["Body"].read() for item in bucket.objects.all()}
    results = {key: data for key, data in found.items() if key.endswith((".gguf", ".h5", ".csv"))}
    assert len(results) > 5
    for key, data in results.items():
        assert data == (finished.folder / key.removeprefix("sweep/")).read_bytes(), key


def test_nothing_is_left_on_the_disk(stored):
    house, _ = stored
    left = [path for path in (house.folder / "results").rglob("*") if path.is_file()]
    assert all(path.name.startswith(".") for path in left), left  # what is remembered of files
