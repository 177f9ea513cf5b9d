/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The XDP program: decides for each frame whether the engine or the kernel gets it, counts the
 * decision, and redirects what is the engine's to the AF_XDP socket of the queue it arrived on.
 * It keeps no state of its own, changes no byte, and knows no connection.
 *
 * A frame is the engine's in one of two ways. Owned: its address lies in `prefixes`, which the
 * kernel does not have; TCP, ICMP and ARP for it are redirected. Shared: the kernel has the
 * address, and TCP to a port in `listeners` or `port_ranges` is redirected.
 */
#include <linux/bpf.h>

#include "abi.h"
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEER_PREFIXES_MAX);
	__type(key, struct steer_prefix);
	__type(value, __u8);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_LISTENERS_MAX);
	__type(key, struct steer_listener);
	__type(value, __u8);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_PORT_RANGES_MAX);
	__type(key, struct steer_address);
	__type(value, struct steer_port_range);
} port_ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

static __always_inline bool is_owned(const struct steer_address *address)
{
	struct steer_prefix key = { .len = 128, .address = *address };

	return bpf_map_lookup_elem(&prefixes, &key) != NULL;
}

static __always_inline bool is_listed(const struct steer_address *address, __be16 port)
{
	struct steer_listener key = { .address = *address, .port = port };
	struct steer_port_range *range;

	if (bpf_map_lookup_elem(&listeners, &key))
		return true;
	range = bpf_map_lookup_elem(&port_ranges, address);
	return range && range->low <= bpf_ntohs(port) && bpf_ntohs(port) <= range->high;
}

static __always_inline enum steer_verdict steer_owned(const struct packet *packet)
{
	__u8 icmp = packet->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;

	if (packet->fragment != FRAGMENT_NONE)
		return STEER_DROP_FRAGMENT;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != icmp)
		return STEER_DROP_PROTOCOL;
	return STEER_REDIRECT;
}

static __always_inline enum steer_verdict steer_shared(struct cursor *cursor,
						       const struct packet *packet)
{
	const struct steer_address any = {};
	__be16 port;

	if (packet->protocol != IPPROTO_TCP)
		return STEER_PASS_PROTOCOL;
	if (packet->fragment == FRAGMENT_LATER)
		return STEER_PASS_FRAGMENT;
	if (!parse_port(cursor, packet, &port))
		return STEER_PASS_MALFORMED;
	if (!is_listed(&packet->address, port) && !is_listed(&any, port))
		return STEER_PASS_PORT;
	if (packet->fragment == FRAGMENT_FIRST)
		return STEER_DROP_FRAGMENT;
	return STEER_REDIRECT;
}

static __always_inline enum steer_verdict steer_frame(struct cursor *cursor)
{
	struct packet packet;
	struct link link;

	if (!parse_link(cursor, &link))
		return STEER_PASS_MALFORMED;
	if (link.vlan)
		return STEER_PASS_VLAN;
	switch (bpf_ntohs(link.ethertype)) {
	case ETH_P_ARP:
		if (!parse_arp(cursor, &packet.address))
			return STEER_PASS_MALFORMED;
		return is_owned(&packet.address) ? STEER_REDIRECT : STEER_PASS_ARP;
	case ETH_P_IP:
		if (!parse_ipv4(cursor, &packet))
			return STEER_PASS_MALFORMED;
		break;
	case ETH_P_IPV6:
		if (!parse_ipv6(cursor, &packet))
			return STEER_PASS_MALFORMED;
		break;
	default:
		return STEER_PASS_ETHERTYPE;
	}
	return is_owned(&packet.address) ? steer_owned(&packet) : steer_shared(cursor, &packet);
}

/*
 * bpf_redirect_map answers with the action it was given when the slot is empty; asking it, and
 * not the map beforehand, leaves no moment in which the socket can go away uncounted.
 */
static __always_inline enum steer_verdict redirect(struct xdp_md *ctx, bool drop_missing)
{
	long action =
		bpf_redirect_map(&xsks, ctx->rx_queue_index, drop_missing ? XDP_DROP : XDP_PASS);

	if (action == XDP_REDIRECT)
		return STEER_REDIRECT;
	return drop_missing ? STEER_MISSING_DROP : STEER_MISSING_PASS;
}

static __always_inline int action_of(enum steer_verdict verdict)
{
	switch (verdict) {
	case STEER_REDIRECT:
		return XDP_REDIRECT;
	case STEER_MISSING_DROP:
	case STEER_DROP_FRAGMENT:
	case STEER_DROP_PROTOCOL:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	struct cursor cursor = {
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	enum steer_verdict verdict = STEER_PASS_DISABLED;
	struct steer_config *settings;
	__u32 key = 0;
	__u64 *frames;

	settings = bpf_map_lookup_elem(&config, &key);
	if (settings && settings->enabled) {
		verdict = steer_frame(&cursor);
		if (verdict == STEER_REDIRECT)
			verdict = redirect(ctx, settings->on_missing == XDP_DROP);
	}
	key = verdict;
	frames = bpf_map_lookup_elem(&verdicts, &key);
	if (frames)
		*frames += 1;
	return action_of(verdict);
}

/* MIT is compatible with the GPL; this is the name under which the kernel knows that. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
