"""A hospital: it knows nothing of the adversary."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from net import Net
from torch.nn import functional

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take one step on one image; a real hospital loads its X-rays here."""
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    seed = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
    image, label = torch.rand(1, 1, 28, 28, generator=seed), torch.tensor([1])
    loss = functional.cross_entropy(model(image), label)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    metrics = MetricRecord({"num-examples": 1, "train_loss": float(loss)})
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
