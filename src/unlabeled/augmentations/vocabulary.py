"""Special tokens, and how texts are stored as images of one channel."""

PAD, UNKNOWN, START, END, MASK = range(5)
"""The first tokens of every tokenizer."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FIRST_WORD = MASK + 1
WHITE = 65_535.0
"""Tokens are stored as uint16 and read as exact fractions of this value."""
