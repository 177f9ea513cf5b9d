/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A cursor over the headers of a frame: Ethernet, VLAN tags, ARP, IPv4, IPv6 and the TCP ports.
 * It says what a frame is about, not what to do with it. Every read is bounded by the end of the
 * frame, and every loop by a constant, as the verifier wants. Checksums and everything behind the
 * ports are left to the receiver.
 */
#ifndef BAREWIRE_STEER_PARSE_H
#define BAREWIRE_STEER_PARSE_H

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define VLAN_TAGS_MAX 2
#define VLAN_VID_MASK 0x0fff
#define ARP_HARDWARE_ETHERNET 1
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET_MASK 0x1fff
#define IPV6_OFFSET_MASK 0xfff8
#define ND_NEIGHBOR_SOLICIT 135

struct cursor {
	void *pos;
	void *end;
};

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* RFC 826 for Ethernet and IPv4, the only pair in use. */
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
};

/* RFC 8200 section 4.5. */
struct ipv6_fragment {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* RFC 4861 section 4.3. */
struct neighbor_solicit {
	struct icmp6hdr header;
	struct in6_addr target;
};

enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

struct link {
	__be16 ethertype;
	bool vlan; /* inside a VLAN other than 0 */
};

struct packet {
	struct steer_address address; /* whom it is for */
	__u32 payload_len; /* bytes behind the IP headers, by the IP header's own account */
	enum fragment fragment;
	__u8 version;
	__u8 protocol;
};

/* The next `size` bytes, or NULL when the frame ends before. */
static __always_inline void *take(struct cursor *cursor, __u32 size)
{
	void *start = cursor->pos;

	if (start + size > cursor->end)
		return NULL;
	cursor->pos = start + size;
	return start;
}

/*
 * A length from the wire. Kernels such as 6.1 do not know that a number whose bytes were swapped still
 * has 16 bits, and refuse to add it to a pointer; clang does know, and would leave the mask out.
 */
static __always_inline __u32 length_of(__be16 wire)
{
	__u32 length = bpf_ntohs(wire);

	asm volatile("" : "+r"(length));
	return length & 0xffff;
}

static __always_inline void map_ipv4(struct steer_address *address, const void *ipv4)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(&address->bytes[12], ipv4, 4);
}

/* A tag with VID 0 carries a priority only and leaves the frame untagged (802.1Q clause 9.6). */
static __always_inline bool parse_link(struct cursor *cursor, struct link *link)
{
	struct ethhdr *eth = take(cursor, sizeof(*eth));

	if (!eth)
		return false;
	link->ethertype = eth->h_proto;
	link->vlan = false;
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag;

		if (link->ethertype != bpf_htons(ETH_P_8021Q) &&
		    link->ethertype != bpf_htons(ETH_P_8021AD))
			break;
		tag = take(cursor, sizeof(*tag));
		if (!tag)
			return false;
		link->ethertype = tag->ethertype;
		if (tag->tci & bpf_htons(VLAN_VID_MASK))
			link->vlan = true;
	}
	return true;
}

/* Finds the protocol address that an ARP request asks for, or that a reply is for. */
static __always_inline bool parse_arp(struct cursor *cursor, struct steer_address *target)
{
	struct arp_ipv4 *arp = take(cursor, sizeof(*arp));

	if (!arp || arp->hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_len != ETH_ALEN ||
	    arp->protocol_len != sizeof(arp->target_ip))
		return false;
	map_ipv4(target, arp->target_ip);
	return true;
}

