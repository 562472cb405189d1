package postgrestest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Certificate is what a test can choose of the server's certificate.
type Certificate struct {
	// Name is a host name that it is for. Unset means Host.
	Name string
	// Expired means that it is not valid any more.
	Expired bool
}

// lifetime of certificates. A demo may be left running for days.
const lifetime = 365 * 24 * time.Hour

// authority signs the server's certificate.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "postgrestest"},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return authority{certificate: certificate, key: key, pem: encode("CERTIFICATE", der)}, err
}

// NewCA returns the certificate, as PEM, of an authority that has signed nothing.
func NewCA() ([]byte, error) {
	a, err := newAuthority()
	return a.pem, err
}

// NewCertificate returns the certificate of a new authority, and a server's certificate and key that it has signed, all as PEM.
func NewCertificate(c Certificate) (ca, certificate, key []byte, err error) {
	a, err := newAuthority()
	if err != nil {
		return nil, nil, nil, err
	}
	certificate, key, _, err = a.sign(c)
	return a.pem, certificate, key, err
}

// sign returns a certificate and its key, as PEM, and its serial number.
func (a authority) sign(c Certificate) (certificate, private []byte, serial string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "server"},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(lifetime),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.ParseIP(Host)},
	}
	if c.Name != "" {
		template.DNSNames, template.IPAddresses = []string{c.Name}, nil
	}
	if c.Expired {
		template.NotAfter = time.Now().Add(-time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, nil, "", fmt.Errorf("signing the server's certificate: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", encoded), template.SerialNumber.String(), err
}

// SetCertificate replaces the server's certificate. The server uses it when it starts or reloads its settings.
func (s *Server) SetCertificate(c Certificate) error {
	certificate, key, serial, err := s.authority.sign(c)
	if err != nil {
		return err
	}
	s.serial = serial
	return errors.Join(s.write("server.crt", string(certificate)), s.write("server.key", string(key)))
}

// Serial returns the serial number of the certificate that was set last.
func (s *Server) Serial() string { return s.serial }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
