"""Proximal policy optimisation on language (N4): sample → score → shape → estimate → update → record."""

from dataclasses import replace

from plaudit.models.checkpoint import export
from plaudit.runs.folder import Run
from plaudit.scoring.combine import part_metrics
from plaudit.telemetry.progress import Stopwatch
from plaudit.telemetry.summary import summary
from plaudit.training import state
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Pending, from_state, is_save_due, position_of, step_of, to_state
from plaudit.training.policy.experience import drift, estimate, judge, roll_out
from plaudit.training.policy.metrics import describe, headline, mean_kl, rollout_rows, summarise
from plaudit.training.policy.participants import Participants, participants
from plaudit.training.policy.shaping import shape
from plaudit.training.policy.update import ppo_step


def ppo(config: PPOConfig, run: Run) -> None:
    """Train the policy that the config names by the judges that it names."""
    optimise(participants(config, run), config, run)


def optimise(setup: Participants, config: PPOConfig, run: Run) -> None:
    """Train the policy. One iteration = sample → score → shape → estimate → update → record (N4.11).

    Differs from InstructGPT (Ouyang et al. 2022): several epochs by default; text is learned beside only on request.
    Differs from lm-human-preferences (Ziegler et al. 2019): the advantages are estimated and whitened once an
    iteration over all its tokens, not in each minibatch; β is constant by default; padding counts nowhere.
    """
    cursor, pending = from_state(*state.restore(run, setup.actor, setup.optimizer), config)

    def save() -> None:
        facts, tensors = to_state(cursor, pending, config)
        state.save(run, step_of(cursor, pending, config), setup.actor, setup.optimizer, facts, tensors)

    with state.saved_on_stop(save), run.progress(config.iterations, start=cursor.iteration) as progress:
        while cursor.iteration < config.iterations:
            run.check_stop()
            if pending is None:
                # 1. sample: y ~ π_old(· | x)                                        response_ids, response_mask [B R]
                with Stopwatch() as sampling:
                    rollout = roll_out(setup, config, cursor.iteration)

                # 2. score: what judge, policy, critic and reference say             scores [B], log-probs, values [B R]
                with Stopwatch() as scoring:
                    judged = judge(setup, rollout, config)

                # 3. shape: score and price of the KL become one number a token      rewards [B R]
                shaped = shape(judged, config, kl_coef=cursor.coefficients.kl, scores_seen=cursor.scores_seen)

                # 4. estimate: how much better than expected was each token?         advantages, returns [B R]
                experience = estimate(judged, shaped, config)

                before = describe(judged, experience, config, cursor.coefficients) | part_metrics(setup.scorer)
                before |= {"seconds_sample": sampling.seconds, "seconds_score": scoring.seconds}
                rows = rollout_rows(judged, experience, setup.language, config, kl_coef=cursor.coefficients.kl)
                run.write_rollouts(cursor.iteration + 1, rows)
                cursor = replace(cursor, scores_seen=shaped.scores_seen)
                pending = Pending(experience=experience, metrics=before)

            # 5. update: epochs of minibatches over the same experience
            with Stopwatch() as updating:
                while not pending.is_done(config):
                    run.check_stop()
                    at = position_of(cursor, pending, config)
                    stats = ppo_step(setup, pending.experience, config, at, run)
                    cursor, pending = cursor.counting(stats, config, at.step), pending.plus(stats)
                    if (at.step + 1) % config.save_every == 0 and not pending.is_done(config):
                        save()

            # 6. record
            metrics = {**pending.metrics, **summarise(pending.updates, config), "seconds_update": updating.seconds}
            metrics["skipped_updates"] = cursor.skipped.total
            run.log(cursor.iteration + 1, metrics)
            progress.update(cursor.iteration + 1, headline(metrics))
            kl_old = drift(setup, pending.experience, config)
            cursor, pending = cursor.next(config, mean_kl(pending.experience), kl_old), None
            if is_save_due(cursor, config):
                save()
    with run.save_model() as folder:
        export(folder, setup.loaded, {"kind": "policy", "stage": "ppo"})
    run.finish(summary())
