"""Small models that do what hardly a model does, or what would deceive a step layer by layer."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

WIDTH, VOCABULARY, DEPTH = 16, 96, 3


class Layer(nn.Module):
    """Mixes positions causally and features non-linearly."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, WIDTH)
        self.down = nn.Linear(WIDTH, WIDTH)

    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        scores = h @ h.swapaxes(-1, -2)
        if mask is not None:
            scores = mx.where(mask, scores, -1e9)
        mixed = h + mx.softmax(scores, axis=-1) @ nn.gelu(self.up(h))
        if isinstance(more, mx.array):
            mixed = mixed + more
        return mixed + nn.silu(self.down(mixed))


class Model(nn.Module):
    """An ordinary model, of which each odd one changes one thing."""

    layer_kinds: tuple[type[nn.Module], ...] = (Layer,) * DEPTH

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = [kind() for kind in self.layer_kinds]
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        del cache
        return self.logits(self.run(self.embed(tokens), causal(tokens)))

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers:
            h = layer(h, mask)
        return h

    def logits(self, h: mx.array) -> Any:
        return self.head(h)


def causal(tokens: mx.array) -> mx.array:
    """A mask as models make it."""
    places = mx.arange(tokens.shape[1])
    return places[:, None] >= places[None]


class ScalesBetween(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers:
            h = layer(h, mask) * 0.9
        return h


class ChangesInPlace(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers:
            h = layer(h, mask)
            h += 0.3
        return h


class MasksByResult(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        more = None
        for layer in self.layers:
            h = layer(h, mask, more)
            more = 0.1 * mx.tanh(h)
        return h


class ChoosesByResult(Model):
    """Not-a-number does not show in a comparison's result."""

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers:
            h = layer(h, mask)
            mask = mask & (h.sum(axis=-1) > 0)[:, None]
            mask = mask | mx.eye(mask.shape[-1], dtype=mx.bool_)
        return h


class EndsWithEmbedding(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        return super().run(h, mask) + mx.tanh(h)


class EndsWithAllResults(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        results: list[mx.array] = []
        for layer in self.layers:
            h = layer(h, mask)
            results.append(h)
        return sum(results[1:], results[0])


class MixesPositionsInTail(Model):
    def logits(self, h: mx.array) -> mx.array:
        return self.head(mx.cumsum(h, axis=1))


class CurvedHead(Model):
    def logits(self, h: mx.array) -> mx.array:
        return 3.0 * mx.tanh(self.head(nn.gelu(h)) ** 2)


class ReturnsMore(Model):
    def logits(self, h: mx.array) -> Any:
        return self.head(h), h


class Notes:
    """Something that layers write to, as they do to a cache."""

    def __init__(self) -> None:
        self.sum: Any = 0.0


class WritingLayer(Layer):
    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        h = super().__call__(h, mask) + more.sum
        more.sum = more.sum + 0.1 * h
        return h


class PassesState(Model):
    layer_kinds = (WritingLayer,) * DEPTH

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        notes = Notes()
        for layer in self.layers:
            h = layer(h, mask, notes)
        return h


class WritingToDictLayer(Layer):
    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        h = super().__call__(h, mask, more.get("sum"))
        more["sum"] = 0.1 * h
        return h


class PassesDict(Model):
    layer_kinds = (WritingToDictLayer,) * DEPTH

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        shared: dict[str, mx.array] = {}
        for layer in self.layers:
            h = layer(h, mask, shared)
        return h


class RunsTwice(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        return super().run(super().run(h, mask), mask)


class RunsBackwards(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in reversed(self.layers):
            h = layer(h, mask)
        return h


class LeavesOneOut(Model):
    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers[:-1]:
            h = layer(h, mask)
        return h


class RepeatsALayer(Model):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.layers[0], self.layers[1], self.layers[0]]


class SharesAModule(Model):
    def __init__(self) -> None:
        super().__init__()
        self.layers[2].up = self.layers[0].up


class NoisyLayer(Layer):
    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        h = super().__call__(h, mask, more)
        return h + 0.1 * mx.random.normal(h.shape) if self.training else h


class DrawsItsOwnNumbers(Model):
    layer_kinds = (NoisyLayer,) * DEPTH


class TrainsItsHead(Model):
    """The tests attach an adapter to the head."""


class FlatStates(Model):
    """Rows and positions share an axis of the hidden state."""

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        rows, width, _ = h.shape
        places = mx.arange(rows * width)
        row = places // width
        mask = (places[:, None] >= places[None]) & (row[:, None] == row[None])
        return super().run(h.reshape(rows * width, -1), mask).reshape(rows, width, -1)


class TupleLayer(Layer):
    """Hands on what a later layer adds."""

    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> Any:
        out = super().__call__(h, mask, None if more is None else more[0][0] * 0.5)
        return out, (nn.silu(self.up(h)), h.shape[-1]), None


class HandsOnTuples(Model):
    """The second layer's extra result goes to the fourth alone, the first's to the third."""

    layer_kinds = (TupleLayer,) * 4

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        extras: list[Any] = [None, None]
        for index, layer in enumerate(self.layers):
            h, *extra = layer(h, mask, extras[index])
            extras.append(tuple(extra))
        return h


class SkipsAcross(Model):
    """Early hidden states come back in later layers."""

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        first, second, third = self.layers
        a = first(h, mask)
        b = second(a, mask, h)
        return third(b, mask, a)


class KeywordLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Layer()

    def __call__(self, *, mask: mx.array, states: mx.array) -> mx.array:
        return self.inner(states, mask)


class CallsByKeyword(Model):
    layer_kinds = (KeywordLayer,) * DEPTH

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layers:
            h = layer(states=h, mask=mask)
        return h


class OtherLayer(Layer):
    pass


class AsksForTheClass(Model):
    layer_kinds = (Layer, OtherLayer, Layer)

    def run(self, h: mx.array, mask: mx.array) -> mx.array:
        near = mask & ~mx.tri(mask.shape[0], k=-2, dtype=mx.bool_)
        for layer in self.layers:
            h = layer(h, near if isinstance(layer, OtherLayer) else mask)
        return h


class InSegments(nn.Module):
    """Its layers are in two lists, and ``layers`` is their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.early: list[nn.Module] = [Layer(), Layer()]
        self.late: list[nn.Module] = [Layer(), OtherLayer()]
        self.head = nn.Linear(WIDTH, VOCABULARY)

    @property
    def layers(self) -> list[nn.Module]:
        return self.early + self.late

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        del cache
        h, mask = self.embed(tokens), causal(tokens)
        for layer in self.early:
            h = layer(h, mask)
        for layer in self.late:
            h = layer(h, mask)
        return self.head(h)


class GreedyLayer(Layer):
    """Changes its input in place."""

    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        h += nn.silu(self.up(h))
        return super().__call__(h, mask, more)


class ChangesItsInput(Model):
    layer_kinds = (GreedyLayer,) * DEPTH


class TunedLayer(Layer):
    """Differs from its like in a number that is no weight."""

    def __init__(self, strength: Any) -> None:
        super().__init__()
        self.strength = strength

    def __call__(self, h: mx.array, mask: mx.array | None = None, more: Any = None) -> mx.array:
        strength = self.strength[0] if isinstance(self.strength, tuple) else self.strength
        return super().__call__(h, mask, more) * strength


class Tuned(Model):
    """Layers that must not stand in for one another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [TunedLayer(s) for s in (0.5, 0.7, (mx.array(0.5),), (mx.array(0.9),))]
