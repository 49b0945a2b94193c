"""Data that stays on disk is the same as in memory."""

import gzip
import pickle
import warnings

import numpy as np
import pytest

from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.disk import DiskArray, DiskTexts, store
from unlabeled.data.readers import corpus, documents, sentences, text, word_lines
from unlabeled.data.readers.documents import Documents
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import language
from unlabeled.modality import Text
from unlabeled.pipelines.word2vec import word2vec

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")


def test_rows_of_a_file_are_those_of_the_array(tmp_path):
    """Fails where an index reads other rows, or where a copy changes with the file's pages."""
    x = np.random.default_rng(0).integers(0, 60_000, (9_000, 3, 5)).astype(np.uint16)
    disk = store((x[at : at + 700] for at in range(0, len(x), 700)), tmp_path / "x.bin", x.dtype)
    assert isinstance(disk, DiskArray)
    assert (disk.shape, len(disk), disk.nbytes) == (x.shape, len(x), x.nbytes)
    rows = np.array([8_999, 3, 3, 500])
    first = disk[rows]
    for index in (slice(None), slice(5, 9), rows, 7):
        np.testing.assert_array_equal(disk[index], x[index])
    np.testing.assert_array_equal(first, x[rows])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(disk))[rows], x[rows])
    lazy = LazyImages(disk, convert=lambda rows: rows.astype(np.int32), dtype=np.int32)
    np.testing.assert_array_equal(lazy.take(rows)[:], x[rows].astype(np.int32))


def test_texts_of_a_file_are_views(tmp_path, monkeypatch):
    """Fails where a slice of a slice counts from the first text, or a block ends within one."""
    texts = ["eins", "zwei äöü", "", "drei 三", "x" * 300, "end"]
    content = [text.encode() for text in texts]
    (tmp_path / "t").write_bytes(b"".join(content))
    array = DiskArray(tmp_path / "t", np.uint8, (sum(map(len, content)),))
    monkeypatch.setattr("unlabeled.data.disk.BLOCK", 8)
    result = DiskTexts(array, np.cumsum(list(map(len, content))))
    assert list(result) == texts
    assert list(result[1:5][1:]) == texts[2:5]
    assert (result[-1], result[1:][0], len(result[4:2])) == ("end", "zwei äöü", 0)
    with pytest.raises(IndexError):
        result[6]


def write_texts(folder):
    """Files of every layout: wrapped, a sentence a line, documents of long lines, for testing."""
    rng = np.random.default_rng(0)
    words = ["cat", "dog", "cow", "saw", "axe", "nail", "sleeps", "Ärger", "e-mail", "three"]

    def line(number):
        return " ".join(rng.choice(words, number))

    folder.mkdir()
    wrapped = "\n".join(line(12)[:60] + ("\n" * (row % 7 == 6)) for row in range(80))
    (folder / "a.txt").write_text(f"\n  \n{wrapped}\r\n\r\nend of it", encoding="utf-8")
    (folder / "b.txt").write_text("\n".join(line(6).capitalize() + "." for _ in range(60)))
    long = "\n".join(line(40) + ("\n" * (row % 9 == 8)) for row in range(90))
    (folder / "c.txt.gz").write_bytes(gzip.compress(long.encode()))
    (folder / "d_test.txt").write_text("\n".join(line(50) for _ in range(9)))


def test_documents_on_disk_are_those_in_memory(tmp_path, monkeypatch):
    """Fails where lines at the end of a block are torn, or a document ends elsewhere."""
    write_texts(tmp_path / "texts")
    small = corpus.read(tmp_path / "texts")
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    blocks = documents.text_blocks
    monkeypatch.setattr(documents, "text_blocks", lambda path: blocks(path, 37))
    large = corpus.read(tmp_path / "texts")
    assert isinstance(small, list)
    assert isinstance(large, Documents)
    assert len(small) == len(large) == 13
    for one, other in zip(small, large, strict=True):
        assert (one.source, one.test, one.by_line) == (other.source, other.test, other.by_line)
        assert one.paragraphs == list(other.paragraphs)
        assert one.sentences == other.sentences
    for one, other in zip(corpus.split(small), corpus.split(large), strict=True):
        assert [d.paragraphs for d in one] == [list(d.paragraphs) for d in other]
    without = [d for d in small if not d.test]
    rows = [row for row, d in enumerate(large) if not d.test]
    parts = corpus.split(without), corpus.split(documents.choose(large, rows))
    for one, other in zip(*parts, strict=True):
        assert [d.paragraphs for d in one] == [list(d.paragraphs) for d in other]
        assert [d.test for d in one] == [d.test for d in other]


