//! The readable scripts of `scripts/`, each a test by its name, against one stack in virtual time.
//! Every script is played with all pairs of initial sequence numbers near the places where signs
//! and words wrap. What a script says is written in the stack's module `script`; how it is played
//! over a real link, and against a kernel, is not known here.

mod app;
#[path = "../twins/fault.rs"]
mod fault;
mod lab;
mod settings;

use barewire_stack::script::{Script, parse, play};
use lab::Lab;
use std::fs;
use std::path::{Path, PathBuf};

/// Initial sequence numbers at which arithmetic goes wrong that takes them for plain numbers.
const NUMBERS: [u32; 4] = [0, i32::MAX as u32, 1 << 31, u32::MAX - 1];

/// Scripts of mechanisms that the stack does not have yet: they must fail, so that this list is
/// empty once it has them.
const PENDING: &[&str] = &[];

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name),)*];

        $(
            #[test]
            fn $name() {
                prove(stringify!($name));
            }
        )*
    };
}

scripts! {
    a_closed_window_is_probed
    a_cookie_becomes_a_connection
    a_cookie_remembers_options_in_its_timestamp
    a_cookie_remembers_the_segment_size
    a_fin_is_sent_again
    a_fin_means_nothing_to_an_open
    a_fin_outside_the_window_changes_nothing
    a_fin_waits_for_what_is_before_it
    a_finished_echo_finishes
    a_forged_cookie_is_refused
    a_full_backlog_keeps_nobody_out
    a_full_buffer_still_hears_a_reset
    a_full_buffer_still_takes_acks
    a_guess_does_not_end_a_half_closed_connection
    a_hole_is_reported_at_once
    a_last_fin_is_sent_again
    a_long_echo_crosses_every_wrap
    a_mark_is_echoed_until_it_is_answered
    a_narrow_path_makes_segments_smaller
    a_partial_ack_brings_the_next_lost_segment
    a_path_has_a_narrowest
    a_peer_may_shrink_its_window
    a_refused_open_fails_at_once
    a_reset_in_the_window_gets_a_challenge
    a_reset_may_carry_data
    a_reset_needs_no_timestamp
    a_reset_outside_the_window_is_silence
    a_router_must_quote_what_is_in_flight
    a_segment_without_the_agreed_timestamp_is_dropped
    a_shift_of_15_counts_as_14
    a_silent_peer_is_given_up
    a_silent_peer_is_tried_for_minutes
    a_small_window_is_not_filled_by_bytes
    a_stray_reset_does_not_refuse_an_open
    a_syn_is_sent_again
    a_syn_is_sent_for_three_minutes
    a_syn_on_a_connection_gets_a_challenge
    a_syn_says_no_more_than_it_may
    a_syn_says_what_it_can
    a_tiny_segment_size_is_raised
    a_user_timeout_ends_a_silent_connection
    a_wider_path_is_tried_again
    a_window_is_not_opened_by_bytes
    a_window_may_stay_closed_for_hours
    acknowledgement_from_long_ago
    acknowledgement_of_what_was_never_sent
    acks_are_not_held_back_for_half_a_second
    after_a_timeout_one_segment_goes_out
    an_ack_from_before_the_connection_is_dropped
    an_ambiguous_ack_leaves_the_timeout_backed_off
    an_application_aborts
    an_application_closes_in_order
    an_echo_of_congestion_reduces_the_window_once
    an_idle_connection_is_left_alone
    an_idle_connection_is_probed_when_asked
    an_old_cookie_is_refused
    an_old_timestamp_marks_an_old_segment
    an_unacceptable_segment_leaves_no_timestamp
    an_unreachable_host_is_tried_again
    an_unreachable_port_ends_an_open
    an_urgent_pointer_is_told
    bytes_behind_the_packet_are_no_data
    challenges_are_limited
    challenges_of_one_connection_do_not_show_on_another
    closed_port_never_answers_a_reset
    closed_port_refuses_a_fin
    closed_port_refuses_a_syn
    closed_port_refuses_an_ack
    closing_with_unread_data_resets
    data_after_a_full_close_are_reset
    data_and_fin_may_come_with_a_cookie
    data_beyond_a_small_window_are_cut
    data_beyond_the_window_are_dropped
    data_in_a_syn_is_not_acknowledged
    data_that_come_twice_are_reported
    data_with_a_fin_are_echoed
    data_without_ack_are_dropped
    divided_acks_count_by_bytes
    duplicate_acks_let_new_segments_out
    ecn_is_agreed_on
    ecn_is_asked_for_when_wanted
    ecn_is_refused_when_it_is_off
    every_second_segment_is_acknowledged
    fin_wait_2_ends_without_the_peer
    first_flight_is_ten_segments
    fragments_are_dropped
    frames_of_other_networks_are_dropped
    half_open_ends_by_a_reset
    half_open_takes_only_the_right_ack
    handshake_data_and_fin_come_at_once
    illegal_option_lengths_do_no_harm
    ip_options_are_ignored
    keepalive_probes_are_answered
    last_ack_of_the_handshake_carries_data
    last_segment_pushes
    listener_ignores_a_reset
    listener_ignores_a_syn_with_fin
    listener_ignores_what_is_no_syn
    listener_refuses_an_ack
    nobody_connects_from_a_broadcast_address
    nobody_connects_from_nowhere
    nobody_connects_to_everybody
    nobody_connects_to_many
    old_acks_start_no_storm
    old_data_are_acknowledged_at_once
    optimistic_acks_are_not_believed
    options_stand_at_any_place
    options_take_their_room_from_a_segment
    packets_carry_the_configured_ttl_and_code_point
    payload_never_goes_to_a_stranger
    recovery_halves_the_flight_gently
    sack_blocks_of_nothing_do_no_harm
    segment_size_counts_in_a_syn_only
    segments_are_536_bytes_when_no_size_is_announced
    segments_are_no_larger_than_announced
    selective_acks_bring_only_what_is_missing
    simultaneous_open
    simultaneous_open_that_is_refused
    slow_start_adds_a_segment_for_each_one_acknowledged
    small_data_go_out_at_once
    small_sends_go_out_when_asked
    small_sends_wait_for_an_ack
    soft_icmp_errors_change_nothing
    source_routes_are_not_obeyed
    syn_ack_is_given_up
    syn_ack_is_sent_again
    syn_ack_offers_only_what_was_offered
    the_exact_reset_ends_a_connection
    the_same_syn_gets_the_same_answer
    the_tail_of_a_flight_is_probed
    three_duplicate_acks_bring_the_lost_segment
    three_selective_acks_bring_the_lost_segment
    time_wait_ignores_a_reset
    time_wait_ignores_an_old_syn
    time_wait_lasts_two_segment_lifetimes
    time_wait_makes_room_for_a_new_syn
    time_wait_makes_room_for_a_newer_timestamp
    timeouts_double
    timestamps_are_echoed_once_agreed
    unknown_options_are_ignored
    urgent_data_stay_in_line
    urgent_pointers_of_any_kind_do_no_harm
    window_is_unsigned
    wrong_checksum_is_dropped
    wrong_data_offsets_are_dropped
    zero_checksum_is_dropped
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/scripts")
}

