"""The error tree.

    LookdevError            anything this project raises on purpose
    +-- UserError           bad input: the command line prints its one line and exits with code 2
        +-- ShotError       a shot, a pass or a video on disk
        +-- PresetError     a preset or dataset file (file:section.key)
        +-- ModelError      a checkpoint, ControlNet or LoRA file
        +-- DatasetError    training images and captions
        +-- OutputError     writing: full disk, held folder

A message is one line that says what was found, where, what was expected and what to do next.
"""


class LookdevError(Exception):
    """Base of everything this project raises on purpose."""


class UserError(LookdevError):
    """Bad input. The message is one line for the user; the command exits with code 2."""


class ShotError(UserError):
    """A shot, one of its passes, or a video cannot be used."""


class PresetError(UserError):
    """A preset or another TOML file breaks its schema."""


class ModelError(UserError):
    """A checkpoint, ControlNet or LoRA file cannot be used."""


class DatasetError(UserError):
    """Training images or captions cannot be used."""


class OutputError(UserError):
    """A result cannot be written."""
