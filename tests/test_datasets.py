"""Every input: downloads in the real formats from a server on this machine, the hub, and what is broken in data."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import signal
import socket
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import finish
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST

from greenml import cli
from greenml import config as configs
from greenml.errors import DataError, UsageError
from greenml.learn import data, decode, fetch
from greenml.learn.setup import prepare
from greenml.records import Notice, Progress

NOWHERE = "http://127.0.0.1:9/"
"""The port of `discard`, where nobody listens: the connection is refused."""


@pytest.fixture(autouse=True)
def _places_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GREENML_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "url", f"{NOWHERE}{kind.filename}")
    for kind in (MNIST, FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [NOWHERE])


class Server:
    """What it serves, by path: bytes, a status, or a function that answers a request; and what it was asked."""

    def __init__(self, url):
        self.url, self.files, self.asked = url, {}, []


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            served.asked.append(path)
            answer = served.files.get(path, 404)
            if callable(answer):
                answer(self)
            elif isinstance(answer, int):
                self.send_error(answer)
            else:
                send(self, answer)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Server(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield served
    listening.shutdown()
    listening.server_close()
    thread.join()


def send(request, body, *, num_bytes=None, **headers):
    """`num_bytes`: the length that is promised, where it is not what is sent."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(body) if num_bytes is None else num_bytes))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def load(dataset, image_size=None, data_dir=None):
    said, (name, images) = finish(data.load(dataset, image_size, data_dir))
    return said, name, images


def notices(said):
    return [word.text for word in said if isinstance(word, Notice)]


# -- archives, as they are published --


def md5(content):
    return hashlib.md5(content).hexdigest()


def tar_gz(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def cifar_batch(num, seed, **labels):
    rows = np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)
    return pickle.dumps({"data": rows, **{key: [i % many for i in range(num)] for key, many in labels.items()}})


@pytest.fixture
def cifar10(server, monkeypatch):
    """100 training and 20 test images in CIFAR-10's own format, served."""
    batches = {f"data_batch_{n}": cifar_batch(20, n, labels=10) for n in range(1, 6)}
    batches["test_batch"] = cifar_batch(20, 6, labels=10)
    names = [f"class {n}" for n in range(10)]
    _publish_cifar(server, monkeypatch, CIFAR10, batches, pickle.dumps({"label_names": names}))
    return server


@pytest.fixture
def cifar100(server, monkeypatch):
    files = {"train": cifar_batch(200, 0, fine_labels=100, coarse_labels=20)}
    files["test"] = cifar_batch(100, 1, fine_labels=100, coarse_labels=20)
    meta = {"fine_label_names": [f"fine {n}" for n in range(100)], "coarse_label_names": ["coarse"] * 20}
    _publish_cifar(server, monkeypatch, CIFAR100, files, pickle.dumps(meta))
    return server


def _publish_cifar(server, monkeypatch, kind, files, meta):
    sums = [[name, md5(content)] for name, content in files.items()]
    archive = tar_gz({f"{kind.base_folder}/{name}": c for name, c in {**files, kind.meta["filename"]: meta}.items()})
    monkeypatch.setattr(kind, "train_list", sums[:-1])
    monkeypatch.setattr(kind, "test_list", sums[-1:])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    monkeypatch.setattr(kind, "url", f"{server.url}/{kind.filename}")
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    server.files[f"/{kind.filename}"] = archive


