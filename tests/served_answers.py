"""A server's responses to a split, computed with the tiny teacher."""

import json

import torch

from firstlib.models import loading


def responses(experiment, task, split, skip=0):
    """Yields the responses of a server with vLLM's `prompt_logprobs`, computed with the tiny teacher."""
    model, tokenizer = loading.load_base(experiment.settings.teacher).eval(), experiment.tokenizer()
    for example in experiment.run.data.encoded(task, split)[skip:]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.token_ids])).logits[0].double()
        logs = logits.log_softmax(-1)[:-1]
        top = logs.topk(6).indices.tolist()
        listed = [{*row, token} for row, token in zip(top, example.token_ids[1:], strict=True)]
        places = [None] + [
            {str(i): {"logprob": float(log[i]), "decoded_token": tokenizer.decode([i])} for i in ids}
            for log, ids in zip(logs, listed, strict=True)
        ]
        choice = {"prompt_token_ids": example.token_ids, "prompt_logprobs": places}
        yield {"custom_id": example.id, "choices": [choice]}


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
