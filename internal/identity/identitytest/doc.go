// Package identitytest has the suite that every identity.Store passes, a Store
// in memory, and the check that every method of a server is in the table.
//
// Nothing that a program needs to run may enter.
package identitytest