def idx(array):
    """An array in the format of MNIST: the type, the shape, the bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(side).to_bytes(4, "big") for side in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def publish_mnist(server, monkeypatch, kind, mirrors):
    """100 training and 20 test images, on the last of `mirrors`."""
    random = np.random.default_rng(0)
    resources = []
    for part, num in (("train", 100), ("t10k", 20)):
        contents = {
            f"{part}-images-idx3-ubyte.gz": idx(random.integers(0, 256, (num, 28, 28))),
            f"{part}-labels-idx1-ubyte.gz": idx(np.arange(num) % 10),
        }
        for name, content in contents.items():
            server.files[f"/last/{name}"] = content
            resources.append((name, md5(content)))
    monkeypatch.setattr(kind, "resources", resources)
    monkeypatch.setattr(kind, "mirrors", mirrors)


# -- downloads that go well --


def test_cifar10_is_downloaded_once(cifar10, tmp_path):
    said, name, first = load("cifar10")
    assert notices(said) == [
        "downloading cifar-10-python.tar.gz (0.4 MB) from 127.0.0.1",
        f"cifar10 is in {tmp_path / 'data'} from now on",
    ]
    steps = [word for word in said if isinstance(word, Progress) and word.what == "downloading cifar10"]
    assert steps[-1].done == steps[-1].total == len(cifar10.files["/cifar-10-python.tar.gz"])
    assert (name, first.images.shape, first.num_train) == ("cifar10", (120, 32, 32, 3), 100)
    assert (first.augment, first.classes[3], first.resize) == ("crop-flip", "class 3", "none: all are 32 px")
    left = {file.name for file in (tmp_path / "data").iterdir()}
    assert left - {"cifar-10-batches-py.lock"} == {"cifar-10-batches-py"}

    cifar10.asked.clear()
    said, _, second = load("cifar10")
    assert cifar10.asked == notices(said) == []
    assert second.data_hash == first.data_hash
    assert (second.images == first.images).all()


def test_the_pixels_are_torchvisions(cifar10, tmp_path):
    *_, found = load("cifar10")
    theirs = CIFAR10(tmp_path / "data", train=False)

    assert (found.images[100:] == theirs.data).all()
    assert found.labels[100:].tolist() == theirs.targets


def test_what_is_there_is_found_where_it_is_said_to_be(cifar10, tmp_path):
    """A folder that torchvision made, read-only: it is neither asked for nor written to."""
    CIFAR10(tmp_path / "mine", download=True)
    (tmp_path / "mine" / CIFAR10.filename).unlink()
    cifar10.asked.clear()
    (tmp_path / "mine").chmod(0o555)

    _, _, found = load("cifar10", data_dir=str(tmp_path / "mine"))

    assert len(found.labels) == 120
    assert cifar10.asked == []
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["cifar-10-batches-py"]


def test_cifar100_has_its_fine_labels(cifar100):
    *_, found = load("cifar100")

    assert (len(found.classes), found.classes[7], found.num_train) == (100, "fine 7", 200)
    assert found.labels[:150:49].tolist() == [0, 49, 98, 47]


@pytest.mark.parametrize(
    ("dataset", "kind", "augment"), [("mnist", MNIST, "crop"), ("fashion-mnist", FashionMNIST, "crop-flip")]
)
def test_grey_images_stay_grey_and_mirrors_take_turns(server, monkeypatch, tmp_path, dataset, kind, augment):
    server.files["/wrong/train-images-idx3-ubyte.gz"] = b"another file"
    publish_mnist(server, monkeypatch, kind, [NOWHERE, f"{server.url}/wrong/", f"{server.url}/last/"])

    _, _, found = load(dataset)

    assert (found.images.shape, found.num_train, found.augment) == ((120, 28, 28, 1), 100, augment)
    assert (found.images[:100, :, :, 0] == kind(tmp_path / "data").data.numpy()).all()
    assert sorted(file.suffix for file in (tmp_path / "data").rglob("*") if file.is_file()) == ["", "", "", "", ".lock"]
    *_, small = load(dataset, 14)
    assert (small.images.shape, small.data_hash) == ((120, 14, 14, 1), found.data_hash)
    assert small.resize == "shorter side to 14 px, bicubic, centre crop"


def test_two_at_once_download_once(cifar10):
    first = data.load("cifar10", None, None)
    while not isinstance(next(first), Progress):
        pass
    second = data.load("cifar10", None, None)
    [waiting] = notices([next(second)])
    assert "waiting for it" in waiting

    _, (_, one) = finish(first)
    said, (_, other) = finish(second)

    assert notices(said) == []  # it found what the first had brought
    assert other.data_hash == one.data_hash
    assert cifar10.asked == ["/cifar-10-python.tar.gz"]


# -- downloads that do not --


def cut_off(request):
    send(request, b"x" * 1000, num_bytes=5000)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, "HTTP 404"),
        (503, "HTTP 503"),
        (cut_off, "the connection broke off"),
        (b"another file", "another checksum"),
    ],
)
def test_a_download_that_fails_is_two_lines_and_leaves_nothing(cifar10, tmp_path, answer, message):
    whole = cifar10.files["/cifar-10-python.tar.gz"]
    cifar10.files["/cifar-10-python.tar.gz"] = answer

    with pytest.raises(DataError, match=message) as error:
        load("cifar10")

    assert "\n" not in f"{error.value}{error.value.hint}"
    assert all(way in error.value.hint for way in ("--data-dir", "parquet:PATH", "folder:PATH", "--dataset digits"))
    assert [file.suffix for file in (tmp_path / "data").iterdir()] in ([], [".lock"])
    cifar10.files["/cifar-10-python.tar.gz"] = whole
    assert len(load("cifar10")[2].labels) == 120


def test_a_refused_connection_is_said(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "cnn", "--dataset", "cifar10", "--dry-run"])

    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 5
    assert len(lines) == 2
    assert "127.0.0.1: Connection refused" in lines[0]


def test_a_mistyped_model_is_said_before_anything_is_downloaded(cifar10):
    with pytest.raises(UsageError, match="resnt18"):
        finish(prepare(configs.resolve({"model": "resnt18"}), torch.device("cpu")))

    assert cifar10.asked == []


def test_a_server_that_falls_silent_is_left(cifar10, monkeypatch):
    silent = threading.Event()

    def stall(request):
        send(request, b"x" * 1000, num_bytes=5000)
        silent.wait(20)

    monkeypatch.setattr(fetch, "SILENCE_S", 0.3)
    cifar10.files["/cifar-10-python.tar.gz"] = stall
    with pytest.raises(DataError, match="broke off"):
        load("cifar10")
    silent.set()


@pytest.fixture
def no_names(monkeypatch):
    """A machine whose resolver hangs."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) and [])
    yield
    over.set()


