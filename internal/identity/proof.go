package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
)

// What the identity key signs. Each text begins with what it is for, so that a
// signature made for one purpose is none for another; the parts have fixed
// lengths or cannot hold the 0 that ends them.

func enrollProof(token string, csr []byte) []byte {
	sum := sha256.Sum256(csr)
	return append([]byte("tfofleet enroll v1\x00"+token+"\x00"), sum[:]...)
}

func recoverProof(fleet string, nonce, csr []byte) []byte {
	sum := sha256.Sum256(csr)
	text := append([]byte("tfofleet recover v1\x00"+fleet+"\x00"), nonce...)
	return append(text, sum[:]...)
}

// nonceSize is the length of a challenge.
const nonceSize = 32

func proven(identity, text, signature []byte) bool {
	return len(identity) == ed25519.PublicKeySize && ed25519.Verify(identity, text, signature)
}
