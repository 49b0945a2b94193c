"""Special tokens."""

PAD, UNKNOWN, START, END, MASK = range(5)
"""The first tokens of every tokenizer."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FIRST_WORD = MASK + 1
