"""A live server's answers as the knowledge of a run: asked when they are needed, and kept like imported ones."""

from pathlib import Path

from firstlib.experiment.data import RunData
from firstlib.experiment.import_logprobs import import_split
from firstlib.experiment.requests import check_form
from firstlib.knowledge.servers.live import Server, ask_server, first_model
from firstlib.knowledge.servers.matching import Rules
from firstlib.knowledge.servers.requests import requests
from firstlib.runtime import distributed
from firstlib.settings.schema import Task


def serve(data: RunData, task: Task, split: str, to: Path) -> None:
    """Asks the server for a split, and writes the store `<to>/<task>-<split>`; the responses stay beside it.

    Raises:
        UserError: The server cannot be asked, or nothing that it says can be used.
    """
    if distributed.rank() == 0:
        kept = data.settings.knowledge
        server = Server(kept.server or "", kept.server_key, kept.server_concurrency)
        to.mkdir(parents=True, exist_ok=True)
        responses = to / f"{task}-{split}-responses.jsonl"
        items = data.source.items(task, split)
        check_form(data.settings, kept.server_form)
        model = kept.server_model or first_model(server)
        ask_server(server, requests(items, kept.server_form, model, kept.k), responses, len(items))
        import_split(data, responses, task, split, to, Rules(kept.k))
    distributed.barrier()
