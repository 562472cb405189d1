package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

const (
	passwordBytes  = 32
	scramSaltBytes = 16
	// scramIterations is PostgreSQL's own number. Guessing 256 random bits is hopeless with any.
	scramIterations = 4096
)

// newPassword returns a random password of characters that need no quoting anywhere.
func newPassword() string {
	random := make([]byte, passwordBytes)
	// It never returns an error.
	_, _ = rand.Read(random)
	return base64.RawURLEncoding.EncodeToString(random)
}

// newVerifier returns what PostgreSQL stores of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677). The password can't be computed
// from it. It is for ASCII passwords only, since others would have to be normalized.
func newVerifier(password string) (string, error) {
	salt := make([]byte, scramSaltBytes)
	_, _ = rand.Read(salt)
	return verifier(password, salt)
}

func verifier(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	storedKey := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		scramIterations, encode(salt), encode(storedKey[:]), encode(sign(salted, "Server Key"))), nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	// A hash never returns an error.
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}