static __always_inline bool parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = take(cursor, sizeof(*ip));
	__u32 header_len, total_len;
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return false;
	header_len = ip->ihl * 4;
	total_len = length_of(ip->tot_len);
	if (total_len < header_len || (void *)ip + total_len > cursor->end)
		return false;
	if (!take(cursor, header_len - sizeof(*ip)))
		return false;

	map_ipv4(&packet->address, &ip->daddr);
	packet->version = 4;
	packet->protocol = ip->protocol;
	packet->payload_len = total_len - header_len;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IPV4_OFFSET_MASK)
		packet->fragment = FRAGMENT_LATER;
	else if (fragment & IPV4_MORE_FRAGMENTS)
		packet->fragment = FRAGMENT_FIRST;
	else
		packet->fragment = FRAGMENT_NONE;
	return true;
}

/*
 * Follows one extension header. Returns its length, or 0 when the packet ends inside it. What
 * comes behind the header of a later fragment is the middle of something, so `protocol` is final
 * there.
 */
static __always_inline __u32 parse_extension(struct cursor *cursor, struct packet *packet)
{
	struct ipv6_opt_hdr *extension;
	__u32 len;

	if (packet->protocol == IPPROTO_FRAGMENT) {
		struct ipv6_fragment *fragment = take(cursor, sizeof(*fragment));

		if (!fragment)
			return 0;
		packet->protocol = fragment->nexthdr;
		packet->fragment = fragment->offset & bpf_htons(IPV6_OFFSET_MASK) ?
					   FRAGMENT_LATER :
					   FRAGMENT_FIRST;
		return sizeof(*fragment);
	}
	extension = take(cursor, sizeof(*extension));
	if (!extension)
		return 0;
	len = (extension->hdrlen + 1) * 8;
	packet->protocol = extension->nexthdr;
	return take(cursor, len - sizeof(*extension)) ? len : 0;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

/*
 * A neighbour solicitation goes to a multicast group that many hosts share, so it is for the
 * target that it names (RFC 4861 section 7.2.2), as an ARP request is.
 */
static __always_inline bool parse_solicitation(struct cursor *cursor, struct packet *packet)
{
	struct icmp6hdr *icmp = cursor->pos;
	struct neighbor_solicit *solicit = cursor->pos;

	if (packet->payload_len < sizeof(*icmp) || (void *)(icmp + 1) > cursor->end)
		return false;
	if (icmp->icmp6_type != ND_NEIGHBOR_SOLICIT)
		return true;
	if (packet->payload_len < sizeof(*solicit) || (void *)(solicit + 1) > cursor->end)
		return false;
	__builtin_memcpy(packet->address.bytes, &solicit->target, sizeof(packet->address.bytes));
	return true;
}

/*
 * With more extension headers than are followed, `protocol` stays that of an extension header,
 * which is no transport protocol.
 */
static __always_inline bool parse_ipv6(struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = take(cursor, sizeof(*ip));

	if (!ip || ip->version != 6)
		return false;
	packet->payload_len = length_of(ip->payload_len);
	if ((void *)(ip + 1) + packet->payload_len > cursor->end)
		return false;
	__builtin_memcpy(packet->address.bytes, &ip->daddr, sizeof(packet->address.bytes));
	packet->version = 6;
	packet->protocol = ip->nexthdr;
	packet->fragment = FRAGMENT_NONE;

	for (int i = 0; i < STEER_EXTENSION_HEADERS_MAX; i++) {
		__u32 len;

		if (!is_extension(packet->protocol) || packet->fragment == FRAGMENT_LATER)
			break;
		len = parse_extension(cursor, packet);
		if (!len || len > packet->payload_len)
			return false;
		packet->payload_len -= len;
	}
	if (packet->protocol == IPPROTO_ICMPV6 && packet->fragment == FRAGMENT_NONE)
		return parse_solicitation(cursor, packet);
	return true;
}

/* The destination port: the second half of the first word of a TCP header. */
static __always_inline bool parse_port(struct cursor *cursor, const struct packet *packet,
				       __be16 *port)
{
	__be16 *ports = take(cursor, 2 * sizeof(*ports));

	if (!ports || packet->payload_len < 2 * sizeof(*ports))
		return false;
	*port = ports[1];
	return true;
}

#endif
