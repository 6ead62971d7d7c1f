"""Mistakes in the reward models that are no decoders, and the tests that must notice (`make mutants`)."""

from tools.mutation import trained

ENCODERS, PAIRS, ASKED = "models/test_encoders.py", "training/test_pair_rewards.py", "training/test_seq2seq_rewards.py"
MUTATIONS = (
    trained(
        "models/encoders",
        "torch.where(keep, states, 0.0).sum(dim=1) / keep.sum(dim=1)",
        "states.mean(dim=1)",
        f"{ENCODERS}::test_pooling_by_hand_and_blind_to_padding",
        "mean pooling over padding",
    ),
    trained(
        "models/encoders",
        "torch.where(keep, states, -torch.inf)",
        "states * keep",
        f"{ENCODERS}::test_pooling_by_hand_and_blind_to_padding",
        "maximum over padding's 0",
    ),
    trained(
        "models/reward/reader_padded",
        "if i is not None and i != config.eos_token_id",
        "if i is not None",
        f"{ENCODERS}::test_padding_is_never_an_end_token",
        "T5's classifier reads an end token in the padding",
    ),
    trained(
        "models/reward/reader_padded",
        "if self.typed:",
        "if False:",
        f"{ENCODERS}::test_the_score_is_that_of_transformers",
        "token types forgotten: both texts look alike to BERT",
    ),
    trained(
        "models/load",
        "if tensor.data_ptr() % 64:",
        "if False:",
        "models/test_load.py::test_weights_do_not_stay_where_the_file_had_them",
        "what a model says depends on where its file put its weights",
    ),
    trained(
        "models/load",
        "positions -= hf.pad_token_id + 1",
        "positions -= 0",
        f"{ENCODERS}::test_roberta_has_room_for_fewer_tokens_than_positions",
        "RoBERTa's first positions belong to padding: an index error at full length",
    ),
    trained(
        "tokens/encode",
        "if len(response_ids) > max_length - 1 and closing:",
        "if False:",
        "tokens/test_pairs.py::test_what_is_cut_keeps_the_first_and_the_last_separator",
        "the last separator cut off",
    ),
    trained(
        "tokens/pairs",
        "first = prompt_length + min(self.frame.between_first, response_length)",
        "first = prompt_length",
        "tokens/test_pairs.py::test_both_parts_together_are_the_tokenizers_own_pair",
        "the separator behind the prompt counted to the answer",
    ),
    trained(
        "models/reward/pair",
        "return left - right",
        "return right - left",
        f"{PAIRS}::test_the_logit_is_the_left_score_less_the_right",
        "B over A, unflipped",
    ),
    trained(
        "models/reward/pair",
        "return unbiased_logit(there, self._logits([joint.swapped for joint in joints], budget))",
        "return there",
        f"{PAIRS}::test_what_a_place_gains_cancels",
        "one order only: whoever stands first gains",
    ),
    trained(
        "training/reward/pair",
        "outcome=0.5 if of_a == of_b else float(of_a < of_b)",
        "outcome=float(of_a < of_b)",
        f"{PAIRS}::test_every_pair_is_learned_in_both_orders_ties_as_one_half",
        "a tie is lost by the first",
    ),
    trained(
        "models/reward/seq2seq",
        ".log_softmax(dim=-1)[:, list(self.letters)]",
        "[:, list(self.letters)].log_softmax(dim=-1)",
        f"{ASKED}::test_the_reward_is_the_probability_of_a_over_the_vocabulary",
        "the reward over A and B instead of the vocabulary",
    ),
    trained(
        "training/reward/seq2seq",
        "return -0.5 * (as_a[:, 0] + as_b[:, 1]).sum()",
        "return -0.5 * (as_a[:, 0] + as_b[:, 0]).sum()",
        f"{ASKED}::test_the_loss_is_the_better_answers_letter_in_both_orders",
        "both orders learn A: only the place is learned",
    ),
    trained(
        "models/reward/reader_padded",
        "for i in bucket]).argsort()",
        "for i in bucket])",
        "models/test_encoders.py::test_a_row_scores_the_same_alone_in_any_batch_and_any_order",
        "rows read by length are handed back in the order of reading",
    ),
)