@pytest.mark.parametrize("open_as", [text.in_pieces, sentences.in_rows])
def test_tokens_on_disk_are_those_in_memory(open_as, tmp_path, monkeypatch):
    """Fails where a piece ends with a batch of paragraphs, or the text is read a second time."""
    write_texts(tmp_path / "texts")
    options = {"length": 16, "vocabulary": 300}
    small = open_as(corpus.read(tmp_path / "texts"), "texts", **options)
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    monkeypatch.setattr("unlabeled.data.readers.bpe.BATCH", 100)
    for _ in range(2):  # made, and read again
        large = open_as(corpus.read(tmp_path / "texts"), "texts", **options)
        assert isinstance(large.train.x, LazyImages)
        assert large.modality == small.modality
        for part in ("train", "test"):
            one, other = getattr(small, part), getattr(large, part)
            assert other.x.dtype == np.int32
            np.testing.assert_array_equal(one.x, other.x[:])
            np.testing.assert_array_equal(one.factors["source"], other.factors["source"])
        assert small.classes == large.classes
        monkeypatch.setattr(Documents, "_read", property(lambda _: pytest.fail("read again")))


def test_words_on_disk_are_those_in_memory(tmp_path, monkeypatch):
    """Fails where blocks renumber words, lose a line's end, or another text's words are taken."""
    write_texts(tmp_path / "texts")
    small, lines = word_lines.read_lines(tmp_path / "texts", "", 2)
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    monkeypatch.setattr(word_lines, "BLOCK", 50)
    monkeypatch.setattr(word_lines, "MAX_LINE", 10_000)
    for _ in range(2):
        large, on_disk = word_lines.read_lines(tmp_path / "texts", "", 2)
        assert isinstance(on_disk.words, DiskArray)
        assert list(large.items()) == list(small.items())
        for start in range(0, len(lines), 777):
            for one, other in zip(
                lines.block(start, start + 777), on_disk.block(start, start + 777), strict=True
            ):
                np.testing.assert_array_equal(one, other)
    fewer, _ = word_lines.read_lines(tmp_path / "texts", "", 400)
    assert len(fewer) < len(small)
    (tmp_path / "texts" / "b.txt").write_text("quite another text\n" * 9)
    assert "quite" in word_lines.read_lines(tmp_path / "texts", "", 2)[0]


def test_long_lines_are_cut_and_rare_words_leave_no_hole(monkeypatch):
    """Fails where lines are cut before rare words are left out, or empty lines count."""
    monkeypatch.setattr(word_lines, "MAX_LINE", 3)
    monkeypatch.setattr(word_lines, "BLOCK", 2)
    lines = [["a", "x1", "b", "a", "b", "a"], ["x2"], [], ["b", "a", "b", "x3", "a", "b", "a"]]
    vocabulary, encoded = word_lines.encode_lines(iter(lines), 2)
    assert vocabulary == {"a": 6, "b": 5}
    words, line = encoded.block(0, 99)
    assert words.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert encoded.ends.tolist() == [3, 5, 8, 11]
    assert line.tolist() == [0] * 3 + [1] * 2 + [2] * 3 + [3] * 3
    assert encoded.block(4, 6)[1].tolist() == [1, 2]


def test_word2vec_from_disk_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """Fails where windows are drawn otherwise from disk, or chunks of words begin elsewhere."""
    write_texts(tmp_path / "texts")
    monkeypatch.setattr("unlabeled.pipelines.word2vec.CHUNK", 500)
    options = {"dim": 8, "min_count": 2, "epochs": 2, "progress": False}
    word2vec(tmp_path / "texts", out=tmp_path / "memory", **options)
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    monkeypatch.setattr(word_lines, "BLOCK", 300)
    word2vec(tmp_path / "texts", out=tmp_path / "disk", **options)
    one, other = ((tmp_path / name / "vectors.bin").read_bytes() for name in ("memory", "disk"))
    assert one == other


