"""What is said to the user: errors they can mend, and notices."""


class UserError(ValueError):
    """Says in one sentence what is wrong and what to do; the command line exits with code 2."""


class Notice(UserWarning):
    """Something the user should know, in plain words; the work goes on."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the run was saved; the message says how to go on."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch, on any device, or of Python says that memory is out."""
    words = (
        *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"),
        *("bad_alloc", "could not create a memory"),
        *(
            "could not create a primitive",
            "could not execute a primitive",
        ),  # oneDNN's way to say it
    )
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
