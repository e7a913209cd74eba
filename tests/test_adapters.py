"""Callbacks for other libraries, inside the real libraries: epochs, phases and figures as they train."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

import greenml

os.environ.setdefault("KERAS_BACKEND", "torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours


@pytest.fixture(autouse=True)
def _later_crashes_still_have_a_traceback(request):
    """Lightning puts all signals back as Python knew them, and Python does not know of pytest's handler of SIGSEGV."""
    yield
    faulthandler.disable()
    faulthandler.enable(file=request.config.stash[fault_handler_stderr_fd_key])


def only_run(store):
    """The run, its epochs and its phases, which tile it whatever the library did."""
    [run] = store.rows("from leaderboard")
    epochs = store.rows("from epochs order by epoch")
    phases = store.rows("from phases order by seq")
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(phases))
    assert sum(phase["joules"] for phase in phases) == pytest.approx(run["energy_kwh"] * 3.6e6, rel=1e-9)
    for epoch in epochs:
        of_epoch = sum(phase["joules"] for phase in phases if phase["epoch"] == epoch["epoch"])
        assert epoch["energy_j"] == pytest.approx(of_epoch, rel=1e-9)
    return run, epochs, phases


def in_order(phases):
    """Their names, without those between, and each once where it follows itself."""
    names = [(phase["name"], phase["epoch"]) for phase in phases if phase["name"] not in ("program", "record")]
    return names[:1] + [b for a, b in pairwise(names) if a != b]


# Hugging Face: a small text classifier

TEXTS = ["good fine great", "bad poor awful", "great good", "awful bad", "fine fine good", "poor poor bad"] * 16
LABELS = [1, 0] * 48
WORDS = {word: i for i, word in enumerate(["[PAD]", *sorted({word for text in TEXTS for word in text.split()})])}


def text_classifier(folder, callback, **arguments):
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    def encoded(texts, labels):
        ids = [[WORDS[word] for word in text.split()] for text in texts]
        padded = [[*line, *[0] * (3 - len(line))] for line in ids]
        return [
            {"input_ids": line, "attention_mask": [int(i > 0) for i in line], "labels": label}
            for line, label in zip(padded, labels, strict=True)
        ]

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    data = encoded(TEXTS, LABELS)
    return Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(
            str(folder / "out"), per_device_train_batch_size=8, per_device_eval_batch_size=32, learning_rate=1e-2,
            eval_strategy="epoch", logging_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True,
            disable_tqdm=True, **arguments,
        ),
        train_dataset=data[:32],
        eval_dataset=data[32:64],
        compute_metrics=lambda said: {"accuracy": float((said.predictions.argmax(-1) == said.label_ids).mean())},
        callbacks=[callback],
    ), data[64:]  # fmt: skip


def test_a_text_classifier_of_transformers(replayed, tmp_path):
    from transformers import TrainerCallback

    from greenml.tracking.huggingface import GreenMLCallback

    with greenml.track(dataset="words", num_classes=2, num_val=32, num_test=32, quiet=True) as run:
        callback = GreenMLCallback(run)
        assert isinstance(callback, TrainerCallback)
        trainer, test = text_classifier(tmp_path, callback, num_train_epochs=3)
        trainer.train()
        trainer.predict(test)

    row, epochs, phases = only_run(replayed)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert (row["status"], row["accuracy"], row["val_accuracy"]) == ("done", 1.0, 1.0), "it has learned to read"
    assert (row["rank"], row["on_front"]) == (1, True)
    assert epochs[0]["train_loss"] > epochs[2]["train_loss"] > 0
    assert all(epoch["val_loss"] is not None and epoch["lr"] is not None for epoch in epochs)
    assert [epoch["schedule_complete"] for epoch in epochs] == [False, False, True], "its rate decays to the last"
    assert in_order(phases) == [
        ("setup", None),
        *[(name, epoch) for epoch in (1, 2, 3) for name in ("train", "validate", "train")],
        ("test", None),
    ]


def test_a_trainer_that_stops_within_an_epoch_has_a_run_of_its_own(replayed, tmp_path):
    from greenml.tracking.huggingface import GreenMLCallback

    callback = GreenMLCallback(dataset="words", quiet=True)
    trainer, _ = text_classifier(tmp_path, callback, max_steps=6, lr_scheduler_type="constant")
    trainer.train()

    row, epochs, _ = only_run(replayed)
    assert (row["model"], row["status"], row["stop_reason"]) == ("BertForSequenceClassification", "done", "finished")
    assert [(epoch["epoch"], epoch["schedule_complete"]) for epoch in epochs] == [(1, True)]
    assert replayed.rows("select distinct epoch from metrics where name = 'grad_norm' order by all")[0] == {"epoch": 1}


