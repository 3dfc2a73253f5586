// Package tfo is one TCP connection and the kernel beneath it: it dials with
// and without TCP Fast Open (RFC 7413), reads what the kernel knows about each
// connection (TCP_INFO), reads and empties the cookie cache (tcp_metrics over
// generic netlink), looks at the handshake on the wire where it may (a packet
// ring), and reports the outcome as [Evidence]: facts, never an opinion. What
// the facts mean is decided in internal/measure.
//
// Only this package and internal/lab may touch system calls. Nothing in here
// may know what a survey, a lease or a verdict is.
//
// Kernel behaviour quoted in comments names the file in the Linux tree; the
// numbers were taken on Linux 6.18 and the code reads the same in 6.12 unless
// a comment says otherwise.
package tfo
