"""Builds the demo from nothing: a tiny base model, its tokenizer and an instruction set.

    uv run python -m presets.build_demo           # about ten minutes on two CPU cores
    uv run python -m presets.build_demo --data    # only the instruction set

The texts come from the two YAML files in ``presets/demo/source``: a small world in plain English
for pretraining, and a shop's help desk for fine-tuning. One seed decides everything. Nothing is
downloaded.
"""

# pyright: standard, reportArgumentType=false, reportReturnType=false
# A script made of calls into mlx, mlx_lm and tokenizers, which give no or wrong types.

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from engine.blas import preload_openblas

preload_openblas()  # MLX takes the BLAS that is loaded first

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402
from mlx_lm.models.qwen2 import Model, ModelArgs  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PRESETS = Path(__file__).parent
SOURCE, MODEL, DATA = (PRESETS / "demo" / name for name in ("source", "model", "data"))

SEED = 7
VOCABULARY = 768
ROW = 96
"""Tokens in a row of pretraining text; a row holds whole documents."""
BATCH = 16
STEPS = 1400
PEAK_LEARNING_RATE = 3e-3

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ARCHITECTURE: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 192,
    "num_hidden_layers": 5,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}

Message = dict[str, str]


# ---- the small world ----------------------------------------------------------------------------


class Slots(dict[str, str]):
    """The values of a template's slots; one that no row gives is drawn from its pool, and stays."""

    def __init__(
        self, values: dict[str, str], pools: dict[str, list[str]], rng: random.Random
    ) -> None:
        super().__init__(values)
        self.pools, self.rng = pools, rng

    def __missing__(self, slot: str) -> str:
        free = [word for word in self.pools[slot.rstrip("23")] if word not in self.values()]
        self[slot] = self.rng.choice(free)
        return self[slot]

    def fill(self, template: str) -> str:
        """The template as a sentence."""
        text = template.format_map(self)
        return text[0].upper() + text[1:]


class World:
    """Writes random documents about the small world."""

    def __init__(self, rng: random.Random) -> None:
        source = yaml.safe_load((SOURCE / "world.yaml").read_text(encoding="utf-8"))
        self.pools: dict[str, list[str]] = source["pools"]
        self.topics: list[dict[str, Any]] = source["topics"]
        self.stories: list[dict[str, Any]] = source["stories"]
        self.talk: list[dict[str, Any]] = source["talk"]
        self.shares = [topic["share"] for topic in self.topics]
        self.rng = rng

    def document(self) -> str:
        """A plain text, a story or a chat."""
        kind = self.rng.random()
        if kind < 0.2:
            return self.plain_text()
        if kind < 0.35:
            return self.story()
        return self.chat()

    def plain_text(self) -> str:
        """A few facts of one topic."""
        topic = self.pick_topic()
        lines = [
            self.pick_row(topic).fill(self.rng.choice(topic["say"]))
            for _ in range(self.rng.randint(2, 4))
        ]
        return " ".join(lines)

    def story(self) -> str:
        """A chat about a story; the answers are in the story only."""
        story = self.rng.choice(self.stories)
        slots = Slots({}, self.pools, self.rng)
        said = slots.fill(story["say"])
        turns: list[tuple[str, str]] = []
        for question, answer in self.rng.sample(story["ask"], k=2):
            turns.append((slots.fill(question), slots.fill(answer)))
        first_question, first_answer = turns[0]
        return render(messages([(f"{said} {first_question}", first_answer), *turns[1:]]))

    def chat(self) -> str:
        """Questions and answers about anything, sometimes with a system prompt."""
        turns = [self.small_talk() if self.rng.random() < 0.15 else self.question()]
        while len(turns) < 4 and self.rng.random() < 0.4:
            turns.append(self.small_talk() if self.rng.random() < 0.2 else self.question())
        turns = [(casual(question, self.rng), answer) for question, answer in turns]
        system = "You are Pip, a helpful assistant." if self.rng.random() < 0.05 else ""
        return render(messages(turns, system))

    def question(self) -> tuple[str, str]:
        """A question about a fact, and its answer."""
        topic = self.pick_topic()
        slots, pair = self.pick_row(topic), self.rng.choice(topic["ask"])
        return slots.fill(self.rng.choice(pair["q"])), slots.fill(pair["a"])

    def small_talk(self) -> tuple[str, str]:
        """Something said to Pip, and what Pip says."""
        talk = self.rng.choice(self.talk)
        return self.rng.choice(talk["q"]), talk["a"]

    def pick_topic(self) -> dict[str, Any]:
        """A topic, the larger ones more often."""
        return self.rng.choices(self.topics, self.shares)[0]

    def pick_row(self, topic: dict[str, Any]) -> Slots:
        """One fact of the topic."""
        row = dict(zip(topic["fields"], self.rng.choice(topic["rows"]), strict=True))
        return Slots(row, self.pools, self.rng)


def casual(question: str, rng: random.Random) -> str:
    """The question as people type it: sometimes after a greeting, sometimes in lower case."""
    if rng.random() < 0.08:
        question = f"{rng.choice(['Hello!', 'Hi!', 'Please tell me:', 'A question:'])} {question}"
    if rng.random() < 0.15:
        question = question.lower().rstrip("?.!")
    return question


def messages(turns: list[tuple[str, str]], system: str = "") -> list[Message]:
    """Turns of a chat as role and content."""
    head = [{"role": "system", "content": system}] if system else []
    pairs = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in turns
    ]
    return head + [message for pair in pairs for message in pair]


def render(chat: list[Message]) -> str:
    """What the chat template makes of a chat."""
    return "".join(f"{START}{turn['role']}\n{turn['content']}{END}\n" for turn in chat)


# ---- tokenizer and base model -------------------------------------------------------------------


