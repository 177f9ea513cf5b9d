/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The contract between the XDP program and user space: the layout of every key and value in its
 * maps. abi.rs is the twin; a change of one is a change of both and a new STEER_ABI_VERSION.
 *
 * Maps (the variable names in steer.bpf.c, and the file names when they are pinned):
 *   config       ARRAY[1]      0                       -> struct steer_config
 *   xsks         XSKMAP        queue                   -> AF_XDP socket
 *   prefixes     LPM_TRIE      struct steer_prefix     -> 1: addresses that user space owns
 *   listeners    HASH          struct steer_listener   -> 1: ports shared with the kernel
 *   port_ranges  HASH          struct steer_address    -> struct steer_port_range
 *   verdicts     PERCPU_ARRAY  enum steer_verdict      -> number of frames, u64
 */
#ifndef BAREWIRE_STEER_ABI_H
#define BAREWIRE_STEER_ABI_H

#include <linux/types.h>

#define STEER_MAGIC 0x62617265u /* "bare", so that a foreign map is not taken for ours */
#define STEER_ABI_VERSION 1

#define STEER_QUEUES_MAX 1024 /* slots of xsks; fewer are made, one for each queue */
#define STEER_PREFIXES_MAX 1024
#define STEER_LISTENERS_MAX 1024
#define STEER_PORT_RANGES_MAX 1024

/* How many IPv6 extension headers are followed to find the transport header. */
#define STEER_EXTENSION_HEADERS_MAX 4

/* Zero until user space has written it, and so disabled. */
struct steer_config {
	__u32 magic;
	__u32 abi_version;
	__u32 enabled; /* 0: every frame goes to the kernel */
	__u32 on_missing; /* XDP_DROP or XDP_PASS, for our frames on a queue without a socket */
};

/* IPv6, or IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). All zero means any, where any is allowed. */
struct steer_address {
	__u8 bytes[16];
};

struct steer_prefix {
	__u32 len; /* in bits, counted in the 128-bit form: IPv4 /16 is 112 */
	struct steer_address address;
};

struct steer_listener {
	struct steer_address address;
	__be16 port;
	__u16 zero;
};

/* Both ends belong to the range; host byte order. */
struct steer_port_range {
	__u16 low;
	__u16 high;
};

/*
 * What became of a frame. Every frame is counted under exactly one verdict, so their sum is the
 * number of frames seen.
 */
enum steer_verdict {
	STEER_REDIRECT, /* given to the socket of its queue */
	STEER_MISSING_PASS, /* ours, but its queue has no socket: on_missing */
	STEER_MISSING_DROP,
	STEER_PASS_DISABLED, /* the kernel's: the kill switch is on */
	STEER_PASS_MALFORMED, /* truncated, or lengths that contradict each other */
	STEER_PASS_ETHERTYPE, /* neither ARP nor IP */
	STEER_PASS_VLAN, /* a VLAN other than 0 */
	STEER_PASS_ARP, /* ARP for an address that is not owned */
	STEER_PASS_PROTOCOL, /* not owned, and not TCP */
	STEER_PASS_PORT, /* not owned, and TCP to a port that is not listed */
	STEER_PASS_FRAGMENT, /* not owned, and a later fragment, which has no ports */
	STEER_DROP_FRAGMENT, /* ours, but in fragments, which the engine does not reassemble */
	STEER_DROP_PROTOCOL, /* owned, but neither TCP nor ICMP */
	STEER_VERDICTS,
};

_Static_assert(sizeof(struct steer_config) == 16, "abi");
_Static_assert(sizeof(struct steer_address) == 16, "abi");
_Static_assert(sizeof(struct steer_prefix) == 20, "abi");
_Static_assert(sizeof(struct steer_listener) == 20, "abi");
_Static_assert(sizeof(struct steer_port_range) == 4, "abi");

#endif
