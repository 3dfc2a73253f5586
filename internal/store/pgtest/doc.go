// Package pgtest gives tests a real PostgreSQL: a private server on a unix
// socket, started when the first test asks for it and gone with the process
// that started it, however that one ends.
//
// The server is the one that is installed; Debian's package postgresql is
// enough. Where there is none, tests that need it are skipped, and fail if
// TFOFLEET_REQUIRE_KERNEL=1.
package pgtest
