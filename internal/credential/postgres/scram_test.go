package postgres

import (
	"encoding/base64"
	"testing"
)

// The example of RFC 7677, whose server key and stored key follow from its salt and iterations.
func TestVerifier(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifier("pencil", salt)
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("verifier %s, error %v", got, err)
	}
}

func TestPassword(t *testing.T) {
	one, two := newPassword(), newPassword()
	if one == two || len(one) != 43 {
		t.Errorf("passwords of %d and %d characters, equal: %t", len(one), len(two), one == two)
	}
}
