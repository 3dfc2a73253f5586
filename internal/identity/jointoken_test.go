package identity

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
)

func sampleToken() JoinToken {
	return JoinToken{
		Addresses: []string{"controller.example:443", "[2001:db8::1]:8443"}, Pin: Hash{1, 2, 3},
		ID: lower.EncodeToString([]byte("0123456789")), Secret: NewSecret([]byte("sixteen bytes !!")),
	}
}

// goldenToken holds the format: tokens are in scripts and in people's notes.
const goldenToken = "tfojoin1_aebagaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaadamjsgm2dknrxha4xg2lyorswk3ram" +
	"j4xizlteaqscftdn5xhi4tpnrwgk4romv4gc3lqnrstunbugmjfwmrqgaytuzdcha5dumk5hi4dinbtlqoha3i"

func same(a, b JoinToken) bool {
	return slices.Equal(a.Addresses, b.Addresses) && a.Pin == b.Pin && a.ID == b.ID && bytes.Equal(a.Secret.Reveal(), b.Secret.Reveal())
}

func TestJoinToken(t *testing.T) {
	want := sampleToken()
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if text != goldenToken {
		t.Errorf("the format has changed: %s", text)
	}
	for _, form := range []string{text, strings.ToUpper(text), "  " + text + "\r\n", text[:30] + "\n" + text[30:70] + "  \n\t" + text[70:]} {
		got, err := ParseJoinToken(form)
		if err != nil || !same(got, want) {
			t.Errorf("%q: %v", form, err)
		}
	}
	for _, c := range text {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			t.Errorf("%q would not survive a shell or a double click", c)
		}
	}
}

// TestDamagedToken: every single wrong, missing or doubled character is noticed,
// and no error repeats the secret.
func TestDamagedToken(t *testing.T) {
	text, err := sampleToken().Encode()
	if err != nil {
		t.Fatal(err)
	}
	secret := text[100:115]
	var damaged []string
	for i := range text {
		for _, c := range "a7_" {
			if byte(c) != text[i] {
				damaged = append(damaged, text[:i]+string(c)+text[i+1:])
			}
		}
		damaged = append(damaged, text[:i], text[:i]+text[i+1:], text[:i]+text[i:i+1]+text[i:])
	}
	damaged = append(damaged, "", "tfojoin1_", "tfojoin2_"+text[9:], text+text, text+"a", strings.Repeat("a", 1<<20))
	for _, d := range damaged {
		_, err := ParseJoinToken(d)
		if err == nil {
			t.Errorf("%.200q was taken", d)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
	if _, err := ParseJoinToken("tfojoin2_" + text[9:]); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("a newer token: %v", err)
	}
	if _, err := ParseJoinToken(text[:len(text)-20]); err == nil || !strings.Contains(err.Error(), "copied") {
		t.Errorf("a part of a token: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, a := range []string{"a:1", "controller.example:443", "192.0.2.1:65535", "[2001:db8::1]:443", "under_score:1"} {
		if err := checkAddress(a); err != nil {
			t.Error(err)
		}
	}
	for _, a := range []string{"", "a", ":1", "a:", "a:0", "a:65536", "a:http", "a:-1", "https://a:1", "a/b:1", "2001:db8::1:443", "[fe80::1%eth0]:1", "a b:1", "dns:///a:1", strings.Repeat("a", 300) + ":1"} {
		if err := checkAddress(a); err == nil {
			t.Errorf("%q is an address", a)
		}
	}
	for _, change := range []func(*JoinToken){
		func(t *JoinToken) { t.Addresses = nil },
		func(t *JoinToken) { t.Addresses = slices.Repeat([]string{"a:1"}, 9) },
		func(t *JoinToken) { t.ID = "short" },
		func(t *JoinToken) { t.Secret = Secret{} },
	} {
		tok := sampleToken()
		change(&tok)
		if _, err := tok.Encode(); err == nil {
			t.Errorf("%+v was encoded", tok)
		}
	}
}

// FuzzParseJoinToken: what is taken is what is encoded, in one spelling.
func FuzzParseJoinToken(f *testing.F) {
	text, err := sampleToken().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(strings.ToUpper(text))
	f.Add(text[:40] + "\n" + text[40:])
	f.Add("tfojoin1_")
	f.Add("tfojoin9_aaaa")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		checkParsed(t, s)
		// The checksum would keep the fuzzer out of all that is behind it.
		sum := sha256.Sum256([]byte(s))
		checkParsed(t, tokenPrefix+lower.EncodeToString(append([]byte(s), sum[:checkSize]...)))
	})
}

func checkParsed(t *testing.T, s string) {
	tok, err := ParseJoinToken(s)
	if err != nil {
		return
	}
	again, err := tok.Encode()
	if err != nil {
		t.Fatalf("%v was parsed and cannot be encoded: %v", tok, err)
	}
	if again != strings.ToLower(strings.Join(strings.Fields(s), "")) {
		t.Errorf("%q has another spelling, %q", s, again)
	}
}
