package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

const (
	// oldestServer is the oldest version of PostgreSQL with memberships that are inherited and can't be switched to.
	oldestServer = 160000
	// defaultConnections is how many connections of a provider are open at most. Two statements of each kind take turns on it.
	defaultConnections = 4
	// connectTimeout is how long one attempt to connect may take.
	connectTimeout = 10 * time.Second
	// idleTime is how long a connection stays open that nobody uses.
	idleTime = time.Minute
)

// Settings are what a CredentialProvider says, with the content of its Secrets.
type Settings struct {
	// Cluster and Provider are the UIDs of the namespace kube-system and of the CredentialProvider. Credentials of others are not
	// listed.
	Cluster, Provider types.UID

	Host     string
	Port     int32
	Database string
	SSLMode  v1alpha1.SSLMode
	// CA has certificates of authorities, as PEM. Without it those of the system are trusted.
	CA []byte
	// Username and Password of a role that is a member of tenantry_operator.
	Username, Password string

	// ConnectionLimit is how many sessions a run may have at once.
	ConnectionLimit int32
	// MaxLifetime bounds the lifetime of a credential.
	MaxLifetime time.Duration
	// MaxConnections bounds the connections of this provider. Zero means 4.
	MaxConnections int32
}

// config returns how to connect. The environment and the files that libpq reads do not matter.
func (s Settings) config() (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig("host=localhost sslmode=disable")
	if err != nil {
		return nil, credential.Errorf(v1alpha1.ReasonServerError, "reading libpq's environment variables")
	}
	encryption, err := s.encryption()
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	c.Host, c.Port = s.Host, uint16(s.Port)
	c.Database, c.User, c.Password = s.Database, s.Username, s.Password
	c.TLSConfig, c.Fallbacks = encryption, nil
	c.ConnectTimeout = connectTimeout
	c.RuntimeParams = map[string]string{
		"application_name": "tenantry",
		// Nothing that somebody creates in another schema can take the place of what a statement means.
		"search_path":                         "pg_catalog, pg_temp",
		"statement_timeout":                   "15s",
		"lock_timeout":                        "3s",
		"idle_in_transaction_session_timeout": "15s",
		"client_min_messages":                 "warning",
	}
	if s.SSLMode == v1alpha1.SSLDisable || s.SSLMode == v1alpha1.SSLRequire {
		// Who is not verified does not get the password itself, nor what md5 makes of it, from which it can be guessed offline.
		c.RequireAuth = "!password,!md5"
	}
	c.AfterConnect = nil
	config.AfterConnect = prepare
	config.MaxConns = defaultConnections
	if s.MaxConnections > 0 {
		config.MaxConns = s.MaxConnections
	}
	config.MaxConnIdleTime = idleTime
	return config, nil
}

// encryption returns what libpq's sslmode means.
func (s Settings) encryption() (*tls.Config, error) {
	if s.SSLMode == v1alpha1.SSLDisable {
		return nil, nil
	}
	var roots *x509.CertPool
	if len(s.CA) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(s.CA) {
			return nil, credential.Errorf(v1alpha1.ReasonTLSFailed, "ca.crt of caSecretRef has no certificate")
		}
	}
	c := &tls.Config{ServerName: s.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	switch {
	case s.SSLMode == v1alpha1.SSLVerifyCA, s.SSLMode == v1alpha1.SSLRequire && roots != nil:
		// As libpq does: everything but the name is verified.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, certificate := range state.PeerCertificates[1:] {
				intermediates.AddCert(certificate)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
			return err
		}
	case s.SSLMode == v1alpha1.SSLRequire:
		c.InsecureSkipVerify = true
	}
	return c, nil
}

// prepare checks a new connection and takes the operator's rights.
func prepare(ctx context.Context, conn *pgx.Conn) error {
	if err := prepareServer(ctx, conn); err != nil {
		return err
	}
	var version int
	if err := conn.QueryRow(ctx, "SELECT tenantry.version()").Scan(&version); err != nil {
		return err
	}
	if version < SchemaVersion {
		return credential.Errorf(v1alpha1.ReasonSchemaNotInstalled,
			"the schema tenantry of the database has version %d, and this operator needs %d: run its tenantry.sql there",
			version, SchemaVersion)
	}
	return nil
}

// prepareServer does the same in a database that need not have the schema tenantry.
func prepareServer(ctx context.Context, conn *pgx.Conn) error {
	var version int
	query := "SELECT current_setting('server_version_num')::integer"
	if err := conn.QueryRow(ctx, query).Scan(&version); err != nil {
		return err
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SET ROLE tenantry_operator")
	return err
}

func checkVersion(number int) error {
	if number < oldestServer {
		return credential.Errorf(v1alpha1.ReasonUnsupportedVersion, "the server is PostgreSQL %d, and 16 or newer is needed", number/10000)
	}
	return nil
}

// elsewhere returns a connection to another database of the server. The caller closes it.
func (p *Provider) elsewhere(ctx context.Context, database string) (*pgx.Conn, error) {
	config := p.config.ConnConfig.Copy()
	config.Database = database
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := prepareServer(ctx, conn); err != nil {
		closeConnection(conn)
		return nil, err
	}
	return conn, nil
}

// closeConnection closes a connection even if the work on it was cancelled, so that the server does not keep its session.
func closeConnection(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// address names the server in messages.
func (s Settings) address() string { return fmt.Sprintf("%s port %d", s.Host, s.Port) }
