"""Several processes, on one machine or more, share a node's work; see docs/distributed.md.

Torch's elastic agent starts them and starts them again where one dies. What they finish, they save
as a node saves what it has finished, in a folder that all machines see. The node then goes on as
after a kill, and finds nothing left to do; so its results do not depend on who did the work.
"""

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lymphocytosis import display
from lymphocytosis.errors import UserError, brief
from lymphocytosis.parameters import (
    ComputeParameters,
    EncoderParameters,
    MilParameters,
    PretextParameters,
)
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

# So often the agent starts all processes again before it gives up.
RESTARTS = 3
# What the processes work on, among the node's finished parts.
_JOB = "job"


def is_first(compute: ComputeParameters) -> bool:
    """Whether this machine is the one that the rendezvous names, which alone saves results.

    Args:
        compute: the block `compute` of the parameters.

    Raises:
        UserError: the name in the address is unknown here.
    """
    if compute.rendezvous is None:
        return True
    try:
        address = socket.gethostbyname(compute.rendezvous.rpartition(":")[0])
    except socket.gaierror as error:
        raise UserError(
            f"compute.rendezvous is {compute.rendezvous}, and this machine knows no such name "
            f"({error}). Give the first machine's address as all machines reach it."
        ) from error
    try:
        socket.create_server((address, 0)).close()
    except OSError:  # another machine's address
        return False
    return True


def share(entry: str, progress: Progress, job: dict[str, Any], compute: ComputeParameters) -> None:
    """Have several processes do a node's work.

    Args:
        entry: what the node makes; one of `SHARED`.
        progress: where they save what they have finished.
        job: what they need to know: arrays, tensors and plain values.
        compute: the block `compute` of the parameters.

    Raises:
        UserError: as `join`.
    """
    import torch

    arrays = {k: torch.tensor(v) for k, v in job.items() if isinstance(v, np.ndarray)}
    progress.save_values(_JOB, {**job, **arrays})
    join(entry, progress, compute)


