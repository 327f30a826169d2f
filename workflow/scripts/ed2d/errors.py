"""What goes wrong because of an input, said in one line: file, what is the matter, cure."""


class InputError(ValueError):
    """A file or value that a user can mend; its text is one line: `FILE: problem; cure`."""

    def __init__(self, file, problem, cure):
        super().__init__(printable(" ".join(f"{file}: {problem}; {cure}".splitlines())))
        self.file, self.problem, self.cure = str(file), problem, cure


def printable(text):
    """A text on one line that harms no terminal and fits into any file: what is not printable is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
