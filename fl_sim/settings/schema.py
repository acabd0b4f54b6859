"""Every setting of a run: one frozen dataclass a section, checked all at once.

Flower hands the run config over as one flat mapping (``{"adversary.attack": "dlg"}``) and checks
no types, so :func:`parse` does, and names every mistake in one go.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fl_sim.settings import names
from fl_sim.settings.options import Options
from fl_sim.settings.rules import MONITORS, setting
from strategies.registry import STRATEGY_NAMES


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """``data.*``: whose X-rays, at what size, dealt out how."""

    name: str = setting("sample", "data set", choices=names.DATASETS)
    path: str = setting("", "file or folder of the data set, where it needs one")
    labels: str = setting("", "label columns of a folder's CSV file, comma-separated; empty is all")
    uncertain: str = setting(
        "refuse",
        "what labels of -1 in a CSV file count as; with zeros and ones, empty cells are 0",
        choices=names.UNCERTAIN,
    )
    columns: str = setting(
        "", "what columns of a table mean where their names do not tell, e.g. 'path = Scan'"
    )
    patients: str = setting(
        "auto",
        "who is in an image of one's own: as tables, folders and files tell, or each image, each "
        "folder, or each first part of a file's name is a patient",
        choices=names.PATIENTS,
    )
    max_value: float = setting(
        0.0, "what is white in pictures of more than 8 bits; 0 is the format's own", minimum=0
    )
    on_error: str = setting(
        "stop",
        "whether an image that cannot be read ends the run or is left out, and told",
        choices=names.ON_ERROR,
    )
    image_size: int = setting(64, "images are squares of this many pixels", minimum=8, maximum=1024)
    channels: int = setting(1, "1 (grey) or 3", minimum=1, maximum=3)
    num_images: int = setting(0, "use at most this many images; 0 is all (phantom: 512)", minimum=0)
    public: int = setting(
        0,
        "X-rays that are public, for the attacker's prior; 0 is those that the data set itself "
        "calls public, or 4",
        minimum=0,
    )
    test_fraction: float = setting(
        0.2, "share held out for testing, where the set has no split", minimum=0, maximum=0.9
    )
    validation_fraction: float = setting(
        0.0, "share of each client's X-rays that it validates on and never trains on, by patient",
        minimum=0, maximum=0.9,
    )  # fmt: skip
    partition: str = setting("iid", "how patients are dealt to clients", choices=names.PARTITIONS)
    alpha: float = setting(
        0.5, "Dirichlet concentration of the dirichlet and quantity partitions", above=0
    )
    sizes: str = setting(
        "",
        "images of each client, comma-separated, in place of a partition; the rest is with nobody",
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """``model.*``: the classifier that the federation trains."""

    name: str = setting("convnet", "architecture", choices=names.MODELS)
    activation: str = setting("gelu", "activation of the convnet model", choices=names.ACTIVATIONS)
    norm: str = setting(
        "batch",
        "batch normalisation, or group normalisation in its place",
        choices=names.NORMS,
    )
    weights: str = setting(
        "", "first weights: imagenet (torchvision's), a checkpoint's path, or empty for random ones"
    )
    mean: str = setting(
        "",
        "what the model's images are less, before std divides them, in [0, 1]: a number or one a "
        "channel, comma-separated, as its checkpoint was trained; empty is the model's own",
    )
    std: str = setting("", "what divides the model's images, likewise")
    loss: str = setting(
        "cross-entropy",
        "softmax cross-entropy, or binary cross-entropy per label",
        choices=lambda: ("cross-entropy", "bce"),
    )
    class_weights: str = setting(
        "",
        "against imbalance: balanced (by the label counts of all clients), or a weight a class "
        "(for bce: of each label's positive images); empty is none",
    )
    batch_norm: str = setting(
        "train",
        "batch normalisation with the batch's statistics or the running ones",
        choices=lambda: ("train", "eval"),
    )


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """``local.*``: what a client does with the model in a round."""

    epochs: int = setting(1, "passes over a client's data a round", minimum=1)
    batch_size: int = setting(1, "images a mini-batch", minimum=1)
    max_steps: int = setting(1, "mini-batches a round at most; 0 is no limit", minimum=0)
    drop_last: bool = setting(False, "let images that fill no whole mini-batch sit a round out")
    optimizer: str = setting(
        "sgd",
        "optimiser of the clients, anew every round",
        choices=names.CLIENT_OPTIMIZERS,
    )
    lr: float = setting(0.01, "learning rate", above=0)
    schedule: str = setting(
        "constant", "learning rate over time, from local.lr on", choices=names.SCHEDULES
    )
    schedule_over: str = setting(
        "rounds",
        "time of the schedule: the rounds of the run, or the local steps of each round anew",
        choices=lambda: ("rounds", "steps"),
    )
    decay: float = setting(0.1, "factor of the step schedule", above=0, maximum=1)
    decay_every: int = setting(
        10, "rounds or local steps between decays of the step schedule", minimum=1
    )
    momentum: float = setting(0.0, "momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(0.0, "weight decay of the optimiser", minimum=0, maximum=1)
    freeze: str = setting(
        "none",
        "what is neither trained nor sent; middle is all but the first convolution and the head",
        choices=names.FROZEN_PARTS,
    )


@dataclass(frozen=True, kw_only=True)
class StrategySettings:
    """``strategy.*``: how the server aggregates; any flwr strategy can be wrapped in code."""

    name: str = setting(
        "fedavg",
        "Flower strategy to wrap, in capital or small letters",
        choices=lambda: STRATEGY_NAMES,
        any_case=True,
    )
    options: Options = setting(
        Options(), "arguments of its own in one text, as Flower's run config has them: 'eta=0.1'"
    )
    fraction: float = setting(1.0, "share of the clients that train a round", above=0, maximum=1)
    evaluate_fraction: float = setting(
        1.0,
        "share of the clients that evaluate the model after a round; 0 is none",
        minimum=0,
        maximum=1,
    )
    proximal_mu: float = setting(0.1, "proximal term of fedprox", minimum=0)
    monitor: str = setting(
        "auc",
        "figure on the clients' validation X-rays that early stopping and plateaus go by",
        choices=lambda: MONITORS,
    )
    min_delta: float = setting(0.0, "gain of it that counts as one, beyond this", minimum=0)
    stop_patience: int = setting(
        0, "rounds without a gain after which training stops early; 0 is never", minimum=0
    )
    plateau_patience: int = setting(
        0, "rounds without a gain after which the learning rate is reduced; 0 is never", minimum=0
    )
    plateau_factor: float = setting(
        0.1, "factor by which a plateau reduces the learning rate", above=0, maximum=0.999
    )


@dataclass(frozen=True, kw_only=True)
class DefenceSettings:
    """``defence.*``: what changes an update before it leaves the client."""

    name: str = setting("none", "defence", choices=names.DEFENCES)
    options: Options = setting(
        Options(),
        "its parameters in one text, as Flower's run config has them: 'scale=0.1'",
    )


@dataclass(frozen=True, kw_only=True)
class AdversarySettings:
    """``adversary.*``: the honest-but-curious server."""

    enabled: bool = setting(True, "attack the updates")
    attack: str = setting(
        "standard", "attacks, comma-separated", choices=names.ATTACKS, several=True
    )
    effort: str = setting(
        "standard",
        "what the standard adversary may cost, and an automatic bound",
        choices=names.EFFORTS,
    )
    options: Options = setting(
        Options(),
        "parameters of attacks in one text, likewise: 'ing.tv=0.01, dlg.iterations=100'",
    )
    restarts: int = setting(
        0, "starts from different seeds, best by own score; 0 is the attack's own", minimum=0
    )
    start: str = setting(
        "own",
        "image that an attack starts from, or several, comma-separated, for its restarts in turn; "
        "own is the attack's own choice",
        choices=names.START_IMAGES,
        several=True,
    )
    start_image: str = setting("", "file of the image for start = 'image'")
    reading: str = setting(
        "auto",
        "how an update of several local steps is read; auto unrolls up to 16",
        choices=names.READINGS,
    )
    frames: int = setting(
        0,
        "pictures and figures of the process to keep of each restart, its result among them; 0 is "
        "none",
        minimum=0,
    )
    seconds: float = setting(0.0, "time limit of one attack; 0 is none", minimum=0)
    round_seconds: float = setting(
        0.0, "time limit of all attacks of a round, shared evenly; 0 is none", minimum=0
    )
    evaluations: int = setting(
        0, "limit of gradient evaluations of one attack; 0 is none", minimum=0
    )
    num_cpus: int = setting(
        1,
        "CPU threads of one attack; last digits of the results depend on it",
        minimum=1,
    )
    num_gpus: float = setting(
        0.0, "GPUs that Ray sets aside for one attack; 0.25 lets four share one", minimum=0
    )
    workers: int = setting(
        0, "attacks at once, beside the training (with Ray); 0 is one a core, up to 8", minimum=0
    )
    queue_limit: int = setting(
        64, "updates that may wait for their attack before the training waits", minimum=1
    )
    every: int = setting(1, "attack the first round and every n-th after it", minimum=1)
    clients: int = setting(0, "attack at most this many clients a round; 0 is all", minimum=0)
    choice: str = setting(
        "random",
        "which clients those are: drawn anew each round, or those of the fewest X-rays, which "
        "leak most",
        choices=lambda: ("random", "smallest"),
    )
    labels_known: bool = setting(False, "tell the attacker the true labels (an oracle)")
    defence_known: bool = setting(True, "tell the attacker which defence there is, as is public")
    bounds: str = setting(
        "auto",
        "the PSNR that no attacker is expected to exceed: off, a quick estimate unless it is quick "
        "to be exact (auto), or exact where memory allows (on)",
        choices=lambda: ("off", "auto", "on"),
    )
    identify: bool = setting(
        True, "look in each attacked update for candidates: who was in the training"
    )
    candidates: str = setting(
        "200",
        "patients beside those in the training, among whom these are looked for; 0 is all others. "
        "Or a folder or CSV file of X-rays to look for: nobody then knows who of them took part",
        count_or_path=True,
    )
    record: bool = setting(
        False, "keep every attacked update in the run folder, to attack it again"
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one run."""

    seed: int = setting(
        1, "the one seed that every random stream derives from", minimum=0, maximum=2**62
    )
    rounds: int = setting(3, "rounds of federated training", minimum=1)
    clients: int = setting(
        0, "number of clients; 0 takes the SuperNodes there are (4 with fl-sim run)", minimum=0
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    out: str = setting("results/run", "folder of the run", required=True)
    resume: bool = setting(False, "go on with the run in that folder after its last whole round")
    checkpoints: bool = setting(False, "keep the global model of every round in the run folder")
    loggers: str = setting(
        "",
        "where the figures of rounds and attacks go besides the folder, comma-separated",
        choices=lambda: tuple(LOGGERS),
        several=True,
        optional=True,
    )
    sensitive: bool = setting(
        False, "leave pictures of patients and names of files out of the report"
    )
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    local: LocalSettings = dataclasses.field(default_factory=LocalSettings)
    strategy: StrategySettings = dataclasses.field(default_factory=StrategySettings)
    defence: DefenceSettings = dataclasses.field(default_factory=DefenceSettings)
    adversary: AdversarySettings = dataclasses.field(default_factory=AdversarySettings)


SECTIONS: dict[str, type] = {
    "data": DataSettings,
    "model": ModelSettings,
    "local": LocalSettings,
    "strategy": StrategySettings,
    "defence": DefenceSettings,
    "adversary": AdversarySettings,
}


LOGGERS: dict[str, str] = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
"""The class of each, in the module of its name, imported when it is asked for."""
