//! What every backend of the store promises. A case is a function over `&Store` that knows no backend; [`conformance!`]
//! lists them all, once, and a backend is tested by opening itself and naming the list. What only one backend has (files,
//! locks, a process to kill) stands in that backend's own module.
//!
//! A new command gets its case here before it gets its SQL.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

mod attempts;
mod audit;
mod authority;
mod deliveries;
mod devices;
mod format;
mod identity;
mod installation;
mod logs;
mod runs;
mod secrets;
mod sessions;
mod together;
mod workspaces;
mod world;

mod crash;
mod sqlite;

/// Every case of the suite, each as a test of the backend that `$open` opens: a function that returns something with a
/// field `store`, which stays open as long as it lives.
macro_rules! conformance {
    ($open:path) => {
        $crate::conformance! { $open;
            installation {
                first_start_makes_everything_at_once
                first_start_happens_once
                a_first_start_that_fails_leaves_nothing
                a_sealed_blob_is_replaced_as_a_whole
                a_root_rotation_that_misses_a_workspace_key_changes_nothing
            }
            authority {
                a_moved_epoch_refuses_the_command_and_its_record
                a_disabled_principal_is_stale
                a_revoked_token_is_stale_even_under_the_new_epoch
                an_unknown_principal_is_stale
                a_session_that_reports_can_do_nothing_else
                a_session_of_another_workspace_is_not_found
                reads_check_the_authority_too
            }
            identity {
                two_spellings_of_a_name_are_one_principal
                a_token_is_found_with_everything_it_stands_for
                what_takes_rights_away_moves_the_epoch
                a_change_needs_the_next_revision
                the_last_owner_stays
                a_workspace_keeps_an_owner_who_is_enabled
                a_grant_is_one_per_scope_and_effect
                an_invitation_works_once_and_in_time
                an_invitation_is_used_up_only_with_everything_it_makes
                the_owner_reset_revokes_every_other_login
                client_secrets_are_found_and_revoked
                a_faces_token_dies_with_what_it_was_made_from
                a_principal_has_so_many_faces_tokens_and_no_more
                only_what_has_expired_is_forgotten
                principals_come_in_pages
            }
            devices {
                a_login_that_waits_is_approved_once_and_taken_once
                a_login_that_waits_dies_in_time
                only_so_many_logins_wait
                an_approval_dies_with_the_token_it_was_given_with
            }
            workspaces {
                a_deleted_workspace_is_not_found_by_anything
                a_workspace_with_a_live_run_stays
                a_role_shows_in_the_members_workspaces
                members_come_in_pages
                settings_change_by_revision
                the_newest_key_is_current
                a_key_in_use_stays
                a_compute_target_in_use_stays
            }
            secrets {
                a_secret_is_found_as_it_was_set
                setting_again_makes_a_version_and_moves_the_pointer
                one_bad_entry_sets_nothing
                a_stale_set_is_refused
                a_deleted_secret_keeps_its_name_until_purged
                a_purged_secret_is_gone_with_its_versions
                recovering_brings_the_same_secret_back
                attributes_change_by_revision
                another_workspace_sees_nothing
                secrets_come_in_pages
                a_key_rotation_rewraps_each_version_once
                a_version_under_a_removed_key_is_refused
                a_backup_is_on_record_only_of_what_is_there
                a_restored_secret_has_its_versions_again
                a_restore_needs_a_free_name
            }
            deliveries {
                a_delivery_is_on_record_when_it_returns
                what_changed_since_it_was_found_is_not_delivered
                a_batch_delivers_all_or_none
                a_run_reads_one_version_until_it_asks_for_another
                a_run_that_does_not_run_reads_nothing
                a_committed_revocation_precedes_every_later_read
                live_runs_that_hold_a_secret_are_found_and_told
            }
            format {
                a_run_is_encoded_as_the_page_says
            }
            runs {
                the_same_submission_is_the_same_run
                runs_are_numbered_per_experiment
                runs_are_listed_newest_first
                a_set_property_stays
                a_queued_run_is_canceled_at_once
                an_ended_run_can_not_be_canceled
                children_belong_to_their_parent
                children_end_with_their_parent
                too_many_open_runs_are_refused
                a_submission_is_checked_against_the_workspace_as_it_is
                access_that_is_taken_ends_the_runs_that_had_it
            }
            attempts {
                the_oldest_run_is_leased_first
                a_run_is_leased_once
                a_lease_can_be_for_one_submitter_or_one_run
                a_ticket_is_inert_until_its_attempt_is_confirmed
                a_ticket_dies_when_nobody_redeems_it_in_time
                the_same_ticket_and_key_are_the_same_session
                the_same_ticket_with_another_key_is_theft
                theft_is_heard_after_the_end
                theft_is_heard_while_the_run_waits_for_its_next_attempt
                nobody_runs_what_he_may_not_submit_any_more
                a_ticket_of_an_earlier_attempt_opens_nothing
                a_returned_lease_costs_no_attempt
                a_lost_attempt_is_retried_within_the_limit
                an_agent_acts_for_its_own_target_only
                confirming_again_is_harmless
                attempts_nobody_starts_are_overdue
                a_canceled_attempt_stays_listed_until_its_agent_lets_go
            }
            sessions {
                reads_are_received_once_and_in_order
                silence_makes_a_run_unresponsive_and_contact_brings_it_back
                what_the_server_did_not_hear_is_no_silence
                the_end_of_the_run_is_the_end_of_the_session
                a_canceled_run_may_say_how_it_ended_and_nothing_else
                sessions_that_outlive_their_run_are_drained
            }
            logs {
                a_chunk_is_stored_once
                a_gap_in_the_log_is_refused
                metrics_are_stored_once_and_in_order
                metrics_are_found_by_name
                a_child_is_written_to_by_its_parent_only
                the_code_in_a_run_makes_so_much_and_no_more
                an_output_replaces_the_older_one
                a_snapshot_belongs_to_its_workspace
            }
            audit {
                records_are_numbered_in_the_order_of_their_commits
                a_refused_command_leaves_no_record
                the_log_is_searched_by_what_stands_in_it
                the_root_is_the_one_of_the_pages
                a_search_says_where_the_next_page_starts
                leaves_are_exported_as_they_were_hashed
                waiting_ends_with_the_next_record
                checkpoints_only_move_forward
            }
            together {
                writes_at_the_same_time_all_happen
                a_caller_that_goes_away_leaves_a_whole_write_or_none
                hints_come_after_the_commit
            }
        }
    };
    ($open:path; $($noun:ident { $($case:ident)* })*) => {$(
        mod $noun {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let home = $open();
                crate::$noun::$case(&home.store).await;
            })*
        }
    )*};
}
pub(crate) use conformance;