fn read(name: &str) -> Script {
    let path = folder().join(format!("{name}.script"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.starts_with("# "), "{name}: expected a comment that says what it shows");
    parse(&text).unwrap_or_else(|error| panic!("{name}.script: {error}"))
}

/// Plays a script with one pair of initial numbers.
fn attempt(script: &Script, iss: u32, irs: u32) -> Result<(), String> {
    let mut lab = Lab::new(script, irs);
    let ends = lab.ends(iss);
    play(script, &ends, &mut lab).map_err(|failure| failure.to_string())?;
    lab.audit()
}

fn prove(name: &str) {
    let script = read(name);
    for iss in NUMBERS {
        for irs in NUMBERS {
            let result = attempt(&script, iss, irs);
            if PENDING.contains(&name) {
                assert!(result.is_err(), "{name} passes: take it from the list of pending ones");
                return;
            }
            if let Err(failure) = result {
                panic!("{name}.script with ISS {iss} and IRS {irs}: {failure}");
            }
        }
    }
}

#[test]
fn the_list_and_the_folder_agree() {
    let entries = fs::read_dir(folder()).expect("the folder of scripts can be read");
    let mut found: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    found.sort_unstable();
    let listed: Vec<String> = NAMES.iter().map(|name| format!("{name}.script")).collect();
    assert_eq!(found, listed, "main.rs lists every script, in order");
    assert!(PENDING.iter().all(|name| NAMES.contains(name)), "what is pending exists");
}

/// Whether each fault is caught takes minutes to find out (`--test twins`); that it can be planted
/// shows at once.
#[test]
fn planted_faults_fit_the_source_and_name_a_script() {
    let stack = Path::new(env!("CARGO_MANIFEST_DIR"));
    let complaints = fault::all(stack).into_iter().filter_map(|fault| {
        let source = fs::read_to_string(stack.join(&fault.file)).unwrap_or_default();
        let is_known = NAMES.contains(&fault.script.as_str());
        let unknown = (!is_known).then(|| format!("{}: no script {}", fault.name, fault.script));
        fault.plant(&source).err().or(unknown)
    });
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn a_script_that_expects_the_wrong_thing_fails_with_its_line_and_the_trace() {
    let script = parse("open mss=1000\n> ACK|PSH len=10\n< ACK ack=12 within 1s\n");
    let failure = attempt(&script.expect("a script"), 7, 0).expect_err("12 is wrong");
    for words in ["line 3", "ack=12", "SYN|ACK seq=0 ack=1", "ack=11"] {
        assert!(failure.contains(words), "expected '{words}':\n{failure}");
    }
}

#[test]
fn silence_and_absence_are_judged() {
    for (text, is_right) in [
        ("open\n> ACK|PSH len=1\nsilent 1s", false),
        ("open\nsilent 1s", true),
        ("open\n> ACK|PSH len=1\nno ACK len=1 for 1s", false),
        ("open\n> ACK|PSH len=1\nno RST for 100ms", true),
        ("open\n> ACK|PSH len=1\n< ACK len=1 after 10ms", false),
        ("open\n> RST\ngone", true),
        ("open\ngone", false),
        ("open\nalive", true),
        (
            "app never-read\nset tcp.window_bytes_max=1000\nopen\n> ACK len=1000\nwait 1s\nalive",
            false,
        ),
        ("open\nreceive 5 within 1s", false),
        ("connect to=10.0.0.9 fails", false),
        ("connect to=224.0.0.9 fails", true),
        ("open\n> RST\ntold reset", true),
        ("open\ntold reset", false),
        ("open\nuntold reset for 1s", true),
        ("open\n> RST\nuntold reset for 1s", false),
    ] {
        let result = attempt(&parse(text).expect("a script"), 0, 0);
        assert_eq!(result.is_ok(), is_right, "{text}: {result:?}");
    }
}
