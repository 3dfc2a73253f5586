package identity

import (
	"crypto/rand"

	"software.sslmate.com/src/go-pkcs12"
)

// SavePKCS12 writes certificate, key and the roots to a file that browsers
// import, encrypted with a password of 130 random bits that is nowhere else. The
// file must not be there.
func (c *Credential) SavePKCS12(path string) (password string, err error) {
	password = rand.Text()
	data, err := pkcs12.Modern2023.Encode(c.key.reveal(), c.cert, c.bundle, password)
	if err != nil {
		return "", err
	}
	return password, createPrivate(path, data)
}
