"""Every fault that a trainer must survive, and every kind of mistake known from public reports, with its tests.

`test_campaign.py` holds that the tests exist; what isn't done, and why, is told in docs/reliability.md.
"""

FAULTS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "SIGKILL at any moment of a save",
        (
            "faults/test_run_folder::fifty_kills_at_random_moments_lose_nothing",
            "faults/test_run_folder::a_kill_before_any_operation_of_a_save_leaves_a_whole_checkpoint",
        ),
    ),
    2: (
        "SIGKILL in sampling, judging or an update",
        (
            "faults/test_resume::killed_at_random_moments_a_run_comes_to_the_same_end",
            "faults/test_resume::killed_at_many_random_moments_a_run_comes_to_the_same_end",
        ),
    ),
    3: (
        "the disk is full at a save",
        (
            "faults/test_limits::a_disk_that_is_full_at_a_save_ends_the_run_with_the_checkpoint_before",
            "faults/test_run_folder::a_full_disk_keeps_the_checkpoint_and_the_log_and_says_where",
            "runs/test_checkpoints::a_full_disk_keeps_the_previous_and_purges_nothing",
            "runs/test_folder::space_is_checked_by_numbers",
        ),
    ),
    4: (
        "the log's disk is full, a tracker is dead",
        (
            "telemetry/test_log::a_full_disk_warns_once_and_loses_only_whole_lines",
            "runs/test_folder::sinks_get_the_finite_values_and_die_alone",
        ),
    ),
    5: (
        "a damaged checkpoint",
        (
            "runs/test_checkpoints::damage_is_found_named_and_passed_over_only_when_asked",
            "faults/test_resume::a_damaged_checkpoint_is_named",
            "faults/test_resume::a_damaged_checkpoint_is_passed_over_when_asked",
        ),
    ),
    6: (
        "other options or data at a resume",
        (
            "faults/test_resume::what_a_resumed_run_may_change",
            "faults/test_resume::data_that_changed_are_refused_by_name",
            "faults/test_resume::another_tokenizer_is_no_traceback",
        ),
    ),
    7: (
        "other versions or another number of processes at a resume",
        (
            "faults/test_limits::other_versions_are_told_when_a_run_goes_on",
            "training/test_ranks::a_run_is_the_same_on_every_number_of_ranks",
        ),
    ),
    8: (
        "a resume after the end, at the end of an epoch, and twice",
        (
            "faults/test_resume::a_finished_run_says_so_and_stays",
            "faults/test_resume::a_run_that_was_stopped_goes_on_exactly",
            "faults/test_resume::a_run_that_is_stopped_again_and_again_gets_there",
        ),
    ),
    9: (
        "two processes in one run folder",
        ("faults/test_run_folder::a_second_process_is_refused_until_the_first_is_gone",),
    ),
    10: (
        "a loss or a gradient that is no number",
        (
            "training/test_optim::a_gradient_that_is_no_number_changes_nothing",
            "training/test_ppo::a_loss_that_overflows_is_not_taken_and_three_in_a_row_end_the_run",
            "training/test_not_finite::the_row_whose_loss_is_no_number_is_named",
        ),
    ),
    11: ("NaN in the padding alone", ("formulas/test_poison::poison_outside_the_mask_changes_nothing",)),
    12: (
        "memory runs out",
        (
            "faults/test_limits::out_of_memory_says_what_to_turn_and_keeps_the_checkpoint",
            "training/test_invariance::ppos_gradient_is_the_textbooks_however_it_is_cut",
        ),
    ),
    13: (
        "a reward function raises",
        (
            "scoring/test_functions::the_row_that_raises_is_named_with_the_line_of_the_function",
            "scoring/test_functions::abstain_leaves_out_that_row_alone",
            "scoring/test_functions::value_gives_that_row_the_fixed_score",
        ),
    ),
    14: (
        "a reward function hangs",
        (
            "faults/test_reward_functions::by_default_training_stops_and_names_function_and_row",
            "faults/test_reward_functions::training_goes_on_without_the_row",
            "scoring/test_isolate::the_functions_own_children_are_killed_with_it",
        ),
    ),
    15: (
        "a reward function returns what is no list of numbers",
        (
            "scoring/test_functions::anything_else_is_refused_by_name_whatever_the_policy",
            "scoring/test_functions::an_entry_that_is_no_number_is_refused_by_row",
            "faults/test_reward_functions::a_matrix_is_never_broadcast",
        ),
    ),
    16: (
        "a reward function scribbles, prints, ends its process or eats memory",
        (
            "scoring/test_isolate::arguments_arrive_whole_and_scribbling_on_them_harms_nobody",
            "scoring/test_isolate::what_it_prints_cannot_disturb_the_protocol",
            "scoring/test_isolate::the_guilty_row_alone_is_left_out_counted_and_named",
            "scoring/test_isolate::memory_can_be_limited",
        ),
    ),
    17: (
        "all answers are worth the same",
        ("faults/test_limits::answers_that_are_all_worth_the_same_teach_nothing_and_stay_finite",),
    ),
    18: (
        "an answer is empty, ends at once or doesn't end",
        (
            "training/test_rollout_records::an_empty_response_is_a_row_without_tokens",
            "rollouts/test_sampler::finish_reasons_and_the_end_token_is_no_text",
            "formulas/test_poison::poison_in_the_kl_and_in_the_score_of_an_empty_row",
        ),
    ),
    19: (
        "prompts beyond the context",
        (
            "test_cli::prompts_beyond_the_context_are_named",
            "training/test_ppo_held_out::prompts_that_are_too_long_are_refused_or_left_out_and_counted",
        ),
    ),
    20: (
        "a prompt is empty",
        ("data/test_formats::a_bad_prompt_says_why", "tokens/test_template::nothing_to_continue_from_is_refused"),
    ),
    21: (
        "a tokenizer without pad, end or beginning, or one token for two of them",
        (
            "tokens/test_template::a_tokenizer_without_eos_has_no_end",
            "models/test_encoders::padding_may_be_the_end_token",
            "models/test_scalar_reward::transformers_gives_it_too_where_padding_is_the_end_token",
            "models/test_load::a_tokenizer_larger_than_the_embeddings",
        ),
    ),
    22: ("the beginning's token twice", ("tokens/test_template::bos_once_on_every_path",)),
    23: (
        "a judge's chat template is another one, or there is none",
        (
            "models/test_scalar_reward::a_conversation_goes_through_this_models_own_template",
            "tokens/test_template::a_conversation_without_template_says_how_to_give_one",
            "tokens/test_template::the_hash_tells_templates_and_policies_apart",
        ),
    ),
    24: (
        "roles misspelt, odd turns",
        ("data/test_turns::a_bad_message_says_why", "data/test_turns::odd_turns_are_named"),
    ),
    25: (
        "malformed, blank, long and zipped lines",
        (
            "data/test_reading::a_bad_line_is_named_with_its_reason",
            "data/test_reading::blank_lines_are_passed_over_and_counted",
            "data/test_reading::a_fifty_megabyte_line_is_a_line",
            "data/test_reading::every_container",
        ),
    ),
    26: (
        "bytes that are no utf-8, surrogates, NUL",
        (
            "data/test_reading::text_comes_through_unchanged",
            "data/test_reading::a_bad_line_is_named_with_its_reason",
            "tokens/test_tokenizer::lone_surrogates_are_named",
        ),
    ),
    27: (
        "repeated rows, chosen equal to rejected, prompts on both sides",
        (
            "data/test_clean::the_rules_for_useless_rows",
            "data/test_clean::overlap_counts_prompts_rows_and_names_places",
            "data/test_splits::no_prompt_is_on_both_sides_and_no_row_is_lost",
        ),
    ),
    28: (
        "wrong types, columns that are missing",
        (
            "test_cli::a_column_that_a_judge_needs_is_named",
            "scoring/test_functions::a_solution_of_the_wrong_kind_names_its_row",
            "scoring/test_functions::a_row_without_solution_is_named",
        ),
    ),
    29: (
        "SIGTERM and SIGINT in every phase, and twice",
        (
            "faults/test_resume::a_signal_saves_and_ends_with_the_shells_code",
            "faults/test_resume::a_run_that_was_stopped_goes_on_exactly",
            "faults/test_limits::a_signal_in_an_evaluation_ends_it_though_the_judge_is_at_work",
            "training/test_ppo_held_out::a_run_that_was_stopped_while_it_measured_goes_on_exactly",
            "faults/test_run_folder::a_second_signal_ends_a_stuck_save_at_once_without_harm",
            "test_cli::a_real_process_is_told_to_stop_and_goes_on",
        ),
    ),
    30: (
        "SIGHUP, closed outputs, no terminal",
        (
            "runs/test_signals::hangup_is_ignored",
            "faults/test_run_folder::closed_outputs_are_survived",
            "telemetry/test_progress::a_terminal_that_goes_away_ends_only_the_display",
        ),
    ),
    31: (
        "the clock jumps",
        (
            "runs/test_checkpoints::order_is_by_number_not_by_clock_or_spelling",
            "telemetry/test_progress::the_stopwatch_is_never_zero",
        ),
    ),
    32: (
        "a folder that is read-only, has spaces or a long name",
        (
            "faults/test_run_folder::a_read_only_folder_is_told_before_anything_else",
            "faults/test_limits::folders_may_have_spaces_and_any_letters",
            "faults/test_limits::a_name_that_is_too_long_is_told_before_anything_loads",
        ),
    ),
    33: (
        "a process beside it dies",
        (
            "training/test_ranks::a_rank_that_dies_or_hangs_ends_the_others",
            "scoring/test_isolate::a_worker_that_dies_between_calls_comes_back",
            "scoring/test_isolate::no_orphan_outlives_the_run_even_while_it_hangs_in_c",
        ),
    ),
    34: (
        "no network",
        (
            "architecture/test_no_network::a_connection_out_is_refused",
            "tokens/test_tokenizer::a_hub_name_without_network_is_the_users_error",
            "models/test_beside::a_hub_that_cannot_be_asked_is_said",
        ),
    ),
    35: (
        "pickled files",
        (
            "architecture/test_house_rules::nothing_is_pickled",
            "architecture/test_house_rules::torch_load_reads_weights_only",
            "architecture/test_house_rules::no_dangerous_calls",
        ),
    ),
    36: (
        "code that comes with a model",
        (
            "architecture/test_house_rules::remote_code_is_never_trusted_by_default",
            "models/test_beside::code_that_comes_with_a_judge_runs_where_it_is_trusted_and_nowhere_else",
            "tokens/test_tokenizer::code_that_comes_with_a_tokenizer_is_not_run",
        ),
    ),
    37: (
        "names that lead elsewhere",
        (
            "test_files::names_that_could_lead_elsewhere_are_refused",
            "test_files::a_link_out_of_the_root_is_refused",
            "runs/test_checkpoints::links_in_a_checkpoint_are_refused",
        ),
    ),
    38: (
        "a config with unknown keys or with tags",
        (
            "config/test_load::unknown_keys_name_path_line_and_the_nearest",
            "config/test_load::files_that_are_refused",
        ),
    ),
    39: (
        "what models write is hostile HTML",
        (
            "report/test_html::hostile_text_is_text",
            "report/test_html::hostile_text_in_figures_is_text_to_the_parser_and_to_plotly",
            "report/test_html::the_policy_lets_only_our_scripts_run",
        ),
    ),
    40: (
        "reward functions from others",
        (
            "scoring/test_isolate::who_is_isolated_by_default",
            "scoring/test_loading::what_is_not_there_is_named_with_its_neighbours",
        ),
    ),
    41: (
        "secrets in logs",
        (
            "runs/test_provenance::no_environment_and_no_secret_of_it",
            "runs/test_provenance::redaction_spares_token_counts",
        ),
    ),
    42: (
        "weights files that lie",
        (
            "faults/test_limits::a_weights_file_that_claims_too_much_is_named_and_nothing_is_allocated",
            "models/test_load::weights_of_another_shape",
            "models/test_load::a_damaged_weights_file",
        ),
    ),
}
"""Number: (the fault, its tests as `folder/file::name`, without the `test_` of the name)."""

