"""Books and Wikipedia: 15 public-domain books and 89 articles, in sentences.

The test part is the last twentieth of each book, and some articles of Wikipedia. The files are
`books_train.txt.gz`, `books_test.txt.gz` and likewise `wikipedia_`, with a paragraph on each line
and an empty line between documents; any texts with these names can be used.
"""

from pathlib import Path

from unlabeled.data.dataset import Splits
from unlabeled.data.readers import corpus
from unlabeled.data.readers.download import Origin, find
from unlabeled.data.readers.sentences import in_rows

FILES = tuple(
    f"{kind}_{part}.txt.gz" for kind in ("books", "wikipedia") for part in ("train", "test")
)
ORIGIN = Origin(
    "books and Wikipedia",
    "books",
    ("text",),
    "https://www.gutenberg.org/",
    dict.fromkeys(FILES, ""),
)


def load(location: str | None = None) -> Splits:
    """Four consecutive sentences, (N, 1, 4, 32) tokens; the target is books or Wikipedia.

    Args:
        location: the folder of the four files (default: searched for).

    Raises:
        UserError: they are nowhere, or damaged.
    """
    return in_rows(
        documents(location), "books" if location is None else f"books:{location}", tell=False
    )


def documents(location: str | None = None) -> list[corpus.Document]:
    """All documents, of books first; the files' order is kept."""
    folder = find(ORIGIN, location, _look)
    return [document for name in FILES for document in corpus.read(folder / name)]


def folder(location: str | None = None) -> Path:
    """Where the files are, and tests of words beside them."""
    return find(ORIGIN, location, _look)


def _look(location: Path) -> Path | None:
    return location if all((location / name).is_file() for name in FILES) else None
