# shellcheck shell=bash
# Whether the two sides of a load test of one exchange on each connection tell the same story: what
# the load test reports, and the counters and the status of a server that saw nothing else. Sourced by
# demo.sh and vm.sh.

# Frames that a sound test may drop: what arrives twice because its first copy was slow, and what was
# never for us. Everything else dropped is a fault. How many may be without a connection is compared.
BOOKS_DROPS_WITHOUT_RISK='["drop_sequence", "drop_arp", "drop_ethertype", "drop_no_connection"]'

# Prints one sentence for everything that does not add up, and nothing when all does. The files are
# the JSON of the load test's report, and of `barewire stats` and `barewire status` at the server.
books_compare() { # CONNECTIONS REQUEST_BYTES LOAD STATS STATUS
    jq -n -r --argjson wanted "$1" --argjson request_bytes "$2" \
        --argjson harmless "$BOOKS_DROPS_WITHOUT_RISK" \
        --slurpfile load "$3" --slurpfile stats "$4" --slurpfile status "$5" '
        $load[0] as $load | $stats[0] as $stats | $status[0] as $status
        | def equal($what; $expected; $found):
            if $expected == $found then empty
            else "\($what): expected \($expected), found \($found)" end;
        equal("client, connections opened"; $wanted; $load.opened),
        equal("client, connections open at the same time"; $wanted; $load.peak_open),
        equal("client, connections closed"; $wanted; $load.closed),
        equal("client, connections failed"; 0; $load.failed),
        equal("client, responses"; $wanted; $load.responses),
        equal("client, bytes sent"; $wanted * $request_bytes; $load.bytes_sent),
        equal("client, bytes received"; $load.bytes_sent; $load.bytes_received),
        equal("server, connections accepted"; $load.opened; $stats.conns_passive),
        equal("server, connections established"; $load.opened; $stats.conns_established),
        equal("server, connections closed"; $load.closed; $stats.conns_closed),
        equal("server, bytes received"; $load.bytes_sent; $stats.tcp_bytes_in),
        equal("server, bytes sent"; $load.bytes_received; $stats.tcp_bytes_out),
        equal("server, bytes acknowledged"; $load.bytes_received; $stats.tcp_bytes_acked),
        (("conns_reset", "conns_aborted", "conns_timed_out", "conns_open", "tcp_rst_in")
            | equal("server, \(.)"; 0; $stats[.])),
        # A FIN that was sent twice is acknowledged twice, the second time when its connection has ended.
        equal("server, tcp_rst_out"; $stats.drop_no_connection; $stats.tcp_rst_out),
        ($stats.tcp_retransmitted | select($stats.drop_no_connection > .)
            | "server, drop_no_connection: expected \(.) at most, found \($stats.drop_no_connection)"),
        ($stats | to_entries[] | select(.key | startswith("drop_")) | select([.key] | inside($harmless) | not)
            | equal("server, \(.key)"; 0; .value)),
        ($status.workers[] | .frames
            | equal("server, frames of a queue"; .total; .free + .fill + .rx + .tx + .completion + .held))'
}
