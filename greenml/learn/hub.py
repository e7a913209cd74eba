"""Data sets of the Hugging Face hub that are images in parquet: `hf:OWNER/NAME`, or one of its configs."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from greenml.errors import DataError, UsageError
from greenml.learn.data import Asked, Loading, register_dataset
from greenml.learn.fetch import no_answer
from greenml.learn.sources import PARTS, read_parquet
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from huggingface_hub import HfApi

USAGE = "hf:OWNER/NAME"
DEFAULT_CONFIG = "default"
REVISIONS = ("main", "refs/convert/parquet")
"""Where parquet is looked for: what the owner put there, then what the hub makes of other formats."""

TIMEOUT_S = 30.0
"""For a list of files; who does not answer at all is given up on sooner."""

OFFLINE_HINT = (
    "run once with a network; or give what you have by --dataset parquet:PATH or folder:PATH; "
    "`--dataset digits` needs no download"
)


class _Wanted(NamedTuple):
    repository: str
    config: str | None

    def __str__(self) -> str:
        return "/".join(["hf:" + self.repository, *([self.config] if self.config else [])])


class _Found(NamedTuple):
    root: Path
    names: list[str]
    """Parquet files, below it."""


@register_dataset("hf", usage=USAGE)
def hf(asked: Asked) -> Loading:
    """The parquet files of a hub repository, kept in the hub's own cache (HF_HOME), by its endpoint (HF_ENDPOINT)."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    wanted = _parse(asked.argument)
    api = HfApi(endpoint=constants.ENDPOINT)
    disable_progress_bars()  # ours is drawn from what is yielded
    offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else no_answer(constants.ENDPOINT)
    found = yield from _find_in_cache(api, wanted, offline) if offline else _download(api, wanted)
    if any("partial-" in name for name in found.names):
        yield Notice(text=f"{wanted}: the hub has converted only the first part of it to parquet")
    return (yield from read_parquet(found.root, sorted(found.root / name for name in found.names), asked.image_size))


def _parse(argument: str) -> _Wanted:
    parts = argument.split("/")
    if len(parts) not in (2, 3) or not all(re.fullmatch(r"[\w.-]+", part) for part in parts):
        raise UsageError(f"`hf:{argument}` names no data set", hint=f"as in `{USAGE}` or `{USAGE}/CONFIG`")
    return _Wanted("/".join(parts[:2]), parts[2] if parts[2:] else None)


def _download(api: HfApi, wanted: _Wanted) -> Generator[Progress | Notice, None, _Found]:
    """What the cache lacks comes from the hub, file by file. Raises DataError and UsageError."""
    from huggingface_hub import try_to_load_from_cache

    place: Any = {"repo_id": wanted.repository, "repo_type": "dataset"}
    with _in_our_words(wanted):
        revision, commit, sizes = _list(api, wanted)
        total = sum(sizes.values())
        if not all(isinstance(try_to_load_from_cache(filename=name, revision=commit, **place), str) for name in sizes):
            yield Notice(text=f"downloading {wanted} into the hub's cache, once: {total / 1e6:.0f} MB")
        done = 0
        for name, size in sizes.items():
            yield Progress(what=f"downloading {wanted}", done=done, total=total)
            api.hf_hub_download(filename=name, revision=commit, **place)
            done += size
        # Everything is there by now; this notes it in the cache, for when there is no network.
        root = api.snapshot_download(revision=revision, allow_patterns=list(sizes), **place)
    return _Found(Path(root), list(sizes))


def _list(api: HfApi, wanted: _Wanted) -> tuple[str, str, dict[str, int]]:
    """The first revision with parquet, its commit, and the bytes of each file that is wanted."""
    from huggingface_hub.errors import RevisionNotFoundError

    for revision in REVISIONS:
        try:
            info = api.dataset_info(wanted.repository, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
        except RevisionNotFoundError:
            continue
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or [] if one.rfilename.endswith(".parquet")}
        if sizes:
            return revision, info.sha or revision, {name: sizes[name] for name in sorted(_choose(wanted, sizes))}
    raise DataError(
        f"{wanted} holds no parquet, and the hub has made none of it", hint="download it, and use it as folder:PATH"
    )


def _find_in_cache(api: HfApi, wanted: _Wanted, trouble: str) -> Generator[Progress | Notice, None, _Found]:
    """What an earlier download has left whole in the hub's cache. Raises DataError."""
    from huggingface_hub import constants

    patterns = "*.parquet" if wanted.config in (None, DEFAULT_CONFIG) else f"{wanted.config}/*.parquet"
    for revision in REVISIONS:
        try:
            root = Path(
                api.snapshot_download(
                    wanted.repository,
                    repo_type="dataset",
                    revision=revision,
                    allow_patterns=patterns,
                    local_files_only=True,
                )
            )
        except OSError:  # LocalEntryNotFoundError: nothing there, or not all of it
            continue
        if names := [file.relative_to(root).as_posix() for file in root.rglob("*.parquet")]:
            chosen = _choose(wanted, names)
            yield Notice(text=f"{wanted} as it was downloaded before: {trouble}")
            return _Found(root, chosen)
    raise DataError(
        f"{wanted} is not whole in {constants.HF_HUB_CACHE} and cannot be downloaded: {trouble}", hint=OFFLINE_HINT
    )


@contextmanager
def _in_our_words(wanted: _Wanted) -> Iterator[None]:
    """What the hub says -> DataError and UsageError."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{wanted.repository}"
    # Of a broken connection: httpx's or, in older versions of the hub's library, that of requests.
    http_error = cast("type[Exception]", errors.HfHubHTTPError.__mro__[1])
    try:
        yield
    except errors.GatedRepoError:
        raise DataError(
            f"{wanted} is open only to those who accept its terms",
            hint=f"accept them at {page}, then `hf auth login` or HF_TOKEN",
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"{wanted}: no such data set, or a private one", hint=f"is it at {page}? for private ones set HF_TOKEN"
        ) from None
    except errors.HFValidationError:
        raise UsageError(f"`{wanted}` is no name that the hub allows", hint=f"as in `{USAGE}`") from None
    except (OSError, http_error) as error:
        raise DataError(f"{wanted}: {str(error).splitlines()[0]}", hint=OFFLINE_HINT) from None


def _choose(wanted: _Wanted, names: Iterable[str]) -> list[str]:
    """The files of the config that is wanted, or of the only one. Raises DataError."""
    by_config: dict[str, list[str]] = {}
    for name in names:
        by_config.setdefault(_config(name), []).append(name)
    known = ", ".join(f"`{config}`" for config in sorted(by_config))
    if wanted.config and wanted.config not in by_config:
        raise DataError(f"hf:{wanted.repository} has no config `{wanted.config}`", hint=f"it has {known}")
    if not wanted.config and len(by_config) > 1:
        raise DataError(f"{wanted} has several configs: {known}", hint=f"name one, as in `{wanted}/{min(by_config)}`")
    return by_config[wanted.config or min(by_config)]


def _config(name: str) -> str:
    """The first folder that says more than which part it is: `plain_text` of plain_text/train/0000.parquet."""
    folders = [folder for folder in name.split("/")[:-1] if folder != "data" and folder not in PARTS]
    return folders[0] if folders else DEFAULT_CONFIG
