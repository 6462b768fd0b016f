"""The error of a method that cannot be built on a data set, although nothing is broken.

An asset whose function raises it, or calls `Output.decline`, gets a *declined* partition: the reason, and no files. So
does everything that cannot do without that asset. The rest of the day is built.
"""


class CannotBeBuilt(ValueError):
    """The data lack something that the method needs; the message says what, for people, and how to change that.

    It is no failure: corrupt files, invalid settings and a training that diverged raise other errors.
    """


class NothingToLearn(CannotBeBuilt):
    """The train or validation rows hold nothing that a method could learn or be chosen by."""
