"""Download encoders from the Hugging Face Hub and upload them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlabeled.encoders.external import is_offline
from unlabeled.errors import UserError, plural
from unlabeled.runs.published import CONFIG, FILES, Published, is_published, write_folder
from unlabeled.utils.quiet import quiet

REPOSITORY = re.compile(r"hf:(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")
"""Repository, and branch, tag or commit."""


def fetch(name: str) -> Path | None:
    """The files of `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, from the hub or its cache.

    None where it is no such name, or weights of transformers without a revision, which that
    library downloads itself. What is unpickled by others is never downloaded.

    Raises:
        UserError: huggingface_hub is missing, there is no such repository or revision, or the hub
            cannot be reached.
    """
    match = REPOSITORY.fullmatch(name)
    if match is None or Path(name.removeprefix("hf:")).expanduser().exists():
        return None
    repository, revision = match.groups()
    with _explained(name):
        from huggingface_hub import hf_hub_download, snapshot_download

        config = Path(hf_hub_download(repository, CONFIG, revision=revision))
        folder = config.parent
        if is_published(folder, Path.joinpath):  # files of its cache are links
            names = list(FILES)
        elif revision is not None:
            names = ["*.json", "*.safetensors"]
        else:
            return None
        return Path(snapshot_download(repository, revision=revision, allow_patterns=names))


def push_folder(
    folder: Path,
    repository: str,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload an encoder",
) -> str:
    """Upload a folder to the hub; returns the address of the repository.

    Args:
        folder: in the layout of the hub.
        repository: OWNER/NAME, which is made if it does not exist.
        private: whether a new repository is visible to its owner only (default: as the account is
            set).
        revision: branch to write to (default: main).
        message: of the commit.

    Raises:
        UserError: huggingface_hub or a token is missing, the hub refuses, or cannot be reached.
    """
    name = check_repository(repository)
    with _explained(name):
        from huggingface_hub import HfApi, get_token

        if not get_token():
            raise UserError(
                "the hub needs a token to write: set HF_TOKEN, or log in with `hf auth login`"
            )
        api = HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            delete_patterns=list(FILES),  # an earlier encoder's, such as its classifier
        )
        return str(url)


def check_repository(repository: str) -> str:
    """`hf:OWNER/NAME` of a repository to write to.

    Raises:
        UserError: it is no OWNER/NAME.
    """
    name = f"hf:{repository}"
    match = REPOSITORY.fullmatch(name)
    if match is None or match[2] is not None:
        raise UserError(f"the repository is '{repository}'; give OWNER/NAME, such as me/encoder")
    return name


def push(
    published: Published,
    repository: str,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Write the folder of an encoder and upload it; see `write_folder` and `push_folder`."""
    check_repository(repository)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "encoder", published, repository, license)
        dim = plural(int(published.inputs["dim"]), "feature")
        message = f"Encoder by {published.record['method']}, {dim}"
        return push_folder(Path(folder) / "encoder", repository, private, revision, message)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Failures of the hub in the user's words."""
    try:
        import huggingface_hub  # noqa: F401
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"'{name}' needs huggingface_hub; pip install 'unlabeled[hub]'") from error
    try:
        with quiet():
            yield
    except errors.GatedRepoError as error:
        raise UserError(f"'{name}' is only given to whom its owner admits; ask there") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no '{name}' on the hub, or it is private; check the name, or log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"'{name}' has no such revision; check the part after @") from error
    except UserError:
        raise
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, OSError, ValueError) as error:
        if is_offline(error):
            raise UserError(
                f"'{name}' cannot be reached: this machine is not connected to the hub and has no "
                "copy; connect it once, or give a folder"
            ) from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UserError(
                f"the hub refuses '{name}' (status {status}); give a token that may, in HF_TOKEN "
                "or by `hf auth login`"
            ) from error
        if isinstance(error, errors.EntryNotFoundError):
            raise UserError(f"'{name}' holds no {CONFIG}, so no encoder; check the name") from error
        lines = str(error).strip().splitlines()
        raise UserError(f"the hub failed for '{name}': {lines[0] if lines else error}") from error
