"""A base model, and the adapters that it puts on and takes off without being loaded again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
from mlx.utils import tree_unflatten

from engine.errors import ConfigError, ModelError
from engine.model import attach, load_base
from engine.trees import flatten, trainable
from engine.use.chosen import other_base
from engine.use.worker import Note

if TYPE_CHECKING:
    from collections.abc import Generator

    import mlx.nn as nn

    from engine.answers import AnswerShape
    from engine.config import RunConfig
    from engine.model import Adapted
    from engine.model_files import ModelFiles
    from engine.use.chosen import Chosen


class Wardrobe:
    """A frozen base model that wears one adapter, or none."""

    def __init__(self, model: nn.Module, tokenizer: Any, files: ModelFiles | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.files = files
        self.worn: Chosen | None = None
        self._modules: list[tuple[str, Any]] = []
        """The base's own modules that stand aside for adapted ones."""
        self._arrays: dict[str, mx.array] = {}
        """The base's own arrays that stand aside for trained ones."""
        self._adapted: list[tuple[str, Any]] = []
        self._trained: dict[str, mx.array] = {}

    @classmethod
    def load(cls, config: RunConfig, files: ModelFiles) -> Wardrobe:
        """Load a base model.

        Raises:
            ModelError: when mlx-lm cannot load it.
        """
        model, tokenizer = load_base(config, files)
        model.eval()
        mx.eval(model.parameters())
        return cls(model, tokenizer, files)

    @property
    def has_base(self) -> bool:
        """Whether the base can be shown without what was trained."""
        return True

    @property
    def free_bytes(self) -> int | None:
        """What answers may take; None where nothing bounds it."""
        return None

    @property
    def answers(self) -> AnswerShape | None:
        """What decides the memory of an answer, where that is bounded."""
        return None

    @property
    def max_positions(self) -> int | None:
        """Positions that the model was made for, where that is known."""
        return self.files.max_positions if self.files else None

    def put_on(self, chosen: Chosen) -> None:
        """Wear an adapter instead of what is worn now.

        Raises:
            ModelError: when it is of another base; nothing is worn then.
        """
        if self.worn == chosen:
            self.show_adapter(is_shown=True)
            return
        self.take_off()
        weights = self._read(chosen)
        try:
            self._attach(chosen, weights)
        except (ConfigError, ModelError):
            self.take_off()
            raise
        self.worn = chosen
        self.model.eval()
        mx.eval(self.model.parameters())

    def take_off(self) -> None:
        """Be the base again."""
        self.show_adapter(is_shown=False)
        self.forget()

    def forget(self) -> None:
        """Let go of what stands aside, so that the model stays as it is for good."""
        self.worn = None
        self._modules, self._adapted, self._arrays, self._trained = [], [], {}, {}

    def show_adapter(self, *, is_shown: bool) -> None:
        """Let what is worn work, or the base alone: no weights move, only references."""
        modules = self._adapted if is_shown else self._modules
        arrays = self._trained if is_shown else self._arrays
        if modules:
            self.model.update_modules(tree_unflatten(modules))
        if arrays:
            self.model.update(tree_unflatten(list(arrays.items())))

    def _read(self, chosen: Chosen) -> dict[str, mx.array]:
        try:
            return cast("dict[str, mx.array]", mx.load(str(chosen.file)))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{chosen.file} cannot be read: {error}") from None

    def _attach(self, chosen: Chosen, weights: dict[str, mx.array]) -> None:
        self.model.freeze()
        before = dict(cast("list[tuple[str, Any]]", self.model.named_modules()))
        own = flatten(self.model.parameters()) if chosen.is_full else {}
        try:
            attach(self.model, chosen.config)
        except ConfigError as error:
            raise _does_not_fit(chosen, "; ".join(error.problems)) from None
        finally:
            after = cast("list[tuple[str, Any]]", self.model.named_modules())
            changed = [(n, m) for n, m in after if n in before and before[n] is not m]
            self._adapted = changed
            self._modules = [(name, before[name]) for name, _ in changed]
        expected = trainable(self.model)
        for name, array in weights.items():
            if name not in expected:
                raise _does_not_fit(chosen, f"the base has no {name}")
            if array.shape != expected[name].shape:
                raise _does_not_fit(
                    chosen, f"{name} is {array.shape}, the base wants {expected[name].shape}"
                )
        if chosen.is_full:
            self._arrays = {name: own[name] for name in weights}
            # The types that the base is computed in.
            weights = {name: array.astype(own[name].dtype) for name, array in weights.items()}
            self._trained = weights
        self.model.load_weights(list(weights.items()), strict=False)
        self.model.freeze()


class LentWardrobe(Wardrobe):
    """A run's own model while it stands still; it gets everything back as it was."""

    def __init__(
        self, adapted: Adapted, files: ModelFiles, answers: AnswerShape, most_bytes: int
    ) -> None:
        """Borrow.

        Args:
            adapted: the run's model.
            files: its base's.
            answers: what decides the memory of an answer.
            most_bytes: what the run planned to take at its peak, all in all.
        """
        super().__init__(adapted.model, adapted.tokenizer, files)
        self._answers = answers
        self._most_bytes = most_bytes
        self._own = trainable(self.model)
        """The run's trained arrays, as they are now."""
        named = cast("list[tuple[str, Any]]", self.model.named_modules())
        self._adapted = [(name, module) for name, module in named if "lora_a" in module]
        inner = ((n, m.get("linear") or m.get("embedding")) for n, m in self._adapted)
        self._modules = [(name, module) for name, module in inner if module is not None]

    @property
    def has_base(self) -> bool:
        """Whole layers that are trained have no base beside them."""
        return bool(self._modules) and len(self._modules) == len(self._adapted)

    @property
    def free_bytes(self) -> int | None:
        """What the run's plan leaves."""
        return self._most_bytes - mx.get_active_memory()

    @property
    def answers(self) -> AnswerShape:
        """What decides the memory of an answer."""
        return self._answers

    def put_on(self, chosen: Chosen) -> None:
        """Wear another checkpoint of the run for a while.

        Raises:
            ModelError: when it is of another run's kind.
        """
        weights = self._read(chosen)
        if {n: a.shape for n, a in weights.items()} != {n: a.shape for n, a in self._own.items()}:
            raise _does_not_fit(chosen, "other modules were trained")
        self.model.load_weights(list(weights.items()), strict=False)
        mx.eval(self.model.parameters())

    def take_off(self) -> None:
        """Give the run its model back."""
        self.show_adapter(is_shown=True)
        self.model.update(tree_unflatten(list(self._own.items())))
        self.model.train()
        mx.clear_cache()


def _does_not_fit(chosen: Chosen, why: str) -> ModelError:
    return ModelError(
        f"{chosen.label} was trained on another base than {chosen.config.model}: {why}.",
        "Give the base that it was trained on with --model.",
    )


def dressed(chosen: Chosen, files: ModelFiles, *, is_base: bool) -> Generator[Note, None, Wardrobe]:
    """Load a base and let it wear an adapter, unless the base alone is wanted; says what goes on.

    Raises:
        InputError: when base and adapter do not fit together.
    """
    yield Note(f"loading {files.path.name}")
    wardrobe = Wardrobe.load(chosen.config, files)
    if not is_base:
        if warning := other_base(chosen, files):
            yield Note(warning, is_warning=True)
        wardrobe.put_on(chosen)
    return wardrobe
