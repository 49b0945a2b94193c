"""Tokens that are no words, and texts as images of one channel."""

PAD, UNKNOWN, START, END, MASK = range(5)
"""Every tokenizer here begins with them."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FIRST_WORD = MASK + 1
WHITE = 65_535.0
"""Tokens are stored as uint16 and read as fractions of this, which is exact."""