def build_tokenizer(world: World) -> Tokenizer:
    """Train a byte-level BPE on the world's text and save it with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((world.document() for _ in range(20_000)), trainer)
    tokenizer.save(str(MODEL / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": ARCHITECTURE["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(MODEL / "tokenizer_config.json", settings)
    return tokenizer


def pretraining_rows(world: World, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Rows filled with whole documents, at most ROW + 1 tokens each, without end."""
    pad = int(tokenizer.token_to_id(PAD) or 0)
    waiting: list[list[int]] = []
    while True:
        row: list[int] = []
        while True:
            while len(waiting) < 8:
                waiting.append([*tokenizer.encode(world.document()).ids, pad][: ROW + 1])
            fitting = [document for document in waiting if len(row) + len(document) <= ROW + 1]
            if not fitting:
                break
            row = row + fitting[0]
            waiting.remove(fitting[0])
        yield row


def pretrain(world: World, tokenizer: Tokenizer) -> Model:
    """Train the base model on random documents; say how it goes on stderr."""
    mx.random.seed(SEED)
    model = Model(ModelArgs.from_dict(ARCHITECTURE))
    warm_up = optim.linear_schedule(0.0, PEAK_LEARNING_RATE, 100)
    decay = optim.cosine_decay(PEAK_LEARNING_RATE, STEPS - 100)
    schedule = optim.join_schedules([warm_up, decay], [100])
    optimizer = optim.AdamW(learning_rate=schedule, betas=[0.9, 0.95], weight_decay=0.1)
    gradients = nn.value_and_grad(model, token_loss)
    rows = pretraining_rows(world, tokenizer)
    started = time.perf_counter()
    for step in range(1, STEPS + 1):
        chunk = [next(rows) for _ in range(BATCH)]
        loss, gradient = gradients(model, *to_batch([(row, 0) for row in chunk], ROW + 1))
        gradient, _ = optim.clip_grad_norm(gradient, 1.0)
        optimizer.update(model, gradient)
        mx.eval(model.parameters(), optimizer.state, loss)
        if step % 100 == 0:
            seconds = time.perf_counter() - started
            say(f"step {step}/{STEPS}  loss {loss.item():.3f}  {seconds:.0f} s")
    return model


def save_model(model: Model, tokenizer: Tokenizer) -> None:
    """Write the weights in half precision, and config.json, as mlx-lm expects them."""
    half = tree_map(lambda weight: weight.astype(mx.float16), model.parameters())
    weights = dict(tree_flatten(half))
    mx.save_safetensors(str(MODEL / "model.safetensors"), weights, metadata={"format": "mlx"})
    ids = {"eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(PAD)}
    extra = {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "torch_dtype": "float16"}
    write_json(MODEL / "config.json", {**extra, **ARCHITECTURE, **ids})


def to_batch(rows: list[tuple[list[int], int]], width: int) -> tuple[mx.array, mx.array]:
    """Rows and the length of their prompts as padded tokens and a mask of the tokens to learn."""
    tokens = np.zeros((len(rows), width), np.int32)
    learn = np.zeros((len(rows), width), np.float32)
    for index, (row, prompt) in enumerate(rows):
        tokens[index, : len(row)] = row
        learn[index, prompt : len(row)] = 1
    return mx.array(tokens), mx.array(learn)


def token_loss(model: nn.Module, tokens: mx.array, learn: mx.array) -> mx.array:
    """Mean cross entropy over the tokens to learn."""
    losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    return (losses * learn[:, 1:]).sum() / learn[:, 1:].sum()


# ---- the instruction set ------------------------------------------------------------------------


def build_data(rng: random.Random) -> None:
    """Write train, valid and test rows; no wording of the latter two is in the first."""
    shop = yaml.safe_load((SOURCE / "shop.yaml").read_text(encoding="utf-8"))
    topics: list[dict[str, Any]] = shop["topics"]
    asked = [(question, topic["a"]) for topic in topics for question in topic["ask"]]
    valid = [(question, topic["a"]) for topic in topics for question in topic["held"][:2]]
    test = [(question, topic["a"]) for topic in topics for question in topic["held"][2:]]

    train = [[pair] for pair in asked]
    for question, answer in rng.sample(asked, k=len(asked) // 2):
        if rng.random() < 0.5:
            train.append([(question.lower().rstrip("?.!"), answer)])
        else:
            train.append([(f"{rng.choice(shop['openers'])} {question}", answer)])
    train += [rng.sample(asked, k=rng.randint(2, 3)) for _ in range(50)]
    world = World(rng)
    train += [[world.question()] for _ in range(70)]  # keeps what the base knows
    rng.shuffle(train)

    write_rows("train", train)
    write_rows("valid", [[pair] for pair in valid] + [rng.sample(valid, k=2) for _ in range(14)])
    write_rows("test", [[pair] for pair in test])


def write_rows(name: str, chats: list[list[tuple[str, str]]]) -> None:
    """One chat a line, as mlx-lm reads it."""
    lines = [json.dumps({"messages": messages(chat)}, ensure_ascii=False) for chat in chats]
    (DATA / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Build everything, or only the data."""
    parser = argparse.ArgumentParser(description="Build the demo's model and data.")
    parser.add_argument("--data", action="store_true", help="write only the instruction set")
    options = parser.parse_args()
    mx.disable_compile()  # on the CPU it would call the system's C++ compiler
    MODEL.mkdir(parents=True, exist_ok=True)
    DATA.mkdir(parents=True, exist_ok=True)
    build_data(random.Random(SEED))
    if not options.data:
        tokenizer = build_tokenizer(World(random.Random(SEED)))
        save_model(pretrain(World(random.Random(SEED + 1)), tokenizer), tokenizer)


if __name__ == "__main__":
    main()
