"""A linear-chain conditional random field over the words of a sentence, and the entities that tags stand for.

docs/concepts/method.md, section 6.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn


def bio_violations(labels: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which starts and transitions break the BIO scheme: I-X is only valid after B-X or I-X.

    Returns:
        start (N,) and transitions (N, N) [from, to], bool, True = invalid. A type that has no B- label is left free, so
        label sets that are not BIO get no constraint.
    """
    inside = torch.tensor([label.startswith("I-") and f"B-{label[2:]}" in labels for label in labels])
    same_type = torch.tensor([[a[1:2] == "-" and a[2:] == b[2:] for b in labels] for a in labels])
    return inside, inside[None, :] & ~same_type


def entity_type(label: str) -> str:
    """The type that a label names, with a prefix or without: PER of B-PER, I-PER and PER."""
    return label[2:] if label[:2] in ("B-", "I-") else label


class LinearChainCRF(nn.Module):
    """Start, transition and end scores; negative log-likelihood, Viterbi decoding and marginals.

    All masks are (B, W), 1 on the words, with the words of a sentence first; a sentence may have none. Everything is
    computed in float32, also under autocast; probabilities in float64 on the CPU, as over thousands of words the
    rounding of float32 would add up to per cents.

    Args:
        num_labels: number of tags (N).

    Example:

    >>> crf = LinearChainCRF(num_labels=9)
    >>> emissions, mask = torch.randn(2, 7, 9), torch.ones(2, 7, dtype=torch.bool)
    >>> crf(emissions, torch.zeros(2, 7, dtype=torch.long), mask).shape
    torch.Size([2])
    >>> len(crf.viterbi(emissions, mask)[0])
    7
    """

    def __init__(self, num_labels: int):
        super().__init__()
        self.start_transitions = nn.Parameter(torch.empty(num_labels))
        self.end_transitions = nn.Parameter(torch.empty(num_labels))
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels))  # [from, to]
        self.reset_parameters()

    def reset_parameters(self):
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """-log p(tags | emissions) of each sentence.

        Args:
            emissions: (B, W, N) scores.
            tags: (B, W) tag ids; ignored where the mask is 0.

        Returns:
            (B,); 0 for a sentence without words.
        """
        with torch.autocast(emissions.device.type, enabled=False):
            emissions, mask = emissions.float(), mask.bool()
            tags = tags.masked_fill(~mask, 0)
            # log Z = logsumexp_j(log alpha_T(j) + b_j), section 6
            log_z = torch.logsumexp(self._forward_scores(emissions, mask)[-1] + self.end_transitions.float(), dim=-1)
            loss = log_z - self._path_score(emissions, tags, mask)
            return torch.where(mask.any(1), loss, loss.new_zeros(()))

    def _path_score(self, emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """a_{y_1} + sum_t e_{t, y_t} + sum_{t > 1} A_{y_{t-1}, y_t} + b_{y_T} (B,), section 6."""
        start, end, transitions = (p.float() for p in (self.start_transitions, self.end_transitions, self.transitions))
        emitted = emissions.gather(2, tags[..., None]).squeeze(2)  # (B, W)
        steps = transitions[tags[:, :-1], tags[:, 1:]]  # (B, W-1)
        last = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)  # (B,)
        return start[tags[:, 0]] + (emitted * mask).sum(1) + (steps * mask[:, 1:]).sum(1) + end[last]

    def _forward_scores(self, emissions: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """log alpha_w (B, N) for each word; past the end of a sentence the last one is carried on."""
        transitions = self.transitions.to(emissions)
        alphas = [self.start_transitions.to(emissions) + emissions[:, 0]]  # log alpha_1(j) = a_j + e_{1, j}, section 6
        for w in range(1, emissions.shape[1]):
            # log alpha_w(j) = logsumexp_i(log alpha_{w-1}(i) + A_{i, j}) + e_{w, j}
            alpha = torch.logsumexp(alphas[-1][:, :, None] + transitions, dim=1) + emissions[:, w]
            alphas.append(torch.where(mask[:, w, None], alpha, alphas[-1]))
        return alphas

    def _backward_scores(self, emissions: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """log beta_w (B, N) for each word; the end score at the last word of a sentence."""
        transitions, end = self.transitions.to(emissions), self.end_transitions.to(emissions)
        betas = [end.expand_as(emissions[:, 0])]  # log beta_T(i) = b_i, section 6
        for w in range(emissions.shape[1] - 1, 0, -1):
            # log beta_{w-1}(i) = logsumexp_j(A_{i, j} + e_{w, j} + log beta_w(j))
            beta = torch.logsumexp(transitions + (emissions[:, w] + betas[-1])[:, None, :], dim=2)
            betas.append(torch.where(mask[:, w, None], beta, betas[-1]))
        return betas[::-1]

    @torch.no_grad()
    def marginals(self, emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """p(tag of word w | emissions) from forward-backward: (B, W, N), 0 where the mask is 0."""
        device, (emissions, mask) = emissions.device, (emissions.cpu().double(), mask.cpu().bool())
        alpha = torch.stack(self._forward_scores(emissions, mask), dim=1)
        beta = torch.stack(self._backward_scores(emissions, mask), dim=1)
        # p(y_w = j) = alpha_w(j) beta_w(j) / Z, section 6
        return ((alpha + beta).softmax(-1) * mask[..., None]).float().to(device)

    @torch.no_grad()
    def span_probabilities(self, emissions: torch.Tensor, mask: torch.Tensor, spans: list[list[tuple]]) -> list[list]:
        """p(words have tags and their neighbours do not have certain others | emissions), for spans of each sentence.

        Args:
            spans: for each sentence a list of (first word, tag ids of the words, tag ids that the word before
                must not have, tag ids that the word after must not have).

        Returns:
            One list of probabilities a sentence.

        Raises:
            ValueError: a span that is not in its sentence.
        """
        emissions, mask = emissions.cpu().double(), mask.cpu().bool()
        alpha, beta = self._forward_scores(emissions, mask), self._backward_scores(emissions, mask)
        start, transitions, end = (
            scores.to(emissions) for scores in (self.start_transitions, self.transitions, self.end_transitions)
        )
        log_z = torch.logsumexp(alpha[-1] + end, dim=-1).tolist()
        # numpy: its calls on a few numbers take a tenth of the time
        scores, first_score, last_score, steps = (x.numpy() for x in (emissions, start, end, transitions))
        alphas, betas = ([x.numpy() for x in rows] for rows in (alpha, beta))
        probabilities: list[list[float]] = []
        for b, (sentence, length) in enumerate(zip(spans, mask.sum(1).tolist(), strict=True)):
            probabilities.append([])
            for first, tags, not_before, not_after in sentence:
                last = first + len(tags) - 1
                if not 0 <= first <= last < length:
                    raise ValueError(
                        f"span {(first, tags)!r} is empty or not in its sentence of {length} words; e.g. (0, [1])"
                    )
                # l + sum_t e_{t, c_t} + sum_t A_{c_{t-1}, c_t} + r - log Z over the words of the span, section 6
                if first == 0:
                    score = first_score[tags[0]]  # l = a_{c_first}
                else:  # l = logsumexp_i(log alpha_{first-1}(i) + A_{i, c_first}) over the tags allowed before
                    before = alphas[first - 1][b] + steps[:, tags[0]]
                    before[list(not_before)] = -np.inf
                    score = np.logaddexp.reduce(before)
                score = score + sum(scores[b, first + i, tag] for i, tag in enumerate(tags))
                score = score + sum(steps[pair] for pair in pairwise(tags))
                if last == length - 1:
                    score = score + last_score[tags[-1]]  # r = b_{c_last}
                else:  # r = logsumexp_j(A_{c_last, j} + e_{last+1, j} + log beta_{last+1}(j)) over those allowed after
                    after = steps[tags[-1]] + scores[b, last + 1] + betas[last + 1][b]
                    after[list(not_after)] = -np.inf
                    score = score + np.logaddexp.reduce(after)
                probabilities[-1].append(min(float(np.exp(score - log_z[b])), 1.0))
        return probabilities

    @torch.no_grad()
    def viterbi(
        self,
        emissions: torch.Tensor,
        mask: torch.Tensor,
        invalid: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> list[list[int]]:
        """The best tag sequence of each sentence.

        Args:
            invalid: start (N,) and transitions (N, N) that must not be used, as `bio_violations` gives them.

        Returns:
            One list of tag ids a sentence, as long as its number of words.
        """
        emissions, mask = emissions.float(), mask.bool()
        start, transitions = self.start_transitions.float(), self.transitions.float()
        if invalid is not None:
            start = start.masked_fill(invalid[0].to(start.device), float("-inf"))
            transitions = transitions.masked_fill(invalid[1].to(start.device), float("-inf"))
        score = start + emissions[:, 0]
        history = []
        for w in range(1, emissions.shape[1]):
            best, previous = (score[:, :, None] + transitions).max(dim=1)
            score = torch.where(mask[:, w, None], best + emissions[:, w], score)
            history.append(previous)
        last = (score + self.end_transitions.float()).argmax(-1).tolist()
        lengths = mask.sum(1).tolist()
        backward = torch.stack(history, dim=1).tolist() if history else [[] for _ in last]
        paths = []
        for tag, length, steps in zip(last, lengths, backward, strict=True):
            path = [tag] if length else []
            for previous in reversed(steps[: max(length - 1, 0)]):
                path.append(previous[path[-1]])
            paths.append(path[::-1])
        return paths


def independent_words(num_labels: int, device: torch.device) -> LinearChainCRF:
    """A chain whose start, transition and end scores are 0: each word's tag depends on its own emissions alone."""
    with torch.device("meta"):  # its random start would move the random numbers of a training that evaluates
        chain = LinearChainCRF(num_labels)
    chain = chain.to_empty(device=device).requires_grad_(False)
    for parameter in chain.parameters():
        parameter.zero_()
    return chain


def find_entities(tags: list[str]) -> list[tuple[int, int, str]]:
    """The entities (first word, last word exclusive, type) of a tag sequence, read as conlleval and seqeval do.

    An I- after another type, or after none, begins an entity too, and a tag without prefix is as an I-.

    >>> find_entities(["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-ORG"])
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC'), (5, 6, 'ORG')]
    """
    entities, start, current = [], 0, None
    for word, tag in enumerate([*tags, "O"]):
        kind = None if tag == "O" else entity_type(tag)
        if current is not None and (kind != current or tag.startswith("B-")):
            entities.append((start, word, current))
            current = None
        if kind is not None and current is None:
            start, current = word, kind
    return entities


def entity_types(names: list[str]) -> list[str]:
    """The types of a list of tags, in its order."""
    return list(dict.fromkeys(entity_type(name) for name in names if name != "O"))


def tags_of(kind: str, length: int, names: dict[int, str]) -> list[int]:
    """The tag ids of an entity of so many words."""
    ids = {name: i for i, name in names.items()}
    inside = next(ids[name] for name in (f"I-{kind}", kind, f"B-{kind}") if name in ids)
    return [ids.get(f"B-{kind}", inside), *[inside] * (length - 1)]


__all__ = [
    "LinearChainCRF",
    "bio_violations",
    "entity_type",
    "entity_types",
    "find_entities",
    "independent_words",
    "tags_of",
]
