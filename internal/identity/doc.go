// Package identity is who is who in a fleet: the certificate authority, the
// join tokens that let probes in, the certificates of probes, operators and
// controllers, and the one table that says who may call what.
//
// A probe's life:
//
//	operator             controller                       probe
//	CreateToken ------>  hash of the secret is kept
//	       token, by hand ----------------------------->  Join: identity key made once
//	                     Enroll: use, member and       <- token secret, CSR, signature
//	                     certificate in one transaction
//	                     certificate, CA bundle ------->  written, fsynced, then used
//	                     the newest certificate is
//	                     active from its first use     <- any call
//	                     Renew                         <- at half life, a new key
//	                     Recover: challenge            <- certificate ran out
//	Ban -------------->  live streams end, every call is refused
//
// The controller's side is a [CA] (a file), a [Store] (the records) and an
// [Authority] over both; [Guard] enforces [Methods] on a gRPC server, and on the
// pages that browsers see on its port, [Guard.Web]. The probe's side is
// [OpenProbe]; an operator's is [LoadCredential].
//
// A certificate alone lets nobody in: its serial must be on record. Whoever
// steals the CA key, but not the store, can therefore still not be a probe.
//
// What a survey, a lease or a measurement is may not enter, nor SQL, nor system
// calls. Secrets are held so that no printer finds them, see [Secret].
package identity