@pytest.mark.usefixtures("no_names")
def test_without_a_network_digits_stand_in_within_five_seconds(monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz")
    began = time.monotonic()
    steps = data.load("auto", None, None)
    said = next(word.text for word in steps if isinstance(word, Notice))

    assert time.monotonic() - began < fetch.GIVE_UP_S + 0.5
    assert "NOT on cifar10" in said
    assert "www.cs.toronto.edu: no answer" in said
    assert "--data-dir" in said
    name, found = finish(steps)[1]
    assert (name, found.images.shape[1:]) == ("digits", (16, 16, 1))


@pytest.mark.usefixtures("no_names")
@pytest.mark.parametrize("dataset", ["mnist", "hf:owner/name"])
def test_all_mirrors_together_get_one_wait(monkeypatch, tmp_path, dataset):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(fetch, "GIVE_UP_S", 0.4)
    monkeypatch.setattr(MNIST, "mirrors", ["https://a.example/", "http://b.example/", "http://c.example/"])
    began = time.monotonic()

    with pytest.raises(DataError, match="no answer"):
        load(dataset)

    assert time.monotonic() - began < 1.5


def test_a_black_hole_is_given_up_on(monkeypatch):
    """A listener whose queue is full drops who knocks, as a firewall does."""
    monkeypatch.setattr(fetch, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        crowd = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
            crowd.append(one)
        time.sleep(0.1)
        assert fetch.no_answer(f"http://127.0.0.1:{deaf.getsockname()[1]}/") == "127.0.0.1: no answer"
        for one in crowd:
            one.close()


def test_a_proxy_is_who_is_asked(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", server.url)

    assert fetch.no_answer("http://no-such-host.example/") is None


def test_auto_is_cifar10_where_it_can_be_had(cifar10):
    _, name, found = load("auto")

    assert (name, len(found.labels)) == ("cifar10", 120)
    cifar10.asked.clear()
    assert load("auto")[1] == "cifar10"
    assert cifar10.asked == []
    config = configs.resolve({"model": "cnn", "device": "cpu", "batch_size": 8})
    _, setup = finish(prepare(config, torch.device("cpu")))
    assert (config.dataset, setup.config.dataset, setup.facts["dataset"]) == ("auto", "cifar10", "cifar10")
    assert setup.config.data_dir is None


@pytest.mark.parametrize("how", ["ctrl-c", "closed"])
def test_a_download_that_is_stopped_leaves_nothing(cifar10, tmp_path, how):
    steps = data.load("cifar10", None, None)
    while not isinstance(next(steps), Progress):
        pass
    if how == "closed":
        steps.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            steps.throw(KeyboardInterrupt)

    assert [file.suffix for file in (tmp_path / "data").iterdir()] in ([], [".lock"])
    assert len(load("cifar10")[2].labels) == 120


def killed_at(steps, what):
    """Do the steps in a process that is killed where it says `what`."""
    child = os.fork()
    if not child:
        for word in steps:
            if isinstance(word, Progress) and word.what == what and word.done:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_download_that_is_killed_is_begun_again(cifar10, tmp_path):
    killed_at(data.load("cifar10", None, None), "downloading cifar10")
    assert (tmp_path / "data" / "cifar-10-batches-py.partial").exists()
    assert not (tmp_path / "data" / "cifar-10-batches-py").exists()

    assert len(load("cifar10")[2].labels) == 120
    assert not (tmp_path / "data" / "cifar-10-batches-py.partial").exists()


def test_what_is_not_whole_is_named_and_left_alone(cifar10, tmp_path):
    load("cifar10")
    batch = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1])
    cifar10.asked.clear()

    with pytest.raises(DataError, match="not whole") as error:
        load("cifar10")

    assert "move it away" in error.value.hint
    assert cifar10.asked == []
    assert batch.exists()


def test_an_mnist_that_is_cut_short_is_not_whole(server, monkeypatch, tmp_path):
    """torchvision has no checksums of what it has unpacked."""
    publish_mnist(server, monkeypatch, MNIST, [f"{server.url}/last/"])
    load("mnist")
    file = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    fewer = gzip.decompress(idx(np.zeros((99, 28, 28))))
    for content in (file.read_bytes()[:-1], fewer, b""):
        file.write_bytes(content)
        with pytest.raises(DataError, match="not whole"):
            load("mnist")


def test_a_full_disk_is_said(cifar10, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("greenml.learn.fetch.requests.Response.iter_content", full)
    with pytest.raises(DataError, match="No space left on device") as error:
        load("cifar10")
    assert "--data-dir" in error.value.hint


def test_a_data_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"cifar10: .*file.*(exists|directory)"):
        load("cifar10", data_dir=str(tmp_path / "file"))


# -- the hub --


COMMIT = "c" * 40


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The hub's API as it is documented, for the repository `owner/name`."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # what HF_ENDPOINT sets, once, at import
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for path in ("main", "refs%2Fconvert%2Fparquet"):
        server.files[f"/api/datasets/owner/name/revision/{path}"] = refusal(404, "RevisionNotFound")
    return server


def refusal(status, code):
    def answer(request):
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def publish(hub, files, revision="main"):
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    info = {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
    hub.files[f"/api/datasets/owner/name/revision/{revision.replace('/', '%2F')}"] = json.dumps(info).encode()
    tree = [
        {"type": "file", "path": name, "size": len(content), "oid": md5(content)} for name, content in files.items()
    ]
    hub.files[f"/api/datasets/owner/name/tree/{COMMIT}"] = json.dumps(tree).encode()
    for name, content in files.items():
        hub.files[f"/datasets/owner/name/resolve/{COMMIT}/{name}"] = lambda request, content=content: send(
            request, content, ETag=f'"{md5(content)}"', X_Repo_Commit=COMMIT
        )


def png(colour):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def jpg(colour, size=(64, 64)):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(colour).integers(0, 256, (*size, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


def parquet(num, *, broken=()):
    """`num` images of two classes; the rows in `broken` are none."""
    rows = [b"not an image" if row in broken else png((row, 0, 0)) for row in range(num)]
    columns = {"image": [{"bytes": row, "path": None} for row in rows], "label": [n % 2 for n in range(num)]}
    kinds = {"image": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.Int64}
    frame = pl.DataFrame(columns, schema=kinds)
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


FILES = {
    "README.md": b"# a data set",
    "data/train-00000-of-00002.parquet": parquet(30),
    "data/train-00001-of-00002.parquet": parquet(20),
    "data/test-00000-of-00001.parquet": parquet(10),
}


def test_a_hub_data_set_is_downloaded_once_and_then_needs_no_network(hub, monkeypatch, capfd):
    publish(hub, FILES)
    said, name, first = load("hf:owner/name")

    assert (name, first.num_train, len(first.labels)) == ("hf:owner/name", 50, 60)
    assert [word.done for word in said if isinstance(word, Progress) and "downloading" in word.what][1:] != []
    assert "downloading hf:owner/name" in notices(said)[0]
    assert not any("README" in path for path in hub.asked)

    hub.asked.clear()
    assert notices(load("hf:owner/name")[0]) == []
    assert not any("resolve" in path for path in hub.asked)

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE.rstrip("/"))
    said, _, again = load("hf:owner/name")
    assert notices(said) == ["hf:owner/name as it was downloaded before: 127.0.0.1: Connection refused"]
    assert again.data_hash == first.data_hash
    assert capfd.readouterr().err == ""  # no bars and no warnings but ours


def test_half_a_download_is_no_data_set(hub, monkeypatch):
    publish(hub, FILES)
    steps = data.load("hf:owner/name", None, None)
    while not (isinstance(word := next(steps), Progress) and word.done):
        pass
    steps.close()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE.rstrip("/"))

    with pytest.raises(DataError, match=r"not whole in .* Connection refused"):
        load("hf:owner/name")


def test_parquet_that_the_hub_has_made_is_second_choice(hub):
    publish(hub, {"images/a.png": b"..."})
    converted = {"default/partial-train/0000.parquet": parquet(40), "default/test/0000.parquet": parquet(10)}
    publish(hub, converted, revision="refs/convert/parquet")

    said, _, found = load("hf:owner/name")

    assert "only the first part" in notices(said)[-1]

    assert (found.num_train, len(found.labels)) == (40, 50)


def test_one_of_several_configs_is_named(hub):
    publish(
        hub, {f"{config}/{part}-0.parquet": parquet(40) for config in ("big", "small") for part in ("train", "test")}
    )

    with pytest.raises(DataError, match="several configs: `big`, `small`") as error:
        load("hf:owner/name")
    assert "hf:owner/name/big" in error.value.hint
    with pytest.raises(DataError, match="no config `tiny`") as error:
        load("hf:owner/name/tiny")
    assert "`small`" in error.value.hint
    *_, found = load("hf:owner/name/small")
    assert len(found.labels) == 80
    assert not any("big" in path for path in hub.asked)


@pytest.mark.parametrize(
    ("dataset", "answer", "error", "message"),
    [
        ("hf:name", 404, UsageError, "names no data set"),
        ("hf:owner/na me", 404, UsageError, "names no data set"),
        ("hf:owner/name--x", 404, UsageError, "no name that the hub allows"),
        ("hf:owner/name", refusal(401, "RepoNotFound"), DataError, "no such data set"),
        ("hf:owner/name", refusal(403, "GatedRepo"), DataError, "accept its terms"),
        ("hf:owner/name", refusal(404, "RevisionNotFound"), DataError, "no parquet"),
        ("hf:owner/name", 500, DataError, "500"),
    ],
)
def test_a_hub_that_says_no_is_two_lines(hub, dataset, answer, error, message):
    hub.files["/api/datasets/owner/name/revision/main"] = answer

    with pytest.raises(error, match=message) as raised:
        load(dataset)
    assert raised.value.hint
    assert "\n" not in f"{raised.value}{raised.value.hint}"


def test_a_hub_that_breaks_off_is_said(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's library waits between attempts
    publish(hub, FILES)
    hub.files[f"/datasets/owner/name/resolve/{COMMIT}/data/test-00000-of-00001.parquet"] = 500

    with pytest.raises(DataError) as raised:
        load("hf:owner/name")
    assert "\n" not in f"{raised.value}{raised.value.hint}"


# -- what is broken --


def folder(root, num=20):
    for label, colour in (("blue", 1), ("red", 2)):
        (root / label).mkdir(parents=True)
        for i in range(num):
            (root / label / f"{i:02}.jpg").write_bytes(jpg(colour + i))


def test_broken_files_of_a_folder_are_counted_and_left_out(tmp_path):
    folder(tmp_path / "f")
    (tmp_path / "f" / "red" / "00.jpg").write_text("hello")
    (tmp_path / "f" / "red" / "01.jpg").write_bytes(b"")
    (tmp_path / "f" / "red" / "02.jpg").write_bytes(jpg(3)[:-500])

    said, _, found = load(f"folder:{tmp_path / 'f'}")

    [notice] = notices(said)
    assert "3 corrupt images left out" in notice
    assert all(f"0{n}.jpg" in notice for n in range(3))
    assert (found.labels < 0).sum() == 3
    assert found.image_size == 64


def test_broken_images_in_front_do_not_hide_the_others(tmp_path):
    folder(tmp_path / "f")
    for file in (tmp_path / "f" / "blue").iterdir():
        file.write_bytes(b"")

    said, _, found = load(f"folder:{tmp_path / 'f'}")

    assert "20 corrupt images" in notices(said)[0]
    assert (found.labels == 1).sum() == 20


def test_broken_rows_of_parquet_are_counted_and_left_out(tmp_path):
    (tmp_path / "a.parquet").write_bytes(parquet(40, broken=(3, 17)))

    said, _, found = load(f"parquet:{tmp_path / 'a.parquet'}")

    assert notices(said) == ["2 corrupt images left out: a.parquet row 3, a.parquet row 17"]
    assert np.flatnonzero(found.labels < 0).tolist() == [3, 17]


def cut(content):
    return content[: len(content) // 2]


def scratched(content):
    """Its footer is whole, its pages are not."""
    middle = len(content) // 2
    return content[: middle - 400] + bytes(800) + content[middle + 400 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable parquet"),
        (b"hello", "not a readable parquet"),
        (cut(parquet(40)), "not a readable parquet"),
        (scratched(parquet(40)), "not a readable parquet|none of the images"),
        (parquet(0), "no images"),
    ],
)
def test_broken_parquet_is_two_lines(tmp_path, content, message):
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(DataError, match=message) as error:
        load(f"parquet:{tmp_path / 'a.parquet'}")
    assert "\n" not in f"{error.value}{error.value.hint}"


@pytest.mark.parametrize("columns", [{"label": [0, 1]}, {"image": [b"a", b"b"]}, {"a": [1, 2], "label": [0, 1]}])
def test_parquet_without_its_columns_is_two_lines(tmp_path, columns):
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(DataError, match=r"no (image|label) column"):
        load(f"parquet:{tmp_path / 'a.parquet'}")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "any class folder"),
        (["red/00.jpg"], "only one class"),
        (["red/00.txt", "blue/00.txt"], "no valid file"),
        (["red/00.jpg", "blue/00.jpg"], "none of the images can be read"),
    ],
)
def test_folders_without_images_are_two_lines(tmp_path, files, message):
    (tmp_path / "f").mkdir()
    for name in files:
        (tmp_path / "f" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "f" / name).write_text("hello")

    with pytest.raises(DataError, match=f"(?i){message}") as error:
        load(f"folder:{tmp_path / 'f'}")
    assert "\n" not in f"{error.value}{error.value.hint}"


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_to_nowhere_is_named(tmp_path):
    folder(tmp_path / "f")
    (tmp_path / "f" / "red" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")

    with pytest.raises(DataError, match=r"lost\.jpg: No such file"):
        load(f"folder:{tmp_path / 'f'}")


# -- decoding that is stopped --


def decoded(root):
    return [file.name for file in (root / "cache").iterdir() if file.is_dir()]


def test_what_is_decoded_is_found_again_without_a_look_at_an_image(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    first = load(f"folder:{tmp_path / 'f'}")[2]

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", lambda file: pytest.fail(f"{file} is read again"))
        again = load(f"folder:{tmp_path / 'f'}")[2]
    assert again.image_size == first.image_size == 64
    assert (again.images == first.images).all()

    for file in (tmp_path / "f").rglob("*.jpg"):
        Image.open(file).resize((32, 32)).save(file)
    assert load(f"folder:{tmp_path / 'f'}")[2].image_size == 32


def test_decoding_ended_by_ctrl_c_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    whole, num = decode.picture, iter(range(30))

    def interrupted(*arguments):
        if next(num, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(decode, "picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(f"folder:{tmp_path / 'f'}")
    assert decoded(tmp_path) == []

    monkeypatch.setattr(decode, "picture", whole)
    assert (load(f"folder:{tmp_path / 'f'}")[2].labels >= 0).all()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_decoding_that_is_killed_is_begun_again(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    monkeypatch.setattr(decode, "CHUNK", 10)
    killed_at(data.load(f"folder:{tmp_path / 'f'}", None, None), "decoding")
    [left] = decoded(tmp_path)
    assert left.endswith(".partial")

    *_, found = load(f"folder:{tmp_path / 'f'}")

    assert found.images[:, 0, 0].any(axis=1).all()
    assert decoded(tmp_path) == [left.removesuffix(".partial")]


# -- from outside the package --


DATASET = """
import numpy as np
from greenml.learn.data import Images, register_dataset
from greenml.records import Notice

@register_dataset("squares", usage="squares:COLOUR")
def squares(asked):
    yield Notice(text=f"{asked.argument} {asked.image_size} {asked.data_dir.name}")
    return Images(
        images=np.zeros((100, 8, 8, 1), np.uint8), labels=np.arange(100) % 2, num_train=100, classes=["a", "b"],
        data_hash="squares", resize="none", augment="none",
    )
"""
MODEL = """
from torch import nn
from greenml.learn.models import register_model

@register_model
def square_net(pretrained=False, **kwargs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, kwargs["num_classes"]))
"""


def test_data_and_models_of_an_installed_package_are_known(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "squares-1.0.dist-info").mkdir(parents=True)
    (site / "squares-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: squares\nVersion: 1.0\n")
    (site / "squares-1.0.dist-info" / "entry_points.txt").write_text(
        "[greenml.datasets]\nsquares = squares_data\n[greenml.models]\nsquare = squares_model\n"
    )
    (site / "squares_data.py").write_text(DATASET)
    (site / "squares_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(data, "_LOADERS", dict(data._LOADERS))

    config = configs.resolve({"model": "square_net", "dataset": "squares:red", "device": "cpu", "batch_size": 8})
    said, setup = finish(prepare(config, torch.device("cpu")))

    assert "red None data" in notices(said)
    assert (setup.facts["dataset"], setup.facts["num_parameters"]) == ("squares:red", 64 * 2 + 2)
    with pytest.raises(UsageError, match="not complete") as error:
        load("squares")
    assert "squares:COLOUR" in error.value.hint
