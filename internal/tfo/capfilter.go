package tfo

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// captureFilter is the program the kernel runs over every packet of the
// namespace before it costs us anything. It starts at the IP header (the
// socket is a cooked one) and lets through SYNs that leave, SYN-ACKs and RSTs
// that come in, and ICMP errors that come in and quote TCP. Packets of other
// programs pass as well: a classic filter cannot hold a list of connections.
//
// The direction is part of it: on loopback each packet comes by twice, leaving
// and arriving.
func captureFilter() []bpf.Instruction {
	drop := bpf.RetConstant{Val: 0}
	accept := bpf.RetConstant{Val: snapLen}
	// unless lets the program go on when A is v, and ends it otherwise.
	unless := func(v uint32, end bpf.Instruction) []bpf.Instruction {
		return []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: 1}, end}
	}
	// when ends the program when A is v, and lets it go on otherwise.
	when := func(v uint32, end bpf.Instruction) []bpf.Instruction {
		return []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: 1}, end}
	}
	// branch runs block, which must end the program, when A is v.
	branch := func(v uint32, block []bpf.Instruction) []bpf.Instruction {
		return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: uint8(len(block))}}, block...)
	}
	one := func(i bpf.Instruction) []bpf.Instruction { return []bpf.Instruction{i} }

	// tcp wants the flags of the segment in A.
	const flags = flagSYN | flagRST | flagACK
	tcp := slices.Concat(
		one(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flags}),
		one(bpf.TAX{}),
		one(bpf.LoadExtension{Num: bpf.ExtType}),
		branch(unix.PACKET_OUTGOING, slices.Concat(
			one(bpf.TXA{}),
			unless(flagSYN, drop),
			one(accept),
		)),
		unless(unix.PACKET_HOST, drop),
		one(bpf.TXA{}),
		when(flagSYN|flagACK, accept),
		one(bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: flagRST, SkipTrue: 1}),
		one(drop),
		one(accept),
	)
	notFirstFragment := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipFalse: 1}, drop,
	}
	icmp4 := slices.Concat(
		one(bpf.LoadExtension{Num: bpf.ExtType}),
		unless(unix.PACKET_HOST, drop),
		notFirstFragment,
		one(bpf.LoadMemShift{Off: 0}), // X is the length of the IP header
		one(bpf.LoadIndirect{Off: icmpHeaderLen + 9, Size: 1}),
		unless(unix.IPPROTO_TCP, drop),
		one(bpf.LoadIndirect{Off: 0, Size: 1}),
		when(3, accept), when(4, accept), when(11, accept), when(12, accept),
		one(drop),
	)
	ipv4 := slices.Concat(
		one(bpf.LoadAbsolute{Off: 9, Size: 1}),
		branch(unix.IPPROTO_ICMP, icmp4),
		unless(unix.IPPROTO_TCP, drop),
		notFirstFragment,
		one(bpf.LoadMemShift{Off: 0}),
		one(bpf.LoadIndirect{Off: 13, Size: 1}),
		tcp,
	)
	icmp6 := slices.Concat(
		one(bpf.LoadExtension{Num: bpf.ExtType}),
		unless(unix.PACKET_HOST, drop),
		one(bpf.LoadAbsolute{Off: ipv6HeaderLen, Size: 1}),
		one(bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: 4, SkipTrue: 1}),
		one(drop),
		one(accept),
	)
	ipv6 := slices.Concat(
		one(bpf.LoadAbsolute{Off: 6, Size: 1}),
		branch(unix.IPPROTO_ICMPV6, icmp6),
		// Extension headers are rare, and a program without loops is no place
		// to walk over them: decodePacket does.
		when(unix.IPPROTO_HOPOPTS, accept), when(unix.IPPROTO_ROUTING, accept), when(unix.IPPROTO_DSTOPTS, accept),
		unless(unix.IPPROTO_TCP, drop),
		one(bpf.LoadAbsolute{Off: ipv6HeaderLen + 13, Size: 1}),
		tcp,
	)
	return slices.Concat(
		one(bpf.LoadExtension{Num: bpf.ExtProto}),
		branch(unix.ETH_P_IP, ipv4),
		unless(unix.ETH_P_IPV6, drop),
		ipv6,
	)
}
