"""A hospital that attacks its own update before it sends it."""

from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from hospital import private_data
from net import Net
from torch.nn import functional

from adversary import TrainingRecipe
from strategies.mods import GuardPolicy, LeakageGuard

RECIPE = TrainingRecipe(lr=0.1, batch_size=8)

app = ClientApp()


@cache
def make_guard(action: str, folder: str, seconds: float) -> LeakageGuard:
    """Return the guard, with the limits that this hospital has set."""
    policy = GuardPolicy(max_psnr=28.0, action=action, noise=(1.0, 10.0), seconds=seconds)
    return LeakageGuard(Net(), private_data, RECIPE, policy, Path(folder))


def guard(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Read the settings when the run has told them: mods are made before."""
    config = context.run_config
    made = make_guard(str(config["action"]), str(config["folder"]), float(config["seconds"]))
    return made(message, context, call_next)


@app.train(mods=[guard])
def train(message: Message, context: Context) -> Message:
    """Go through the hospital's X-rays once, in batches."""
    model, data = Net(), private_data(message, context)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.lr)
    for batch in torch.randperm(len(data.images)).split(RECIPE.batch_size):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(data.images[batch]), data.labels[batch].long())
        loss.backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(data.images), "train_loss": loss.item()})
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
