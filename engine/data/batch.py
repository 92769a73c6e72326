"""Encodes many texts at once, in the tokenizer library's own threads.

Those threads live in Rust and let go of Python meanwhile. Processes would each import the
libraries again, and must not be forked once MLX has threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.data.turns import Tokenizer


class BatchTokenizer:
    """Encodes texts as the tokenizer itself does, after a look whether it really does the same."""

    def __init__(self, backend: Any, *, special_tokens: bool) -> None:
        self._backend = backend
        self._special_tokens = special_tokens
        self._is_checked = False

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, special_tokens: bool) -> BatchTokenizer | None:
        """Return one for a tokenizer that the Rust library runs; None for others."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not hasattr(backend, "encode_batch_fast"):
            return None
        return cls(backend, special_tokens=special_tokens)

    def encode(
        self, texts: Sequence[str], first: Callable[[], list[int]]
    ) -> list[list[int]] | None:
        """Return the token ids of every text.

        Args:
            texts: At least one.
            first: Encodes the first of them one by one; called once, to compare. Where the two
                differ (a tokenizer with Python code of its own), the answer is None from then on.
        """
        if self._backend is None:
            return None
        # Called before the backend is: the tokenizer takes back a length that its file cuts to.
        expected = None if self._is_checked else first()
        encoded = self._backend.encode_batch_fast(
            list(texts), add_special_tokens=self._special_tokens
        )
        ids = [one.ids for one in encoded]
        if not self._is_checked:
            self._is_checked = True
            cuts_or_pads = self._backend.truncation or self._backend.padding
            if ids[0] != expected or cuts_or_pads:
                self._backend = None
                return None
        return ids