# Lightning: a few weights


def line_fitter(**given):
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Line(LightningModule):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Linear(1, 1)

        def loss(self, batch):
            xs, ys = batch
            return torch.nn.functional.mse_loss(self.weights(xs), ys)

        def training_step(self, batch):
            if given.get("breaks"):
                raise ValueError("no more")
            loss = self.loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch):
            self.log("val_rmse", self.loss(batch).sqrt())

        def test_step(self, batch):
            self.log("test_rmse", self.loss(batch).sqrt())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    xs = torch.linspace(-1, 1, 32)[:, None]
    loader = DataLoader(TensorDataset(xs, 2 * xs), batch_size=8)
    trainer = Trainer(
        max_epochs=3, callbacks=[given["callback"]], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    return trainer, Line(), loader


def test_a_module_of_lightning(replayed):
    from lightning.pytorch import Callback

    from greenml.tracking.lightning import GreenMLCallback

    with greenml.track(model="line", dataset="line", quiet=True) as run:
        callback = GreenMLCallback(run)
        assert isinstance(callback, Callback)
        trainer, module, loader = line_fitter(callback=callback)
        trainer.fit(module, loader, loader)
        trainer.test(module, loader, verbose=False)

    row, epochs, phases = only_run(replayed)
    assert (row["metric"], row["goal"], row["on_front"]) == ("rmse", "min", True)
    [final] = replayed.rows("select value from metrics where name = 'test_rmse'")
    assert row["value"] == final["value"] == pytest.approx(epochs[-1]["value"]), "the same data once more"
    assert epochs[0]["value"] > epochs[2]["value"]
    assert all(epoch["train_loss"] > 0 and epoch["schedule_complete"] for epoch in epochs)
    assert in_order(phases) == [
        ("setup", None),
        *[(name, epoch) for epoch in (1, 2, 3) for name in ("train", "validate", "train")],
        ("test", None),
    ]


def test_a_module_that_breaks_leaves_its_run_as_failed(replayed):
    from greenml.tracking.lightning import GreenMLCallback

    trainer, module, loader = line_fitter(callback=GreenMLCallback(dataset="line", quiet=True), breaks=True)
    with pytest.raises(ValueError, match="no more"):
        trainer.fit(module, loader, loader)
    assert replayed.rows("select model, status, stop_reason from runs") == [
        {"model": "Line", "status": "failed", "stop_reason": "exception ValueError"}
    ]


# Keras: a dense net


def test_a_dense_net_of_keras(replayed):
    import keras
    import numpy as np

    from greenml.tracking.keras import GreenMLCallback

    keras.utils.set_random_seed(0)
    xs = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    ys = (xs.sum(1) > 0).astype("int32")
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    with greenml.track(model="dense", dataset="sums", num_classes=2, num_val=32, num_test=32, quiet=True) as run:
        callback = GreenMLCallback(run)
        assert isinstance(callback, keras.callbacks.Callback)
        data = {"validation_data": (xs[32:64], ys[32:64]), "verbose": 0, "callbacks": [callback]}
        history = model.fit(xs[:32], ys[:32], epochs=3, batch_size=4, **data).history
        model.evaluate(xs[64:], ys[64:], verbose=0, callbacks=[callback])

    row, epochs, phases = only_run(replayed)
    assert [epoch["val_accuracy"] for epoch in epochs] == pytest.approx(history["val_accuracy"])
    assert [epoch["train_accuracy"] for epoch in epochs] == pytest.approx(history["accuracy"])
    assert [epoch["train_loss"] for epoch in epochs] == pytest.approx(history["loss"])
    assert row["accuracy"] > 0.8
    assert (row["rank"], [epoch["schedule_complete"] for epoch in epochs]) == (1, [True] * 3)
    assert in_order(phases) == [
        ("setup", None),
        *[(name, epoch) for epoch in (1, 2, 3) for name in ("train", "validate", "train")],
        ("test", None),
    ]


@pytest.mark.parametrize("library", ["huggingface", "lightning", "keras"])
def test_nothing_is_imported_until_the_callback_is_asked_for(library):
    guests = "{'transformers', 'lightning', 'keras', 'torch'}"
    code = f"import sys, greenml.tracking.{library}; print({guests} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
