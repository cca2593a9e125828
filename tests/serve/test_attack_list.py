"""The attacks of TUNING.md 3.6 on configs and over HTTP, and the tests that make each of them."""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ATTACKS = {
    "19 unknown parameter, value outside the space, constraint violated for the shape": (
        "tune/test_store.py::test_a_config_that_does_not_fit_is_refused_and_logged",
        "tune/test_space.py::test_a_bad_config_is_one_clear_error",
        "serve/test_studies.py::test_a_study_that_is_not_as_it_should_be_is_refused",
    ),
    "20 fields that override the IR": (
        "serve/test_studies.py::test_a_study_that_is_not_as_it_should_be_is_refused",
        "serve/test_packages.py::test_even_a_signed_package_is_checked",
        "tune/test_store.py::test_what_is_no_record_is_a_miss",
    ),
    "21 package: signature missing, of another key, stripped, downgraded": (
        "serve/test_packages.py::test_what_was_signed_can_not_be_changed",
        "tune/test_store.py::test_a_package_that_was_changed_is_refused",
    ),
    "22 zip-slip, tar traversal, links on import: nothing is unpacked": (
        "serve/test_database.py::test_the_service_opens_no_connection_of_its_own",
    ),
    "23 loopback by default; elsewhere not without TLS and a token": (
        "serve/test_database.py::test_a_service_that_others_reach_needs_tls_and_a_token",
        "serve/test_database.py::test_nothing_listens_where_it_is_unsafe",
        "serve/test_server.py::test_it_serves_by_tls_with_a_token_from_elsewhere",
    ),
    "24 tokens: hashed, compared in constant time, scoped, revocable, never in logs or URLs": (
        "serve/test_auth.py::test_secrets_are_nowhere_but_with_their_owner",
        "serve/test_auth.py::test_secrets_are_compared_in_constant_time",
        "serve/test_auth.py::test_every_path_asks_for_its_scope",
        "serve/test_auth.py::test_tokens_end",
        "serve/test_auth.py::test_a_stream_ends_with_its_token",
        "serve/test_database.py::test_nobody_else_on_the_machine_can_read_it",
    ),
    "25 a worker can't submit, a submitter can't end leases, ids of other tenants are not there": (
        "serve/test_auth.py::test_every_path_asks_for_its_scope",
        "serve/test_auth.py::test_a_tenant_sees_only_what_is_its_own",
        "serve/test_deletion.py::test_what_is_deleted_is_gone_and_is_in_the_audit",
        "serve/test_blocklist.py::test_a_blocklist_is_of_its_tenant",
    ),
    "26 limits on bodies, depth, numbers and arrays before parsing": (
        "serve/test_guard.py::test_bodies_that_are_no_strict_json_are_refused_quickly",
        "serve/test_guard.py::test_what_is_too_large_is_refused_before_it_is_read",
        "serve/test_guard.py::test_strangers_can_not_make_it_read_much",
        "serve/test_guard.py::test_a_string_that_looks_like_structure_is_no_structure",
    ),
    "27 NaN, infinities, surrogates, 2^63": (
        "serve/test_guard.py::test_bodies_that_are_no_strict_json_are_refused_quickly",
        "serve/test_fuzz.py::test_malformed_requests_break_nothing",
    ),
    "28 slow clients, 1000 idle connections": (
        "serve/test_server.py::test_a_head_that_never_ends_is_given_up",
        "serve/test_server.py::test_a_body_that_never_ends_is_given_up",
        "serve/test_server.py::test_an_answer_that_is_not_taken_is_given_up",
        "serve/test_server.py::test_a_thousand_idle_connections_do_not_keep_others_out",
        "serve/test_auth.py::test_streams_are_bounded_for_each_tenant",
    ),
    "29 Host and Origin on all methods": (
        "serve/test_guard.py::test_other_hosts_are_refused_on_every_method",
        "serve/test_guard.py::test_other_origins_are_refused_on_every_method",
        "serve/test_guard.py::test_headers_that_are_there_twice_are_refused",
    ),
    "30 the service fetches no URL": (
        "serve/test_database.py::test_the_service_opens_no_connection_of_its_own",
        "fleet/test_client.py::test_no_redirect_is_followed",
    ),
    "31 artifacts: another digest, `..`, uploads at once, quota": (
        "serve/test_artifacts.py::test_what_is_not_as_its_name_says_is_refused_and_leaves_nothing",
        "serve/test_artifacts.py::test_uploads_of_the_same_at_once_are_one",
        "serve/test_artifacts.py::test_size_and_quota_are_bounded",
        "serve/test_artifacts.py::test_few_uploads_are_under_way_at_a_time",
        "serve/test_artifacts.py::test_an_upload_that_ends_early_leaves_nothing_and_is_no_fault",
    ),
    "32 stored markup in the dashboard, a strict policy": (
        "serve/test_ui.py::test_text_from_users_stays_text",
        "serve/test_ui_files.py::test_modules_make_no_markup_of_strings_and_import_what_is_there",
        "serve/test_ui_files.py::test_the_service_serves_them_under_a_strict_policy",
        "serve/test_guard.py::test_every_answer_says_how_it_may_be_used",
    ),
    "33 formulas in exports": ("serve/test_ui.py::test_exports_are_no_formulas",),
    "34 leases: replayed, stale tokens, the clock moved": (
        "serve/test_leases.py::test_another_token_is_refused",
        "serve/test_leases.py::test_a_completion_counts_once",
        "serve/test_leases.py::test_late_evidence_is_kept_once_and_changes_nothing",
        "serve/test_leases.py::test_no_clock_step_ends_or_keeps_a_lease",
        "fleet/test_reliability.py::test_nothing_is_lost_or_done_twice",
    ),
    "35 workers that lie: times of 0 or NaN, confirmed by another": (
        "serve/test_leases.py::test_times_that_can_not_be_are_refused",
        "serve/test_leases.py::test_a_worker_that_lies_is_found_out_by_another",
        "serve/test_impartial.py::test_a_token_under_two_names_does_not_confirm_itself",
        "serve/test_guard.py::test_bodies_that_are_no_strict_json_are_refused_quickly",
    ),
    "36 malicious IR: compiled in a child with limits, a wall clock and no network": (
        "tune/test_measure.py::test_what_is_measured_has_no_network",
        "tune/test_measure.py::test_where_no_namespace_can_be_made_that_is_said",
        "tune/test_measure.py::test_poison_costs_its_time_limit_and_leaves_nothing",
        "fleet/test_recorded.py::test_poison_costs_its_time_and_leaves_nothing",
        "fleet/test_kernels.py::test_a_default_that_does_not_compile_is_no_fault_of_the_worker",
    ),
    "37 lines of the log that are forged": (
        "serve/test_auth.py::test_log_lines_can_not_be_forged",
        "fleet/test_study_commands.py::test_names_of_studies_can_not_draw",
    ),
}


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(n.name for n in tree.body if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_test_that_is_there(attack):
    assert ATTACKS[attack]
    for name in ATTACKS[attack]:
        file, _, function = name.partition("::")
        assert function in functions_of(file), name


def test_no_attack_on_configs_or_over_http_is_missing():
    """38, an audit of the dependencies, asks a server elsewhere: it is no test."""
    assert [int(a.split()[0]) for a in ATTACKS] == list(range(19, 38))
