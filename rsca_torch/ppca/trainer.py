"""What a Lightning Trainer is asked to be: a fit of all spectra, in all digits, to its end, and without tips."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Timer

from rsca_torch.errors import InputError

__all__ = ["interrupted_as_asked", "require_harmless", "require_whole", "without_tips"]

#: Options of the Trainer that say where and how EM is run, and leave what is fitted as it is.
HARMLESS = (
    "accelerator devices strategy num_nodes precision plugins benchmark deterministic default_root_dir detect_anomaly "
    "inference_mode profiler"
).split()
ITERATIONS = "compressor.max_iterations and compressor.tolerance say when EM ends"
WHOLE = "every iteration of EM needs all spectra"
WHY_NOT = {
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"), ITERATIONS),
    **dict.fromkeys(("limit_train_batches", "overfit_batches", "fast_dev_run"), f"{WHOLE}; {ITERATIONS}"),
    "use_distributed_sampler": f"{WHOLE}, each once",
    "accumulate_grad_batches": "EM has no gradient",
    "gradient_clip_val": "EM has no gradient",
    "gradient_clip_algorithm": "EM has no gradient",
    "logger": "EM has no log",
    "enable_checkpointing": "checkpoints=DIR keeps a fit after each iteration",
}
PRECISIONS = ("32-true", "64-true")
MEANT = (  # what Lightning warns of and is meant here
    "does not have many workers",
    "returned `None`",
    "exists and is not empty",
    "configure_optimizers",
    "treespec, LeafSpec",
    "GPU available but not used",
)


def require_harmless(make: Callable[..., Trainer]) -> None:
    """Refuse what is given to a Trainer and would change what is fitted, or have no part in it.

    Args:
        make: a partial of the Trainer, whose keywords are looked at; of another function nothing is known.

    Raises:
        InputError: names the option, and why not.
    """
    given = getattr(make, "keywords", {})
    for name in given:
        if name not in HARMLESS and name in signature(Trainer).parameters:
            raise InputError(f"trainer.{name}={given[name]}: {WHY_NOT.get(name, 'no part in EM')}; leave it out")


def require_whole(trainer: Trainer) -> None:
    """Refuse a Trainer, however it was made, that would fit less than all, or more coarsely.

    Raises:
        InputError: names the option, and why not.
    """
    usual: dict[str, Any] = {"fast_dev_run": False, "overfit_batches": 0.0, "limit_train_batches": 1.0}
    usual |= {"accumulate_grad_batches": 1, "max_epochs": -1, "max_steps": -1, "min_epochs": None, "min_steps": None}
    for name, value in usual.items():
        given = getattr(trainer, name)
        one_batch = name == "limit_train_batches" and isinstance(given, int)  # 1.0 is all of them
        if given != value or one_batch:
            raise InputError(f"trainer.{name}={given}: {WHY_NOT[name]}; leave it out")
    if any(isinstance(callback, Timer) for callback in getattr(trainer, "callbacks", [])):
        raise InputError(f"trainer.max_time: {ITERATIONS}; leave it out")
    if trainer.precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision={trainer.precision}: EM's sums lose all meaning in so few digits; leave it out, or "
            "give 32-true or 64-true (compressor.products=float32 or float64 says how the large products are taken)"
        )


@contextmanager
def without_tips() -> Iterator[None]:
    """Without Lightning's tips and lists of devices, and without its warnings of what is meant here.

    >>> with without_tips():
    ...     trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    """
    tips = logging.getLogger("lightning.pytorch")
    level = tips.level
    tips.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in MEANT:
                warnings.filterwarnings("ignore", f".*{message}")
            yield
    finally:
        tips.setLevel(level)


@contextmanager
def interrupted_as_asked() -> Iterator[None]:
    """Whoever interrupts a Trainer interrupts its caller too.

    Lightning makes an exit with code 1 of KeyboardInterrupt, and leaves SIGINT ignored.
    """
    heard = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if type(error) is not SystemExit:  # Lightning's own of SIGTERM
            raise
        signal.signal(signal.SIGINT, heard)
        raise KeyboardInterrupt from None
