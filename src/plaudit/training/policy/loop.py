"""Policy optimisation on language (N4): sample → score → shape → estimate → update → record."""

from dataclasses import replace

from plaudit.hardware.profile import part
from plaudit.runs.folder import Run
from plaudit.scoring.combine import part_metrics, tell_step
from plaudit.telemetry.console import warn
from plaudit.telemetry.progress import Stopwatch
from plaudit.telemetry.summary import summary
from plaudit.training import state
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Cursor, Pending, from_state, to_state
from plaudit.training.policy.estimation import agreement, estimate
from plaudit.training.policy.held_out import is_due, watched
from plaudit.training.policy.metrics import describe, mean_kl, results, summarise
from plaudit.training.policy.participants import Participants, participants
from plaudit.training.policy.rollout_records import rollout_rows
from plaudit.training.policy.scored import roll_out, score
from plaudit.training.policy.shaping import shape
from plaudit.training.policy.update import drift, ppo_step


def ppo(config: PPOConfig, run: Run) -> None:
    """Train what the config names; see `optimise`."""
    optimise(participants(config, run), config, run)


def optimise(participants: Participants, config: PPOConfig, run: Run) -> None:
    """Train the policy. One iteration = sample → score → shape → estimate → update → record (N4.11).

    Differs from InstructGPT (Ouyang et al. 2022): several epochs by default; text is learned beside only on request.
    Differs from lm-human-preferences (Ziegler et al. 2019): the advantages are estimated and whitened once an
    iteration over all its tokens, not in each minibatch; β is constant by default; padding counts nowhere.
    Differs from both on request: `critic: null` with `advantage: returns` is REINFORCE (Williams 1992).

    A stop may come between any two updates: `cursor` and `pending` are all that a resumed run needs beside the weights.
    """
    cursor, pending = from_state(*state.restore(run, participants.actor, participants.optimizer), config)
    if cursor != Cursor.start(config) and not participants.engine.capabilities.exact_replay:
        warn("engine: it draws by random numbers of its own, so the run goes on, but not token by token as before")

    def save() -> None:
        facts, tensors = to_state(cursor, pending, config)
        state.save(run, cursor.step(config), participants.actor, participants.optimizer, facts, tensors)

    saved = state.saved_on_stop(save, run, participants.machine.ranks)
    with saved, run.progress(config.iterations, start=cursor.iteration) as progress:
        if config.evaluation and cursor == Cursor.start(config) and pending is None:
            watch, metrics = watched(participants, config, run, cursor.watch, 0)
            cursor = replace(cursor, watch=watch)
            run.log(0, metrics)
        while cursor.iteration < config.iterations and not cursor.watch.is_over(config):
            run.check_stop()
            if pending is None:
                # 1. sample: y ~ π_old(· | x)                                        response_ids, response_mask [B R]
                with Stopwatch() as sampling, part("sample"):
                    rollout = roll_out(participants, config, cursor.iteration)

                # 2. score: what judge, policy, critic and reference say             scores [B], log-probs, values [B R]
                tell_step(participants.scorer, cursor.iteration + 1, config.iterations)
                with Stopwatch() as scoring, part("score"):
                    scored = score(participants, rollout, config)

                # 3. shape: score and price of the KL become one number per token    rewards [B R]
                kl_coef = cursor.coefficients.kl
                rewards, moments = shape(scored, config, kl_coef=kl_coef, scores_seen=cursor.scores_seen)

                # 4. estimate: how much better than expected was each token?         advantages, returns [B R]
                agreed = agreement(scored, config)
                experience = estimate(scored, rewards, agreed, config)

                before = describe(scored, experience, agreed, config, cursor.coefficients)
                before |= {"seconds_sample": sampling.seconds, "seconds_score": scoring.seconds}
                renderer, count = participants.language.decoder_renderer, config.keep_rollouts
                in_reward = kl_coef if config.kl.into == "reward" else 0.0
                rows = rollout_rows(scored, experience, renderer, count=count, kl_coef=in_reward)
                run.write_rollouts(cursor.iteration + 1, rows)
                cursor = replace(cursor, scores_seen=moments)
                pending = Pending(experience=experience, metrics=before | part_metrics(participants.scorer))

            # 5. update: epochs of minibatches over the same experience
            with Stopwatch() as updating, part("update"):
                while not pending.is_done(cursor, config):
                    run.check_stop()
                    update = ppo_step(participants, pending.experience, config, cursor, run)
                    cursor, pending = cursor.after(update, config), pending.after(update)
                    if cursor.step(config) % config.save_every == 0 and not pending.is_done(cursor, config):
                        save()

            # 6. record, and let the controllers of the coefficients look at what was measured
            metrics = {**pending.metrics, **summarise(pending, config), "seconds_update": updating.seconds}
            metrics["skipped_updates"] = cursor.skipped.total
            watch = cursor.watch
            if is_due(cursor.iteration + 1, config):
                watch, measured = watched(participants, config, run, watch, cursor.iteration + 1)
                metrics |= measured
            run.log(cursor.iteration + 1, metrics)
            shown = {"score": metrics["score_over_responses"], "KL": metrics["kl_ref_over_responses"]}
            progress.update(cursor.iteration + 1, shown)
            kl_old = drift(participants, pending.experience, config)
            cursor = replace(cursor, watch=watch)
            cursor, pending = cursor.next(config, mean_kl(pending.experience), kl_old), None
            if cursor.is_save_due(config) or watch.is_over(config):
                save()
    state.save_policy(run, participants.loaded)
    best = {"best_policy": cursor.watch.facts(config)} if config.evaluation else {}
    best_iteration = None if cursor.watch.best is None else cursor.watch.best_iteration
    run.finish(summary(results(run.files.metrics, run.stage, config, best_iteration), **best))