def test_what_is_damaged_is_made_again(tmp_path, monkeypatch, cache_folder):
    """Fails where a file that lost its end is read as if it were whole."""
    write_texts(tmp_path / "texts")
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    known = set(cache_folder.glob("words-*"))
    before, _ = word_lines.read_lines(tmp_path / "texts", "", 3)
    (path,) = set(cache_folder.glob("words-*")) - known
    with (path / "words.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.warns(Notice, match=r"words of .* are damaged .*made again"):
        after, lines = word_lines.read_lines(tmp_path / "texts", "", 3)
    assert after == before
    assert len(lines) == sum(before.values())


def test_a_line_without_end_is_cut_at_spaces(tmp_path, monkeypatch):
    """Fails where a cut loses or splits a word, or is not told."""
    words = " ".join(f"word{i}" for i in range(3_000))
    (tmp_path / "one.txt").write_text(words)
    monkeypatch.setattr(documents, "LONGEST", 1_000)
    blocks = documents.text_blocks
    monkeypatch.setattr(documents, "text_blocks", lambda path: blocks(path, 700))
    with pytest.warns(Notice, match="1 lines of more than 1,000 letters are cut"):
        (document,) = corpus.read(tmp_path / "one.txt")
    assert max(map(len, document.paragraphs)) <= 1_000
    assert " ".join(document.paragraphs) == words


def test_tokenizers_of_large_texts_learn_from_a_part(monkeypatch):
    """Fails where all of a large text goes to the trainer, or only its beginning does."""
    monkeypatch.setattr(text, "LEARNED", 1_000)
    paragraphs = ["begin begin begin"] * 50 + ["finish finish finish"] * 50
    with pytest.warns(Notice, match="learns from one in 5 paragraphs"):
        known = text.tokenizer_for([corpus.Document("a", paragraphs)], 300, size=4_200)
    assert [len(known.encode(word).ids) for word in ("begin", "finish")] == [1, 1]


def test_what_is_no_text_is_said_from_disk(tmp_path, monkeypatch):
    """Fails where a binary file is left out in silence once texts are read in blocks."""
    monkeypatch.setattr(corpus, "IN_MEMORY", 0)
    (tmp_path / "a.txt").write_bytes(b"good text\n" * 300_000 + b"\0")
    with pytest.raises(UserError, match="zero bytes"):
        word_lines.read_lines(tmp_path / "a.txt", "", 2)
    (tmp_path / "b.txt").write_bytes(b"good text\n" * 300_000 + b"\xff")
    with pytest.raises(UserError, match="cannot be read as text"):
        len(corpus.read(tmp_path / "b.txt"))
    (tmp_path / "c.txt").write_bytes(b"\n" * 300)
    with pytest.raises(UserError, match="holds no text"):
        len(corpus.read(tmp_path / "c.txt"))


def test_ngrams_of_large_texts_are_counted_in_a_part(monkeypatch):
    """Fails where all of a large text is taken into memory, or rows are not said to be a part."""
    rng = np.random.default_rng(0)
    rows = rng.integers(10, 60, (90, 1, 16)).astype(np.int32)
    rows[:, :, -1] = 60  # in every text, so that its share tells how many were counted
    train, test = (
        Samples(rows[part], modality=Text(80, 16)) for part in (slice(60), slice(60, 90))
    )
    monkeypatch.setattr(language, "COUNTED", 20)
    with pytest.warns(Notice, match="counted in 20 of the 60 texts"):
        some = language.counted_tokens(train, test, 80)["unigram"]
    monkeypatch.setattr(language, "COUNTED", 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        every = language.counted_tokens(train, test, 80)["unigram"]
    assert some.shape == every.shape == (30, 3)
    assert not np.allclose(some[:, 0], every[:, 0])
