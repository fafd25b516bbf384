"""All that a training will say to its text encoder, linted with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.captions import lint, without_trigger
from training.dataset import Dataset
from training.example import Example
from training.folders import raise_first

_READS = "tokens, the text encoder reads {}; shorten"


def check_captions(dataset: Dataset, *, count_tokens: Callable[[str], int], max_tokens: int) -> None:
    """Lint all that training and its samples will encode, with the model's own tokenizer.

    That is every caption; with the class word for the trigger too where there is a prior weight; and the
    sample prompts. Raises `DatasetError` with the first fault.
    """
    faults = _faults(dataset, dataset.examples, count_tokens=count_tokens, max_tokens=max_tokens)
    if not faults:  # a mirrored caption has other words, and mostly the original's faults
        mirrored = _faults(dataset, dataset.mirror_images, count_tokens=count_tokens, max_tokens=max_tokens)
        faults = [f"{fault} (of the mirrored caption: left and right exchanged)" for fault in mirrored]
    reads = _READS.format(max_tokens)
    for example in dataset.priors:
        if (found := count_tokens(example.caption)) > max_tokens:
            faults.append(f"{example.path.with_suffix('.txt')}: {found} {reads} the caption")
    for number, prompt in enumerate(dataset.file.train.samples, start=1):
        if (found := count_tokens(prompt)) > max_tokens:
            faults.append(f"{dataset.path}:train.samples[{number}]: {found} {reads} the prompt")
    raise_first(faults)


def _faults(
    dataset: Dataset, examples: Sequence[Example], *, count_tokens: Callable[[str], int], max_tokens: int
) -> list[str]:
    """Of captions, and of captions with the class word where they are trained."""
    found = []
    for example in examples:
        concept, where = dataset.file.concept[example.concept], example.path.with_suffix(".txt")
        found += [
            f"{where}: {fault}"
            for fault in lint(
                example.caption,
                trigger=concept.trigger,
                invariant=concept.invariant,
                count_tokens=count_tokens,
                max_tokens=max_tokens,
            )
        ]
    for example in examples if dataset.file.train.prior_weight > 0 else ():
        concept, where = dataset.file.concept[example.concept], example.path.with_suffix(".txt")
        plain = without_trigger(example.caption, trigger=concept.trigger, class_word=concept.class_word)
        if (count := count_tokens(plain)) > max_tokens:
            found.append(
                f"{where}: with '{concept.class_word}' for '{concept.trigger}' (train.prior_weight) "
                f"{count} {_READS.format(max_tokens)} the caption"
            )
    return found
