//! Sandboxes on a bridge: addresses, routes, filters, limits. Each test is in a network namespace of its own, with another
//! one that is the outside; nothing of the machine's own network is touched.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod filter;
mod scene;
mod user_mode;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = scenes![
        bridge: the_gateway_and_nobody_else,
        bridge: an_address_of_its_own,
        bridge: what_cannot_be + "nft",
        bridge: every_address_is_in_use,
        bridge: two_hundred_on_one_bridge + "nft",
        bridge: a_killed_host_is_swept_up_after + "nft",
        bridge: two_hosts_share_a_bridge + "nft",
        bridge: a_wire_goes_while_its_bridge_does + "unshare",
        bridge: a_forked_host_waits_for_no_thread,
        bridge: a_bridge_of_the_administrators + "nft",
        bridge: an_end_that_is_heard_late_takes_nothing_from_the_next,
        bridge: an_end_that_is_heard_late_closes_nobodys_port,
        bridge: counts_that_are_heard_late_are_of_nobody_else,
        bridge: of_two_that_end_at_once_one_is_the_last,
        bridge: a_thousand_rules,
        bridge: rules_can_be_saved + "nft",
        bridge: a_wire_that_somebody_keeps_leads_nowhere,
        bridge: a_host_that_has_lost_its_power,
        bridge: every_kind_of_start,
        bridge: rates_are_kept,
        bridge: an_unprivileged_host_is_told + "setpriv",
        filter: outside_by_masquerade,
        filter: outside_by_ipv6,
        filter: sandboxes_are_apart,
        filter: the_first_rule_that_fits_decides,
        filter: who_is_denied_does_not_wait,
        filter: the_metadata_service_is_closed,
        filter: metadata_services_by_ipv6_are_closed,
        filter: names_are_found,
        filter: what_went_over_the_wire_is_counted,
        filter: nobody_has_the_address_of_another + "nft",
        filter: nobody_goes_on_with_the_connections_of_another,
        filter: nobody_says_where_another_is + "nft",
        filter: a_published_port,
        filter: what_another_bridge_publishes_is_of_the_host,
        filter: a_published_port_answers_nobody_it_may_not_ask + "nft",
        filter: frames_to_groups_are_no_way_around,
        filter: a_name_opens_nothing_that_is_protected,
        filter: what_is_denied_is_denied_of_the_host_as_well,
        filter: errors_about_connections_of_others_are_not_sent,
        filter: frames_do_not_reach_a_neighbour + "nft",
        filter: connections_are_limited,
        filter: a_crowd_does_not_lose_its_gateway,
        filter: what_a_rule_denies_stays_denied_where_others_open_it,
        filter: fragments_of_one_leave_room_for_others + "nft",
        filter: nothing_leaves_with_an_address_of_the_bridge,
        filter: nobody_is_noted_as_a_neighbour + "nft",
        filter: a_packet_does_not_say_its_way + "nft",
        user_mode: a_user_mode_network_leads_outside + "pasta" + "slirp4netns",
        user_mode: a_user_mode_program_has_nothing_of_the_host + "pasta" + "slirp4netns",
        user_mode: user_mode_closes_the_hosts_loopback + "pasta" + "slirp4netns",
        user_mode: user_mode_closes_the_metadata_service + "pasta" + "slirp4netns",
        user_mode: user_mode_finds_names + "pasta" + "slirp4netns",
        user_mode: user_mode_publishes_ports + "pasta" + "slirp4netns",
        user_mode: user_mode_names_the_package + "pasta" + "slirp4netns",
        user_mode: user_mode_tells_what_went_wrong + "pasta" + "slirp4netns",
        user_mode: a_user_mode_program_is_killed + "pasta" + "slirp4netns",
        user_mode: a_user_mode_program_loops + "pasta" + "slirp4netns",
        user_mode: twenty_user_mode_networks + "pasta" + "slirp4netns",
        user_mode: a_user_mode_host_is_killed + "pasta" + "slirp4netns" + "setpriv",
        user_mode: an_unprivileged_user_mode_host + "pasta" + "slirp4netns" + "setpriv",
        user_mode: a_reset_makes_another_user_mode_network + "pasta" + "slirp4netns",
    ];
    support::main(
        cases,
        &[
            ("scene", scene::play),
            ("user-mode-hold", user_mode::hold),
            ("user-mode-nobody", user_mode::nobody),
            ("crash", bridge::crash),
            ("neighbour", bridge::neighbour),
            ("nobody", bridge::nobody),
            ("powerless", bridge::powerless),
        ],
    )
}
