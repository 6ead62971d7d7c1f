"""One-line mistakes in what several processes share out and add up (`make mutants`)."""

from tools.mutation import trained

PARALLEL = "engines/test_parallel.py"
RANKS = "training/test_ranks.py::test_"
GRADIENT = f"{RANKS}the_gradient_of_a_minibatch_is_the_same_on_every_number_of_ranks"
RUN = f"{RANKS}a_run_is_the_same_on_every_number_of_ranks"
STOP = f"{RANKS}a_signal_to_one_rank_stops_all_at_the_same_step"

MUTATIONS = (
    trained(
        "hardware/ranks",
        "            if rank == self.rank:",
        "            if rank <= self.rank:",
        PARALLEL,
        "a row counted by two ranks",
    ),
    trained(
        "hardware/ranks",
        "            loads[rank] += lengths[row]",
        "            loads[rank] += 1",
        PARALLEL,
        "shares of equal row counts: a rank with the long rows holds up the others",
    ),
    trained(
        "hardware/ranks",
        "            flat = self.sum(torch.cat([grad.reshape(-1) for grad in grads]))",
        "            flat = self.sum(torch.cat([grad.reshape(-1) for grad in grads])) / self.world",
        PARALLEL,
        "gradients averaged over ranks, as DistributedDataParallel does: a mean of sums that were divided already",
    ),
    trained(
        "hardware/ranks",
        "        for bucket in _buckets([p for p, count in zip(trained, holders, strict=True) if count]):",
        "        for bucket in _buckets([p for p in trained if p.grad is not None]):",
        PARALLEL,
        "a rank without rows leaves the sum to the others: they wait for ever, or add up the wrong parameters",
    ),
    trained(
        "hardware/ranks",
        "        return functools.reduce(operator.add, records)",
        "        return stats",
        PARALLEL,
        "each rank's own statistics, by which they then stop at different times",
    ),
    trained(
        "training/optim",
        "    ranks.sum_gradients(parameters)",
        "    ranks.wait()",
        RUN,
        "every rank steps by its own gradient",
    ),
    trained(
        "training/policy/experience",
        "    return place.ranks.gather_tensors(out)",
        "    return out",
        RUN,
        "log-probs and values of the other ranks' rows are 0",
    ),
    trained(
        "training/reward/objective",
        "    return pace.place.ranks.add_counts(sums)",
        "    return sums",
        GRADIENT,
        "the first rank's share of the loss is logged as the whole",
    ),
    trained(
        "training/sft",
        "    num_tokens = sum(len(response) for _, response in rows)",
        "    num_tokens = sum(len(rows[i][1]) for i in place.ranks.share(len(p) + len(r) for p, r in rows))",
        GRADIENT,
        "each rank divides by its own tokens: means of ragged parts, added up",
    ),
    trained(
        "runs/folder",
        "        if signum := self.ranks.largest(self.signals.requested):",
        "        if signum := self.signals.requested:",
        STOP,
        "a signal stops one rank, and the others wait for it",
    ),
)
