"""A server that knows nothing of what hospitals do before they send."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from net import Net

app = ServerApp()


class Counting(FedAvg):
    """FedAvg that remembers how many updates came, and what it was told of the others."""

    def __init__(self) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
        self.rounds: list[dict[str, object]] = []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Count, and aggregate as ever."""
        replies = list(replies)
        came = [reply for reply in replies if reply.has_content()]
        self.rounds.append(
            {
                "came": len(came),
                "told": [reply.error.reason for reply in replies if reply.has_error()],
                "noise": [
                    reply.content["leakage-guard"]["noise-scale"]
                    for reply in came
                    if "leakage-guard" in reply.content
                ],
            }
        )
        return super().aggregate_train(server_round, replies)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation, and write down what came."""
    config = context.run_config
    strategy = Counting()
    torch.manual_seed(0)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=int(config["rounds"]),
    )
    Path(str(config["out"])).write_text(json.dumps(strategy.rounds))
