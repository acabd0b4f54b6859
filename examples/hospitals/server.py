"""The server: FedAvg as before, with the adversary around it."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from net import Net

from adversary import Adversary, TrainingRecipe
from adversary.attacks import ING
from adversary.report.ledger import Ledger
from adversary.storage.run_folder import RunFolder
from strategies import HonestButCurious

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation, and write a report without any truth at hand."""
    config = context.run_config
    folder = RunFolder.create(str(config["out"]), overwrite=True, title="two hospitals")
    ledger = Ledger(folder)
    strategy = HonestButCurious(
        FedAvg(fraction_evaluate=0.0),
        Adversary(
            Net(), image_shape=(1, 28, 28), attacks=[ING(iterations=int(config["iterations"]))]
        ),
        TrainingRecipe(lr=0.1, batch_size=1),  # what the clients are told to do
        ledger=ledger,
    )
    arrays = ArrayRecord(Net().state_dict())
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(config["rounds"]))
    ledger.close("completed")