KINDS: dict[str, tuple[str, ...]] = {
    "1, a configuration that loads but can't be written again": (
        "models/test_foreign::a_model_with_an_odd_generation_config_loads_and_is_written",
        "models/test_foreign::what_cannot_be_written_is_said_before_training",
    ),
    "2, a batch's time limit, a row that nobody can read": (
        "scoring/test_functions::rows_that_are_only_slow_together_keep_their_scores",
        "scoring/test_rules_answers::every_function_that_reads_solutions_looks_at_all_rows_first",
        "data/test_check::solutions_are_read_by_the_functions_that_will_read_them",
    ),
    "3, mathematics read in part": (
        "scoring/test_mathematics::what_others_read_in_part",
        "scoring/test_mathematics::a_solution_that_cannot_be_read_as_a_whole_is_an_error",
        "scoring/test_mathematics::which_part_of_a_text_is_its_answer",
        "scoring/test_rules_answers::a_number_is_read_as_a_whole_or_not_at_all",
        "scoring/test_rules_answers::the_last_box_decides_unless_told_otherwise",
    ),
    "4, what a turn or a row says is dropped": (
        "data/test_unread::calls_thoughts_and_tools_stay_with_their_turns",
        "data/test_unread::a_turns_weight_decides_whether_it_is_learned",
        "data/test_unread::other_keys_of_turns_are_counted",
        "data/test_unread::columns_are_counted_row_by_row",
        "data/test_unread::a_system_turn_and_earlier_turns_in_columns_of_their_own",
        "scoring/test_learned::columns_that_no_judge_takes_are_told",
        "tokens/test_chat::a_call_is_learnt_as_the_template_writes_it",
        "tokens/test_chat::what_a_template_cannot_write_is_said",
        "models/test_foreign::a_models_template_variables_are_saved_with_it",
    ),
    "5, control tokens spelled as text, thoughts that a template opens, what it writes behind the end": (
        "data/test_clean::prompts_inside_answers_and_spelled_control_tokens_are_counted",
        "tokens/test_chat::rows_that_spell_control_tokens_are_counted_with_the_first_one",
        "tokens/test_chat::an_answer_goes_on_from_the_thought_that_is_open",
        "tokens/test_chat::a_whole_turn_is_what_transformers_makes_of_the_conversation",
        "models/test_foreign::a_judge_from_elsewhere_is_read_at_the_last_token_of_the_whole_conversation",
    ),
    "6, all answers of a conversation or the last one": (
        "data/test_unread::all_answers_of_a_conversation_or_the_last_and_a_word_either_way",
    ),
    "7, stops": (
        "engines/test_stopping::every_tokenizer_stops_at_the_first_prefix_whose_text_has_the_string",
        "engines/test_stopping::a_control_token_may_be_a_stop_string",
        "rollouts/test_sampler::tokens_that_an_engine_wrote_behind_the_stop_are_not_learned",
    ),
    "8, truncation that nobody hears of": (
        "scoring/test_learned::answers_that_its_context_cuts_are_counted_and_said_once",
        "training/test_reward_updates::answers_that_are_equal_once_they_are_cut_teach_nothing",
    ),
    "9, models that look at the batch": (
        "models/test_foreign::rotary_positions_that_switch_end_rows_where_they_switch",
        "models/test_foreign::rotary_positions_that_do_not_switch_within_the_context_keep_it",
    ),
    "10, measures that can't say right": (
        "evaluation/judges/test_verdicts::a_rule_of_two_values_can_be_right_wherever_they_lie",
        "evaluation/judges/test_verdicts::a_threshold_is_learnt_on_other_prompts",
        "evaluation/judges/test_verdicts::a_judge_of_one_score_is_no_better_than_the_more_frequent_verdict",
    ),
    "11, prompts repeated in answers, pairs that contradict each other": (
        "data/test_clean::judgements_that_contradict_an_earlier_row_are_counted",
        "data/test_clean::prompts_inside_answers_and_spelled_control_tokens_are_counted",
    ),
    "12, NaN in weights, losses, judges": (
        "models/test_foreign::weights_that_are_no_numbers_are_named",
        "training/test_not_finite::the_row_whose_loss_is_no_number_is_named",
        "training/test_not_finite::a_judge_that_says_nan_in_mid_run_is_named_with_the_answer_and_nothing_is_lost",
        "training/test_optim::the_parameter_whose_gradient_is_no_number_is_named",
        "scoring/test_learned::a_score_that_is_no_number_names_model_answer_and_prompt",
    ),
    "13, the kind of a file, its splits, its reasons": (
        "data/test_kinds::the_kind_does_not_depend_on_the_order_of_the_rows",
        "data/test_kinds::a_dialogue_that_cannot_be_read_says_why",
        "data/test_kinds::null_is_absent",
        "data/test_splits::sides_are_judged_over_all_files",
    ),
    "14, folders and files of other makers": (
        "models/test_foreign::an_adapter_alone_is_a_policy_on_its_base",
        "models/test_foreign::an_adapter_alone_judges_by_its_own_head",
        "models/test_foreign::a_value_head_beside_a_language_model_judges",
        "models/test_foreign::a_wider_head_says_what_its_score_is_and_how_to_choose",
        "models/test_foreign::a_saved_judge_scores_a_batch_in_transformers_as_it_scores_one_text",
        "data/test_exports::several_chosen_and_rejected_answers_are_a_ranking",
        "data/test_exports::argillas_rankings_are_a_row_for_each_annotator",
        "data/test_exports::label_studios_pairs_and_rankings",
    ),
    "15, reward arguments of others, async functions that use signals": (
        "scoring/test_trl_functions::a_function_may_log_and_ask_how_far_training_is",
        "scoring/test_trl_functions::what_only_trl_has_is_refused_by_name",
        "scoring/test_trl_functions::an_async_function_may_use_signals",
    ),
    "17, a PPO prompt that is too long": (
        "training/test_ppo_held_out::prompts_that_are_too_long_are_refused_or_left_out_and_counted",
    ),
    "16, a resumed run and its trackers": (
        "test_cli::a_resumed_run_goes_on_sending_to_its_tracker",
        "telemetry/test_sinks::wandb_and_trackio_get_lines_and_alerts",
    ),
    "a run that says how it is": (
        "telemetry/test_health::each_sickness_of_ppo_is_named_and_nothing_else",
        "telemetry/test_health::each_sickness_of_sft_and_of_reward_models",
        "telemetry/test_health::the_healthy_are_healthy",
        "training/test_sick_runs::a_sick_run_names_its_sickness",
        "telemetry/test_health::a_resumed_run_knows_what_it_knew",
    ),
    "PPO that watches itself": (
        "training/test_ppo_held_out::watching_changes_nothing_that_is_trained_and_says_what_it_saw",
        "training/test_ppo_held_out::the_best_is_kept_and_patience_ends_it",
    ),
    "a mistake that only the whole run would show": (
        "doctor/test_planted::a_planted_mistake_is_found_and_named",
        "doctor/test_planted::nothing_is_said_of_a_sound_stage",
        "training/test_dry_run::every_stage_shows_what_it_would_do_and_leaves_nothing",
    ),
}
"""What public reports about other trainers told, by kind, and the tests that hold that it doesn't happen here."""