def join(entry: str, progress: Progress, compute: ComputeParameters) -> None:
    """Start this machine's processes, and wait until those of all machines have done the work.

    Args:
        entry: what the work is for; one of `SHARED`.
        progress: where the job is once all machines have met, and what is finished.
        compute: the block `compute` of the parameters.

    Raises:
        UserError: the machines did not meet, or a process failed; with its own message.
    """
    import torch
    from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    cards = torch.cuda.device_count()
    if compute.accelerator != "cpu" and 0 < cards < compute.processes:
        raise UserError(
            f"compute.processes is {compute.processes}, and this machine has {cards} GPU(s): each "
            "process needs its own."
        )
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = max(1, torch.get_num_threads() // compute.processes)
    logger.info(
        "%s: %d process(es) on each of %d machine(s), %d thread(s) each",
        *(entry, compute.processes, compute.nodes, threads),
    )
    method = "spawn"
    if "forkserver" in get_all_start_methods():
        # Imported once, not by each process, nor again after a restart.
        method = "forkserver"
        get_context(method).set_forkserver_preload(["__main__", *_IMPORTED])
    # After a restart, processes would find each other's old addresses in the agent's store.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    handlers = {each: signal.getsignal(each) for each in signal.Signals if each.name in _HANDLED}
    first = is_first(compute)
    host, _, port = (compute.rendezvous or "").rpartition(":")
    try:
        if compute.rendezvous and first and compute.rendezvous not in _HELD:
            _HELD[compute.rendezvous] = TCPStore(
                host, int(port), is_master=True, wait_for_workers=False, multi_tenant=True
            )
        with TemporaryDirectory() as logs:
            config = LaunchConfig(
                min_nodes=compute.nodes,
                max_nodes=compute.nodes,
                nproc_per_node=compute.processes,
                # Another run at the same address is another rendezvous.
                run_id=sha256(str(progress.folder).encode()).hexdigest(),
                rdzv_backend="c10d",
                rdzv_endpoint=compute.rendezvous or "localhost:0",
                rdzv_configs={
                    "is_host": first,
                    "join_timeout": compute.rendezvous_timeout,
                    "read_timeout": compute.rendezvous_timeout,
                },
                local_addr=_own_address(host, int(port)) if host else "localhost",
                max_restarts=RESTARTS,
                start_method=method,
                logs_specs=DefaultLogsSpecs(log_dir=logs),
            )
            told = elastic_launch(config, _work)(entry, progress, threads)
    except RendezvousClosedError as error:
        if first:
            raise UserError(
                f"{entry}: this process has shared this work at {compute.rendezvous} before. Start "
                "the run in a new process."
            ) from error
        told = {}  # done without this machine, which was started again
    except (RendezvousError, DistNetworkError) as error:
        raise UserError(
            f"compute.rendezvous {compute.rendezvous}: {compute.nodes} machines did not meet there "
            f"within {compute.rendezvous_timeout} s ({brief(error)}). Start the same command on "
            "each; all must reach the first one at this address and port."
        ) from error
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        said: Any = failure.message
        if isinstance(said, dict):
            logger.error(said["extraInfo"]["py_callstack"])
            said = said["message"].partition("\n")[0]
        raise UserError(
            f"{entry}: a process failed {RESTARTS + 1} times, at last with {said}. What was "
            "finished is kept: the same command goes on from there."
        ) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise SystemExit(128 + error.sigval) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if messages := [message for message in told.values() if message]:
        raise UserError(messages[0])


def _own_address(host: str, port: int) -> str | None:
    """The address by which other machines reach this one; its host's name may lead elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((host, port))  # sends nothing
        address: str = probe.getsockname()[0]
        return address
    return None


def _work(entry: str, progress: Progress, threads: int) -> str | None:
    """What each process does; returns what the user can fix, as starting again would not."""
    import torch

    threading.Thread(target=_end_with_run, daemon=True).start()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(threads)
    if rank:
        logging.disable(logging.WARNING)  # the first process says the same
    else:
        display.show_here()
        if again := int(os.environ["TORCHELASTIC_RESTART_COUNT"]):
            logger.warning(
                "A process ended early, so all were started again: %d of %d times", again, RESTARTS
            )
    job = progress.values(_JOB)
    if job is None:
        return (
            f"compute.nodes: {socket.gethostname()} can't read what the first machine saved in "
            f"{progress.folder}. All machines need the same workspace, at the same path."
        )
    if job["compute"]["accelerator"] != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        SHARED[entry](job, progress, rank, count)
    except UserError as error:
        return str(error)
    return None


def _end_with_run() -> None:
    """End this process once the run has ended, even if the run was killed."""
    if (run := parent_process()) is not None:
        run.join()
        os._exit(1)


def _pretrain(job: dict[str, Any], progress: Progress, rank: int, count: int) -> None:
    """Train the encoder; all processes are at the same step."""
    # DDP's: of an option without which older versions can't do, and of a matter of speed.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated|Grad strides do not match")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    from lymphocytosis.imaging.store import map_pixels
    from lymphocytosis.pretext.task import build_task
    from lymphocytosis.pretext.training import pretrain

    encoder, pretext = EncoderParameters(**job["encoder"]), PretextParameters(**job["pretext"])
    compute, seed = ComputeParameters(**job["compute"]), job["seed"]
    rows, shown, owner = (job[name].numpy() for name in ("rows", "shown", "owner"))
    images = map_pixels(Path(job["pixels"]))
    task = build_task(encoder, pretext, images, rows, seed)
    pretrain(task, images, rows, shown, pretext, compute, seed, progress, owner, together=True)


def _embed(job: dict[str, Any], progress: Progress, rank: int, count: int) -> None:
    """Embed this process's shards."""
    import pandas as pd

    from lymphocytosis.encoders.checkpoint import unpack
    from lymphocytosis.encoders.embed import embed_in_shards
    from lymphocytosis.imaging.store import map_pixels
    from lymphocytosis.imaging.views import view_of

    model, _ = unpack(job["autoencoder"])
    compute = ComputeParameters(**job["compute"])
    for _ in embed_in_shards(
        model,
        map_pixels(Path(job["pixels"])),
        pd.DataFrame(job["cells"]).set_index("row"),
        job["views"],
        view_of,
        compute,
        progress,
        job["least"],
        (rank, count),
        job["graph"].numpy().tobytes() or None,
    ):
        pass


def _classify(job: dict[str, Any], progress: Progress, rank: int, count: int) -> None:
    """Train the classifiers of this process's splits."""
    import pandas as pd

    from lymphocytosis.compute import start_fabric
    from lymphocytosis.mil.bags import Bags
    from lymphocytosis.mil.suite import train_suite

    arrays = {name: job[name].numpy() for name in ("first", "size", "patient", "label")}
    bags = Bags(
        instances=job["instances"],
        **arrays,
        view=job["view"],
        clinical=job["clinical"],
        image_id=np.empty(0, object),  # training does not ask for it
        encoder=job["encoder"],
    )
    patients, splits = pd.DataFrame(job["patients"]), pd.DataFrame(job["splits"])
    mil, compute = MilParameters(**job["mil"]), ComputeParameters(**job["compute"])
    if rank < splits["split"].nunique():
        fabric = start_fabric(compute)
        train_suite(bags, patients, splits, mil, job["seed"], fabric, progress, (rank, count))


# The entries whose nodes share their work.
SHARED: dict[str, Callable[[dict[str, Any], Progress, int, int], None]] = {
    "autoencoder": _pretrain,
    "embeddings": _embed,
    "large_classifiers": _classify,
    "small_classifiers": _classify,
}
# The rendezvous of this process. It stays open between two nodes: machines may already wait there.
_HELD: dict[str, Any] = {}
_IMPORTED = ("lymphocytosis.encoders.embed", "lymphocytosis.pretext.training")
# Those that the agent handles, and does not give back.
_HANDLED = {"SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"}
