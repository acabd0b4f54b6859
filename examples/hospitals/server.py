"""The server: FedAvg as before, with the adversary around it."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from net import Net

from adversary.attacks import ING
from strategies import curious

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation, and write a report without any truth at hand."""
    config = context.run_config
    strategy = curious(
        FedAvg(fraction_evaluate=0.0),
        Net(),
        image_shape=(1, 28, 28),
        attacks=[ING(iterations=int(config["iterations"]))],
        out=str(config["out"]),
        lr=0.1,  # what the clients are told to do
        batch_size=1,
    )
    arrays = ArrayRecord(Net().state_dict())
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(config["rounds"]))
